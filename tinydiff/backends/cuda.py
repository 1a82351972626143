"""The cuda and the emulator backend: kernels of ``csrc/cuda``, float32, launched on a GPU or on their emulator.

An op here is what its reference in ``tinydiff.ops`` is, with the arithmetic elsewhere: the same arguments, the same
errors, the same gradients to within round-off. Derivations are not repeated. Results have the same bits on every
run. What would take looking into an array's values is checked where that costs nothing (in the emulator).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinydiff import ops
from tinydiff.backends import launch_table, launchers
from tinydiff.ops import contract

use_version = launch_table.use_version
i32, i64, f32 = np.int32, np.int64, np.float32  # the sizes that kernels declare


class CudaBackend:
    """One attribute per op and the array services a model needs, on the arrays of its launcher."""

    def __init__(self, name, launcher=None):
        self.name = name
        self.launcher = launcher or launchers.get(name)
        self.synchronize = self.launcher.synchronize
        self.empty = self.launcher.empty
        self.describe = self.launcher.describe
        for op in OPS:
            setattr(self, op.__name__, op(self.launcher))

    def asarray(self, values, dtype=None):
        """``values`` as a contiguous array of this backend, copied only if it is not one yet."""
        return self.launcher.xp.ascontiguousarray(self.launcher.xp.asarray(values), dtype)

    def to_numpy(self, array):
        """A NumPy array of the same values; in the emulator it may share memory."""
        return array.get() if hasattr(array, "get") else np.asarray(array)

    def zeros(self, shape, dtype=np.float32):
        return self.launcher.xp.zeros(shape, dtype)

    def capture(self, step_fn):
        """A function that repeats ``step_fn``."""
        return step_fn


class Op:
    """What the ops share: their launcher, and arrays as kernels need them."""

    def __init__(self, launcher):
        self.launcher = launcher
        self.empty = launcher.empty

    @property
    def name(self):
        return type(self).__name__

    def launch(self, verb, sizes, *arguments):
        """Run the version in use of this op's kernel; ``sizes`` decide the launch, ``arguments`` are the kernel's."""
        self.launcher.launch(*launch_table.kernel(self.name, verb, **sizes), arguments)

    def dense(self, **arrays):
        """Raise ``ValueError`` for an array that kernels cannot read: of another kind, dtype or layout."""
        for name, array in arrays.items():
            if array is None:
                continue
            if not isinstance(array, self.launcher.xp.ndarray):
                kind, given = self.launcher.kind, type(array).__name__
                raise ValueError(f"{self.name}: {name} must be an array of {kind}, got {given}")
            if array.dtype != np.float32:
                raise ValueError(f"{self.name}: {name} must be float32, got {array.dtype}")
            if not array.flags.c_contiguous:
                raise ValueError(f"{self.name}: {name} must be C-contiguous")

    def writeable(self, **arrays):
        """Raise ``ValueError`` for an array that kernels cannot write."""
        self.dense(**arrays)
        for name, array in arrays.items():
            if not getattr(array.flags, "writeable", True):
                raise ValueError(f"{self.name}: {name} must be writeable")

    def upstream(self, dy, shape):
        """Check the gradient of an output of that shape."""
        contract.expect(self.name, "dy", dy, shape, np.float32)
        self.dense(dy=dy)

    def output(self, name, into, shape):
        """The array given for an output, which must fit, or where that is None a new one."""
        if into is None:
            return self.empty(shape)
        contract.expect(self.name, name, into, shape, np.float32)
        self.writeable(**{name: into})
        return into

    def integers(self, array):
        """An integer array as int64 and contiguous, whatever its width and stride."""
        return self.launcher.xp.ascontiguousarray(array, np.int64)


class silu(Op):
    Cache = ops.silu.Cache

    def forward(self, x):
        ops.silu.check(x)
        self.dense(x=x)
        y = self.empty(x.shape)
        self.launch("forward", dict(count=x.size), x, y, i64(x.size))
        return y, self.Cache(x)

    def backward(self, dy, cache):
        (x,) = cache
        self.upstream(dy, x.shape)
        dx = self.empty(x.shape)
        self.launch("backward", dict(count=x.size), dy, x, dx, i64(x.size))
        return dx


OPS = (silu,)
