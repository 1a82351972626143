"""Recording arrays: they know shape, dtype and where they lie, and have no values."""

from __future__ import annotations

import functools
import linecache
import math
import sys
from pathlib import Path

import numpy as np

PACKAGE = Path(__file__).parents[1]
OWN = (str(PACKAGE / "program"), str(PACKAGE / "backends"), str(PACKAGE / "ops"))


class NotRecorded(TypeError, AttributeError):
    """Something was asked of an array that a program cannot write down. (An ``AttributeError`` too, so that
    ``hasattr`` of what an array does not have is False.)"""


def refuse(what, where=None):
    """Raise ``NotRecorded``, naming the line above the backends that asked for it, or the one given."""
    raise NotRecorded(f"a program cannot {what}: {where or line_above()}")


def line_above():
    """The line above the backends that is at work: its file, number and text."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(OWN):
        frame = frame.f_back
    path, line = Path(frame.f_code.co_filename), frame.f_lineno
    return f"{path.name}, line {line}: {linecache.getline(str(path), line).strip()}"


@functools.cache
def dense_strides(shape, itemsize):
    """The strides, in bytes, of an array without gaps."""
    return tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def is_dense(shape, strides, itemsize):
    """Whether values lie without gaps, the last axis fastest; an axis of one may have any stride."""
    dense = dense_strides(shape, itemsize)
    return strides == dense or all(n == 1 or stride == wanted for n, stride, wanted in zip(shape, strides, dense))


def copied_rows(shape, of, to, itemsize):
    """Of a copy between two arrays of one shape, whose strides are ``of`` and ``to``: how many rows, the bytes of each,
    and from one to the next in the source and in the target. None where it is no copy of rows at equal distances."""
    axes = [axis for axis in zip(shape, of, to) if axis[0] > 1]
    width = itemsize
    while axes and axes[-1][1:] == (width, width):
        width *= axes.pop()[0]
    rows, step_of, step_to = axes.pop() if axes else (1, 0, 0)
    for n, stride_of, stride_to in reversed(axes):
        if (stride_of, stride_to) != (rows * step_of, rows * step_to):
            return None
        rows *= n
    return rows, width, step_of, step_to


class Recorded:
    """An array in a recording. Every operator that code above the backends uses is here, and writes a call; any other,
    and any look at values, raises ``NotRecorded``."""

    def __init__(self, recorder, buffer, offset, shape, strides, dtype, writeable=True):
        self.recorder, self.buffer, self.offset = recorder, buffer, offset
        self.shape, self.strides, self.dtype = tuple(shape), tuple(strides), dtype
        self.writeable = writeable
        self.is_dense = is_dense(self.shape, self.strides, dtype.itemsize)

    @property
    def ndim(self):
        return len(self.shape)

    @functools.cached_property
    def size(self):
        return math.prod(self.shape)

    @property
    def itemsize(self):
        return self.dtype.itemsize

    @property
    def nbytes(self):
        return self.size * self.itemsize

    def __len__(self):
        return self.shape[0]

    def __repr__(self):
        return f"<recorded {self.dtype} {self.shape}>"

    # views

    def _view(self, offset, shape, strides, writeable=True):
        writeable = writeable and self.writeable
        return Recorded(self.recorder, self.buffer, self.offset + offset, shape, strides, self.dtype, writeable)

    def view(self):
        return self._view(0, self.shape, self.strides)

    def read_only(self):
        """A view that cannot be written."""
        return self._view(0, self.shape, self.strides, writeable=False)

    def reshape(self, *shape):
        """The same values in another shape; of an array without gaps alone, so that nothing is copied."""
        shape = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        if shape.count(-1) == 1:
            known = -math.prod(shape)
            shape = tuple(self.size // known if n == -1 else n for n in shape)
        if not self.is_dense or math.prod(shape) != self.size:
            refuse(f"bring an array of {self.shape} with strides {self.strides} into the shape {shape}")
        return self._view(0, shape, dense_strides(shape, self.itemsize))

    def __getitem__(self, key):
        keys = key if isinstance(key, tuple) else (key,)
        if any(not isinstance(each, (int, slice, type(None), type(Ellipsis))) for each in keys):
            refuse("take values from an array by an array (the backend's take does)")
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            taken = sum(each is not None for each in keys) - 1
            keys = (*keys[:at], *[slice(None)] * (self.ndim - taken), *keys[at + 1 :])
        offset, shape, strides, axis = 0, [], [], 0
        for each in keys:
            if each is None:
                shape.append(1), strides.append(0)
                continue
            if axis == self.ndim:
                raise IndexError(f"too many indices for an array of {self.ndim} axes")
            n, stride = self.shape[axis], self.strides[axis]
            axis += 1
            if isinstance(each, slice):
                start, stop, step = each.indices(n)
                count = len(range(start, stop, step))
                offset += start * stride
                shape.append(count), strides.append(step * stride)
            else:
                offset += range(n)[each] * stride
        if 0 in shape:
            refuse("record an empty array")
        return self._view(offset, (*shape, *self.shape[axis:]), (*strides, *self.strides[axis:]))

    # what writes calls

    def __setitem__(self, key, value):
        target = self[key]
        if not self.writeable:
            raise ValueError("assignment destination is read-only")
        self.recorder.assign(target, value)

    def copy(self):
        y = self.recorder.new(self.shape, self.dtype)
        self.recorder.assign(y, self)
        return y

    def astype(self, dtype, copy=True):
        if np.dtype(dtype) == self.dtype:
            return self.copy() if copy else self
        return self.recorder.cast(self, np.dtype(dtype))

    def clip(self, low, high):
        return self.recorder.elementwise("clip", self, low=low, high=high)

    def __add__(self, other):
        return self.recorder.binary("add", self, other)

    __radd__ = __add__  # a sum has the same bits in either order

    def __sub__(self, other):
        return self.recorder.binary("subtract", self, other)

    def __rsub__(self, other):
        return self.recorder.binary("subtract", other, self)

    def __mul__(self, other):
        return self.recorder.binary("multiply", self, other)

    __rmul__ = __mul__

    def __truediv__(self, other):
        return self.recorder.binary("divide", self, other)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        """An operator whose left side is NumPy's comes here."""
        verb = {np.add: "add", np.subtract: "subtract", np.multiply: "multiply", np.divide: "divide"}.get(ufunc)
        if verb is None or method != "__call__" or options:
            refuse(f"record NumPy's {ufunc.__name__}" + (" in place" if "out" in options else ""))
        return self.recorder.binary(verb, *inputs)

    # and what is refused

    def __array_function__(self, function, types, arguments, options):
        refuse(f"record NumPy's {function.__name__}")

    def __getattr__(self, name):
        if name.startswith("__"):  # Python and NumPy ask for many of those, and do without
            raise AttributeError(name)
        refuse(f"record .{name} of an array")


def _refusing(what):
    def method(self, *_, **__):
        refuse(what)

    return method


# Python looks these up on the class
LOOKS = "array float int index bool complex iter contains dlpack eq ne lt le gt ge"
LACKS = "neg abs pow rpow rtruediv floordiv mod matmul rmatmul and or xor invert iadd isub imul itruediv"
for _name in LOOKS.split():
    setattr(Recorded, f"__{_name}__", _refusing("look at an array's values"))
for _name in LACKS.split():
    setattr(Recorded, f"__{_name}__", _refusing(f"record __{_name}__ of an array"))
Recorded.__hash__ = object.__hash__
