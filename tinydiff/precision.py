"""How numbers are stored where a model computes.

In the precision "fp32" every array is float32. In "bf16" activations, their gradients and the weights of ``linear`` and
``conv2d`` are bfloat16, the upper half of a float32, which takes half the memory and has 8 bits of precision; what
stands in ``FLOAT32`` is float32 all the same, and arithmetic is. Parameters, their gradients, statistics, sums, the
optimizer and the loss stay float32; matrices and filters are read from a rounded copy of the parameters, and what goes
into a model and comes out of it is float32. It needs the package ml_dtypes.
"""

from __future__ import annotations

import numpy as np

# the ops that have both precisions, and their arguments and results that are float32 in both
FLOAT32 = {
    "linear": ("b", "dw", "db"),
    "conv2d": ("b", "dw", "db"),
    "group_norm": ("gamma", "beta", "mean", "rstd", "dgamma", "dbeta"),
    "layer_norm": ("gamma", "beta", "mean", "rstd", "dgamma", "dbeta"),
    "silu": (),
    "gelu": (),
    "geglu": (),
    "dropout": (),
    "attention": ("lse",),
    "upsample2x": (),
    "concat": (),
    "class_embedding": ("table", "dtable"),
    "timestep_embedding": ("step",),
}


def bfloat16():
    """The NumPy dtype of bfloat16, which comes with ml_dtypes. Raises ``ValueError`` where that is not installed."""
    try:
        import ml_dtypes
    except ImportError:
        raise ValueError("precision 'bf16' needs ml_dtypes: pip install ml_dtypes") from None
    return np.dtype(ml_dtypes.bfloat16)


def has_bfloat16():
    """Whether the precision "bf16" can be had here."""
    try:
        bfloat16()
    except ValueError:
        return False
    return True


class Stored:
    """What an op's arrays are: ``real`` is the dtype of those that depend on the precision."""

    name = None  # of the op

    def __init__(self, precision):
        self.precision = precision if self.name in FLOAT32 else "fp32"
        self.real = bfloat16() if self.precision == "bf16" else np.dtype(np.float32)

    def dtype(self, name):
        """Of this argument or result."""
        return np.dtype(np.float32) if name in FLOAT32.get(self.name, ()) else self.real
