"""tinydiff: a diffusion engine without autograd, every gradient derived by hand.

A map, in an order to read it in; lower folders never import higher ones, and tests/test_homes.py holds them to it.

    tinydiff/ops/        the operations: derivation, forward, backward, in NumPy (the truth). silu and linear first,
                         then group_norm, attention, conv2d; philox: random numbers without a generator's state, which
                         is why runs resume exactly
    csrc/cpu/            the same operations as C++ kernels, one file each; parallel.cpp and memory.cpp serve all
    csrc/cuda/           and as CUDA kernels, float32 and bfloat16 on tensor cores, simplest versions first
    csrc/emulator/       the CUDA execution model on a CPU, which runs csrc/cuda unchanged, without a GPU
    tinydiff/backends/   the operations by name: numpy, cpu (C++), cuda (CuPy), emulator
    tinydiff/precision.py  what compiled backends store in bfloat16, where they are asked to, and what stays float32
    tinydiff/model/      flat parameters, layers, blocks, U-Net, MLP; a backward is its forward read from the last
                         line to the first. transformer_block: how a U-Net looks at a text
    tinydiff/text/       frozen encoders of text, CLIP's and BERT, and their tokenizers
    tinydiff/noise/      schedules: how much signal is left; predictions: what to predict; corruption, guidance
    tinydiff/samplers/   DDPM, DDIM, Heun, DPM-Solver++ 2M, and Euler and Heun along straight paths: one signature;
                         tests/samplers measures their orders on data whose exact denoiser is known
    tinydiff/data/       MNIST, CIFAR-10; image folders, decoded once into a file that is mapped into memory; drawn
                         digits and scenes of them, which need no files, and captions of scenes; points2d, whose
                         density, score and best denoiser are known at every noise level
    tinydiff/ranks/      processes that train one run together, and the order in which they add
    tinydiff/train/      training: a training step, start to end, in ``one_step``; trainer, vae_trainer, distiller: what it
                         computes, of a student what its teacher says (noise/distillation.py: why);
                         latents, texts: what an autoencoder, or an encoder of captions, makes of a data set; runs,
                         checkpoints, presets
    tinydiff/metrics/    MMD, FID, classifiers of digits and of CIFAR-10, a reader of scenes, memorisation: what quality
                         is, and why a number needs a floor
    tinydiff/gradcheck/  every gradient against central differences; derivations worked by hand
    tinydiff/interop/    weights and settings of diffusers, both ways, and folders of Stable Diffusion
    tinydiff/program/    a function of arrays written down: one program for the CPU, browsers and ONNX
    tinydiff/pages/      the site, made; its HTML and modules are in tinydiff/site/, where engine.js runs programs
    tinydiff/plot.py     plots with Pillow alone
    tinydiff/cli.py      tinydiff train | train-vae | distill | sample | evaluate | gradcheck | program | site | export |
                         import | info
    tinydiff/commands/   those of them that are nobody else's
    examples/            the numbered warm-ups, and training on MNIST
    benchmarks/          what is measured, and how
"""

__version__ = "0.1.0"
