"""Weights and settings in the formats of other libraries: diffusers' ``UNet2DModel`` and its schedulers, both ways; and
ONNX, out."""
