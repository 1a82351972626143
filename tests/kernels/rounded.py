"""The reference as a backend of precision "bf16": every op in float32, what it stores as activation rounded.

Kernels in bfloat16 round at the same places, so a whole model on this one is their yardstick.
"""

import inspect

import numpy as np

from tests.checks import as_tuple
from tinydiff.backends.numpy import NumpyBackend
from tinydiff.precision import FLOAT32, Stored, bfloat16
from tinydiff.ops import OPS


class RoundedReference(NumpyBackend):
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
        made = self.reference.backward(widen(dy), cache, *map(widen, add), **{k: widen(v) for k, v in into.items()})
        gradients = [
            x if x is None else x.astype(self.dtype(name), copy=False)
            for name, x in zip(self.gradients, as_tuple(made))
        ]
        return tuple(gradients) if isinstance(made, tuple) else gradients[0]


def widen(x):
    return x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype.kind == "V" else x
