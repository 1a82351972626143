"""The numpy backend: the references in ``tinydiff.ops``, run as they stand."""

from __future__ import annotations

import ctypes
import sys

import numpy as np

from tinydiff.backends import host_memory
from tinydiff.backends.by_name import ByName
from tinydiff.backends.recordable import Op, Recordable
from tinydiff.backends.upload import NoUploads
from tinydiff.ops import OPS


class NumpyBackend(ByName, Recordable):
    """One attribute per op (``backend.conv2d.forward(...)``) and the few array services a model needs. What is asked of
    it can be recorded."""

    name = "numpy"
    precision = "fp32"
    activations = None  # the dtype of activations, where it is not that of the parameters
    kernels = f"NumPy {np.__version__}"  # what bits depend on besides

    def __init__(self):
        super().__init__()
        keep_freed_memory()
        self._offer(OPS)

    def _offer(self, named_ops):
        for name, op in named_ops.items():
            setattr(self, name, Op(self, name, op))

    def asarray(self, values, dtype=None):
        """``values`` as a contiguous array of this backend, copied only if it is not one yet."""
        return self.recorder.asarray(values, dtype) if self.recorder else np.ascontiguousarray(values, dtype)

    def to_numpy(self, array):
        """A NumPy array of the same values; may share memory."""
        return self.recorder.to_numpy(array) if self.recorder else np.asarray(array)

    def empty(self, shape, dtype=np.float32):
        return self.recorder.empty(shape, dtype) if self.recorder else np.empty(shape, dtype)

    def zeros(self, shape, dtype=np.float32):
        return self.recorder.zeros(shape, dtype) if self.recorder else np.zeros(shape, dtype)

    def take(self, table, index):
        """table (T, ...), index (N,) integers in [0, T) -> table[index] (N, ...)."""
        return self.recorder.take(table, index) if self.recorder else table[index]

    def repeat(self, x, count):
        """x (1, ...) -> (count, ...), the same again and again."""
        return self.recorder.repeat(x, count) if self.recorder else x.repeat(count, axis=0)

    def has_room_for(self, nbytes):
        """Whether arrays of so many bytes may be kept beside all that is computed: here they lie where they are."""
        return True

    def free_memory(self):
        """Bytes that can still be taken where its arrays lie; None where that is not known."""
        return host_memory.available()

    def uploads(self, shape, dtype):
        """A way for arrays that another thread makes, as ``backends.upload.Uploads``."""
        return NoUploads(shape, dtype)

    def synchronize(self):
        """Wait until all work is done. NumPy has none outstanding."""

    def capture(self, step_fn, *, frozen_weights=False):
        """A function that does what ``step_fn`` does: here the function itself, elsewhere a recording of it, as a CUDA
        graph or a program.

        For the recording's sake, what changes from call to call must lie in arrays, and step_fn takes no arguments,
        never looks at values and makes no array from the host's; what it returns is overwritten by the next call.
        ``frozen_weights`` promises that the filters of convolutions keep their values from the first call on, so that
        what is made of them alone need be made only once.
        """
        return step_fn

    def describe(self):
        """One line for ``tinydiff info``."""
        return f"NumPy {np.__version__}, {_blas()}"


def keep_freed_memory():
    """Ask glibc to keep the memory of freed arrays for the next ones, in this whole process.

    By default it returns large blocks to the system and takes them again, zeroed page by page, at every op. A
    training step frees and takes the same arrays over and over: keeping them makes it about a tenth faster and
    its peak memory no larger. Where the C library is another one, nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from malloc.h
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_THRESHOLD, 2**30)


def _blas():
    config = np.show_config(mode="dicts")
    blas = config.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')} for matrix products".replace("  ", " ")
