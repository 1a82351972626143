"""Weights and settings in the formats of other libraries: diffusers' ``UNet2DModel`` and its schedulers, and its
``AutoencoderKL``, both ways; and ONNX, out.

Outputs and the gradients of every parameter agree with diffusers' to round-off, in float32 and in float64; the tests
hold them to it where both libraries are installed. Where our U-Net lacks a setting, the import ends in one line with
the setting's name and value, such as "freq_shift must be 0, got 1".

A U-Net that is told where it is (``positions``, as in the laptop preset) is exported as a network with more channels in
than out: diffusers must be given the waves in the folder's positions.safetensors beside the image,

    model(torch.cat([x, waves.expand(len(x), -1, -1, -1)], 1), step, labels)

and everything else is as it is. What a folder does not say is assumed, and printed: without a scheduler_config.json the
schedule is diffusers' default (linear, 1000 steps, eps; ``--schedule``, ``--noise-steps`` and ``--prediction`` say
otherwise), and the last row of a class embedding stands for "no class" (``--null-label none``: there is no such row,
and guidance has no meaning). A pipeline's ``unet`` and ``scheduler`` are read as well. The optimizer's state is in no
such folder, so training that goes on from one starts with a fresh optimizer at step 0.
"""
