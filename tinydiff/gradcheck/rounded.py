"""The reference as a backend of precision "bf16": every op in float32, and what it stores in bfloat16 rounded.

Kernels in bfloat16 round at the same places, so what they make of an op, a block or a whole model has this for a
yardstick.
"""

from __future__ import annotations

import inspect

import numpy as np

from tinydiff.backends.numpy import NumpyBackend
from tinydiff.gradcheck.adjoint import as_tuple
from tinydiff.ops import OPS
from tinydiff.precision import FLOAT32, Stored, bfloat16


class RoundedReference(NumpyBackend):
    """The numpy backend, whose ops of a model store bfloat16. Raises ``ValueError`` where ml_dtypes is not installed."""

    name, precision = "rounded reference", "bf16"

    def __init__(self):
        super().__init__()
        self.activations = bfloat16()
        self._offer({name: Rounded(name) for name in FLOAT32})


class Rounded(Stored):
    """An op of the reference between roundings."""

    def __init__(self, name):
        self.name, self.reference = name, OPS[name]
        self.gradients = [f"d{name}" for name in inspect.signature(self.reference.forward).parameters]
        super().__init__("bf16")

    def forward(self, *inputs, **options):
        made = self.reference.forward(*map(widen, inputs), **options)
        if not isinstance(made, tuple):
            return made.astype(self.real)
        y, cache = made
        y = y.astype(self.real)
        return y, cache._replace(y=y) if "y" in cache._fields else cache

    def backward(self, dy, cache, *add, **into):
        cache = cache._replace(**{name: widen(value) for name, value in cache._asdict().items()})
        made = self.reference.backward(widen(dy), cache, *map(widen, add), **into)
        gradients = tuple(
            x if x is None else x.astype(self.dtype(name), copy=False)
            for name, x in zip(self.gradients, as_tuple(made))
        )
        return gradients if isinstance(made, tuple) else gradients[0]


def widen(x):
    """An array in bfloat16 as float32, which holds all of its numbers; anything else as it is."""
    return x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype == bfloat16() else x
