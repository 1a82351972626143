"""The numpy backend: the references in ``tinydiff.ops``, run as they stand."""

from __future__ import annotations

import ctypes
import sys

import numpy as np

from tinydiff.backends.by_name import ByName
from tinydiff.ops import OPS


class NumpyBackend(ByName):
    """One attribute per op (``backend.conv2d.forward(...)``) and the few array services a model needs."""

    name = "numpy"
    precision = "fp32"
    activations = None  # the dtype of activations, where it is not that of the parameters

    def __init__(self):
        keep_freed_memory()
        for op, module in OPS.items():
            setattr(self, op, module)

    def asarray(self, values, dtype=None):
        """``values`` as a contiguous array of this backend, copied only if it is not one yet."""
        return np.ascontiguousarray(values, dtype)

    def to_numpy(self, array):
        """A NumPy array of the same values; may share memory."""
        return np.asarray(array)

    def empty(self, shape, dtype=np.float32):
        return np.empty(shape, dtype)

    def zeros(self, shape, dtype=np.float32):
        return np.zeros(shape, dtype)

    def synchronize(self):
        """Wait until all work is done. NumPy has none outstanding."""

    def capture(self, step_fn):
        """A function that does what ``step_fn`` does: here the function itself, on a GPU a recording of it.

        For the sake of the GPU, what changes from call to call must lie in arrays, and step_fn takes no arguments,
        never looks at values and makes no array from the host's; what it returns is overwritten by the next call.
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
