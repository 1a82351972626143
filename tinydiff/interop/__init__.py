"""Weights and settings in the formats of other libraries: diffusers' ``UNet2DModel``, its schedulers and
``AutoencoderKL``, and Stable Diffusion, both ways; and ONNX, out.

Outputs and the gradients of every parameter agree with diffusers' to round-off, in float32 and in float64; the tests
hold them to it where both libraries are installed. Where our U-Net lacks a setting, the import ends in one line with
the setting's name and value, such as "freq_shift must be 0, got 1".

A U-Net that is told where it is (``positions``, as in the laptop preset) is exported as a network with more channels in
than out: diffusers must be given the waves in the folder's positions.safetensors beside the image,

    model(torch.cat([x, waves.expand(len(x), -1, -1, -1)], 1), step, labels)

and everything else is as it is. What a folder does not say is assumed, and printed: without a scheduler_config.json the
schedule is diffusers' default (linear, 1000 steps, eps; ``--schedule``, ``--noise-steps`` and ``--prediction`` say
otherwise), and the last row of a class embedding stands for "no class" (``--null-label none``: there is no such row,
and guidance has no meaning). A pipeline's ``unet`` and ``scheduler`` are read as well, and its ``vae``, in whose latents
the U-Net works; so is a run in latents written, and the run of an autoencoder as the ``AutoencoderKL`` alone. The
optimizer's state is in no such folder, so training that goes on from one starts with a fresh optimizer at step 0, in
the way that is asked for then: batch, learning rate and the like.

A folder as ``StableDiffusionPipeline.save_pretrained`` writes it, of version 1.x or 2.x, has a ``text_encoder`` and a
``tokenizer`` too, and draws as it stands, without being imported:

    tinydiff sample DIR --prompt "a cat" --size 512 --guidance 7.5 --steps 50 --sampler ddim --spacing leading

which takes the steps that diffusers' ``DDIMScheduler`` takes there; from the same latents the images are the same to
round-off. "No text", from which guidance leads away, is the empty one, as there. Which sampler the folder names is not
looked at, only its noise. Weights may be in float32, float16 or bfloat16, and in several files; a pickle (.bin, .ckpt) is
never opened. A run with CLIP's texts in latents is written as such a folder; another with texts, with its parts in the
same places, which no pipeline of diffusers' puts together.
"""
