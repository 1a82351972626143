"""What the kernels of ``csrc/cuda`` would take of memory, found out without any: the ops of the cuda backend run as they
stand, on arrays that have a size and nothing else, and start nothing.

An array's memory is given back when Python lets go of the last view of it, as on a GPU, so what is held at one time is
what a step would hold. How a GPU's memory is shared out is ``Pool``'s to say.
"""

from __future__ import annotations

import bisect
import contextlib
import math
import types

import numpy as np

from tinydiff.backends.launchers import Launcher
from tinydiff.backends.upload import BUFFERS

UNIT = 512  # bytes, to which CuPy's pool rounds


class Pool:
    """A device's memory as CuPy's memory pool shares it out.

    Of the free blocks that are large enough the smallest gives its first part. Where there is none the device is asked
    for a block of just that size. What is given back joins free neighbours that came from the device together with it,
    and nothing goes back to the device: ``held`` only grows.

    Source: cupy/cuda/memory.pyx, ``SingleDeviceMemoryPool``.
    """

    def __init__(self):
        self.held = 0
        self._free = []  # (size, number, block), sorted
        self._count = 0

    def take(self, nbytes):
        """A ``Block`` of at least so many bytes."""
        size = -(-max(nbytes, 1) // UNIT) * UNIT
        place = bisect.bisect_left(self._free, (size,))
        if place == len(self._free):
            self.held += size
            return Block(self, size)
        _, _, block = self._free.pop(place)
        block.number = None
        if block.size > size:
            rest = Block(self, block.size - size, before=block, after=block.after)
            if block.after:
                block.after.before = rest
            block.size, block.after = size, rest
            self._keep(rest)
        return block

    def give(self, block):
        """Take a block back."""
        for first, second in ((block, block.after), (block.before, block)):
            neighbour = second if first is block else first
            if neighbour is None or neighbour.number is None:
                continue
            del self._free[bisect.bisect_left(self._free, (neighbour.size, neighbour.number))]
            first.size += second.size
            first.after = second.after
            if first.after:
                first.after.before = first
            first.number, block = None, first
        self._keep(block)

    def _keep(self, block):
        self._count += 1
        block.number = self._count
        bisect.insort(self._free, (block.size, block.number, block))


class Block:
    """Consecutive bytes, between what is next to it in the same piece of the device's memory. ``number``: of a free one."""

    def __init__(self, pool, size, before=None, after=None):
        self.pool, self.size, self.before, self.after, self.number = pool, size, before, after, None


class Memory:
    """What the views of an array have in common; given back with the last of them."""

    def __init__(self, launcher, nbytes):
        self.launcher, self._nbytes, self._block = launcher, nbytes, launcher.pool.take(nbytes)
        launcher.live += nbytes
        launcher.peak = max(launcher.peak, launcher.live)

    def __del__(self):
        self.launcher.live -= self._nbytes
        self._block.pool.give(self._block)


class Weightless:
    """An array without memory. What models and samplers do with arrays gives another such, of the shape that it has."""

    flags = types.SimpleNamespace(c_contiguous=True, writeable=True)
    __array_ufunc__ = None  # operators whose left side is NumPy's come here

    def __init__(self, shape, dtype, memory):
        self.shape, self.dtype, self._memory = tuple(shape), np.dtype(dtype), memory

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: math.prod(self.shape))
    itemsize = property(lambda self: self.dtype.itemsize)
    nbytes = property(lambda self: self.size * self.itemsize)

    def __len__(self):
        return self.shape[0]

    def _new(self, shape, dtype=None):
        return self._memory.launcher.empty(shape, self.dtype if dtype is None else dtype)

    # views

    def view(self, dtype=None):
        return Weightless(self.shape, self.dtype if dtype is None else dtype, self._memory)

    def reshape(self, *shape):
        return Weightless(_numpy(self.shape).reshape(*shape).shape, self.dtype, self._memory)

    def __getitem__(self, key):
        if isinstance(key, Weightless):
            return self._new((*key.shape, *self.shape[1:]))
        return Weightless(_numpy(self.shape)[key].shape, self.dtype, self._memory)

    def __setitem__(self, key, value):
        pass

    # new arrays

    def astype(self, dtype, copy=True):
        return self if not copy and dtype == self.dtype else self._new(self.shape, dtype)

    def copy(self):
        return self._new(self.shape)

    def clip(self, low, high):
        return self._new(self.shape)

    def repeat(self, count, axis):
        return self._new(_numpy(self.shape).repeat(count, axis).shape)

    def _with(self, other):
        """A new array of this one and another, or a number, element by element."""
        shape = getattr(other, "shape", ())
        return self._new(
            np.broadcast_shapes(self.shape, shape), np.result_type(self.dtype, other.dtype) if shape else None
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _with


def _numpy(shape):
    """An array of NumPy's that has the shape, and memory for one byte."""
    return np.broadcast_to(np.uint8(0), shape)


class WeightlessLauncher(Launcher):
    """Arrays without memory; kernels are not run.

    live, peak  bytes of the arrays that there are, and the most that there were
    pool        where memory comes from; ``taking_from`` another for a while
    """

    kind = "no memory"
    values_at_hand = False
    xp = types.SimpleNamespace(
        ndarray=Weightless, ascontiguousarray=lambda array, dtype: array.astype(dtype, copy=False)
    )

    def __init__(self, has_room_for=lambda nbytes: True):
        self.pool, self.live, self.peak = Pool(), 0, 0
        self.has_room_for = has_room_for

    @contextlib.contextmanager
    def taking_from(self, pool):
        """Within: new arrays lie in this pool."""
        before, self.pool = self.pool, pool
        try:
            yield pool
        finally:
            self.pool = before

    def launch(self, kernel, grid, block, shared_bytes, arguments, precision):
        """Nothing happens."""

    def empty(self, shape, dtype=np.float32):
        shape, dtype = (shape,) if isinstance(shape, int) else tuple(shape), np.dtype(dtype)
        return Weightless(shape, dtype, Memory(self, math.prod(shape) * dtype.itemsize))

    zeros = empty

    def asarray(self, values, dtype=None):
        if isinstance(values, Weightless):
            return values if dtype is None else values.astype(dtype, copy=False)
        return self.empty(np.shape(values), values.dtype if dtype is None else dtype)

    def uploads(self, shape, dtype):
        return [self.empty(shape, dtype) for _ in range(BUFFERS)]

    def capture(self, step_fn, *, frozen_weights=False):
        return step_fn

    def synchronize(self):
        """Nothing is ever outstanding."""

    def describe(self):
        return "kernels that are not run, on arrays without memory"
