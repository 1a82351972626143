"""What the ops of ``tinydiff.backends.cuda`` share."""

from __future__ import annotations

import numpy as np

from tinydiff.backends.launch_table import LARGEST_TILE, ceil_div, kernel, split
from tinydiff.ops import contract
from tinydiff.precision import Stored

i32, i64, f32 = np.int32, np.int64, np.float32  # the sizes that kernels declare


class Op(Stored):
    """What the ops share: their launcher, and arrays as kernels need them."""

    def __init__(self, launcher, precision):
        super().__init__(precision)
        self.launcher = launcher
        self.empty = launcher.empty  # of float32

    @property
    def name(self):
        return type(self).__name__

    def launch(self, verb, sizes, *arguments):
        """Run the version in use of this op's kernel; ``sizes`` decide the launch, ``arguments`` are the kernel's."""
        launch = kernel(self.name, verb, self.precision, **sizes)
        self.launcher.launch(*launch, arguments, self.precision)

    def activation(self, shape):
        """A new array for an activation or its gradient."""
        return self.empty(shape, self.real)

    def dense(self, **arrays):
        """Raise ``ValueError`` for an array that kernels cannot read: of another kind, dtype or layout."""
        for name, array in arrays.items():
            if array is None:
                continue
            if not isinstance(array, self.launcher.xp.ndarray):
                kind, given = self.launcher.kind, type(array).__name__
                raise ValueError(f"{self.name}: {name} must be an array of {kind}, got {given}")
            if array.dtype != self.dtype(name):
                raise ValueError(f"{self.name}: {name} must be {self.dtype(name)}, got {array.dtype}")
            if not array.flags.c_contiguous:
                raise ValueError(f"{self.name}: {name} must be C-contiguous")

    def writeable(self, **arrays):
        """Raise ``ValueError`` for an array that kernels cannot write."""
        self.dense(**arrays)
        for name, array in arrays.items():
            if array is not None and not getattr(array.flags, "writeable", True):
                raise ValueError(f"{self.name}: {name} must be writeable")

    def countable(self, **sizes):
        """Raise ``ValueError`` for a size, or what kernels make of sizes, that is too large for their int of 32 bits."""
        for name, size in sizes.items():
            if size >= 2**31:
                raise ValueError(f"{self.name}: {name} must be less than 2^31, got {size}")

    def upstream(self, dy, shape):
        """Check the gradient of an output of that shape."""
        contract.expect(self.name, "dy", dy, shape, self.real)
        self.dense(dy=dy)

    def output(self, name, into, shape):
        """The array given for a parameter's gradient, which must fit, or where that is None a new one."""
        if into is None:
            return self.empty(shape)
        contract.expect(self.name, name, into, shape, np.float32)
        self.writeable(**{name: into})
        return into

    def read_only(self, array):
        """A view that cannot be written, where arrays know such a thing."""
        view = array.view()
        if self.launcher.values_at_hand:
            view.flags.writeable = False
        return view

    def integers(self, array):
        """An integer array as int64 and contiguous, whatever its width and stride."""
        return self.launcher.xp.ascontiguousarray(array, np.int64)

    def sum_rows(self, verb, matrix, rows, arrays, dw, sizes):
        """dw, a product that sums over rows, in parts, and their sum.

        Parts enough for the version with the largest, and so the fewest, tiles; the same for all versions.
        """
        tile = LARGEST_TILE[self.precision]
        parts, stretch = split(rows, ceil_div(matrix[0], tile) * ceil_div(matrix[1], tile))
        into = dw if parts == 1 else self.empty((parts, *dw.shape))
        self.launch(
            verb, dict(rows=matrix[0], columns=matrix[1], parts=parts), *arrays, into, np.int64(stretch), *sizes
        )
        if parts > 1:
            self.add_parts(into, dw)

    def add_parts(self, parts, out):
        """out = the sum of the parts (parts, *out.shape), in their order."""
        self.launch("merge", dict(count=out.size), parts, out, np.int32(len(parts)), np.int64(out.size))
