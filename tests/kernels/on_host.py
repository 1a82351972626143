"""The kernels of a GPU for tests that hold NumPy arrays."""

import numpy as np

from tinydiff.gradcheck.adjoint import as_tuple
from tinydiff.ops import OPS


class OnHost:
    """A backend whose ops take and return NumPy arrays, whatever lies between."""

    def __init__(self, backend):
        self.name, self.precision, self.activations = backend.name, backend.precision, backend.activations
        for op in OPS:
            setattr(self, op, Op(backend, getattr(backend, op)))

    def asarray(self, values, dtype=None):
        return np.asarray(values, dtype)

    def to_numpy(self, array):
        return array

    def take(self, table, index):
        return table[index]

    def repeat(self, x, count):
        return x.repeat(count, axis=0)


class Op:
    """Arrays go with all that lies around them in memory, and so keep their alignment, and come back with it: what a
    kernel writes where it should not is seen."""

    def __init__(self, backend, op):
        self.backend, self.op, self.dtype = backend, op, op.dtype
        if hasattr(op, "backward"):
            self.backward = self._backward

    def forward(self, *inputs, **options):
        made = self._call(self.op.forward, inputs, options)
        if isinstance(made, tuple) and hasattr(made[-1], "_fields"):
            return self._fetch(made[0]), made[1]
        return tuple(map(self._fetch, made)) if isinstance(made, tuple) else self._fetch(made)

    def _backward(self, dy, cache, **options):
        made = self._call(self.op.backward, (dy, cache), options)
        fetched = tuple(map(self._fetch, as_tuple(made)))
        return fetched if isinstance(made, tuple) else fetched[0]

    def _call(self, function, inputs, options):
        sent = []
        inputs = [self._send(each, sent) for each in inputs]
        made = function(*inputs, **{name: self._send(each, sent) for name, each in options.items()})
        for host, device in sent:
            if host.flags.writeable:
                host[...] = self._fetch(device)
        return made

    def _send(self, array, sent):
        if not isinstance(array, np.ndarray):
            return array
        whole = array.base
        if not isinstance(whole, np.ndarray) or whole.dtype != array.dtype or not whole.flags.c_contiguous:
            whole = array
        device = self.backend.asarray(whole)
        sent.append((whole, device))
        if whole is array:
            return device
        first = (array.ctypes.data - whole.ctypes.data) // array.itemsize
        return device.reshape(-1)[first : first + array.size].reshape(array.shape)

    def _fetch(self, array):
        return None if array is None else self.backend.to_numpy(array)
