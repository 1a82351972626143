"""tinydiff: a diffusion engine without autograd, every gradient derived by hand."""

__version__ = "0.1.0"
