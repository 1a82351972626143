"""The reference as a backend of precision "bf16": every op in float32, what it stores as activation rounded.

Kernels in bfloat16 round at the same places, so a whole model on this one is their yardstick.
"""

import inspect

import numpy as np

from tests.checks import as_tuple
from tinydiff.backends import cuda
from tinydiff.backends.launchers import bfloat16
from tinydiff.backends.numpy import NumpyBackend
from tinydiff.ops import OPS


class RoundedReference(NumpyBackend):
    name, precision = "rounded reference", "bf16"

    def __init__(self):
        super().__init__()
        self.activations = bfloat16()
        for kernel in cuda.OPS:
            setattr(self, kernel.__name__, OPS[kernel.__name__])
            if not issubclass(kernel, cuda.Float32):
                setattr(self, kernel.__name__, Rounded(kernel, self.activations))


class Rounded:
    """An op of the reference between roundings."""

    def __init__(self, kernel, bfloat16):
        self.reference = OPS[kernel.__name__]
        self.bfloat16 = bfloat16
        self.gradients = [f"d{name}" for name in inspect.signature(self.reference.forward).parameters]
        self.float32 = kernel.float32

    def forward(self, *inputs, **options):
        made = self.reference.forward(*map(widen, inputs), **options)
        if not isinstance(made, tuple):
            return made.astype(self.bfloat16)
        y, cache = made
        y = y.astype(self.bfloat16)
        return y, cache._replace(y=y) if "y" in cache._fields else cache

    def backward(self, dy, cache, *add, **into):
        cache = cache._replace(**{name: widen(value) for name, value in cache._asdict().items()})
        made = self.reference.backward(widen(dy), cache, *map(widen, add), **{k: widen(v) for k, v in into.items()})
        gradients = [
            x if x is None or name in self.float32 else x.astype(self.bfloat16)
            for name, x in zip(self.gradients, as_tuple(made))
        ]
        return tuple(gradients) if isinstance(made, tuple) else gradients[0]


def widen(x):
    return x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype.kind == "V" else x
