"""The numpy backend: the references in ``tinydiff.ops``, run as they stand."""

from __future__ import annotations

import numpy as np

from tinydiff.ops import OPS


class NumpyBackend:
    """One attribute per op (``backend.conv2d.forward(...)``) and the few array services a model needs."""

    name = "numpy"

    def __init__(self):
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
        """A function that repeats ``step_fn``: here the function itself, on a GPU a recorded graph."""
        return step_fn

    def describe(self):
        """One line for ``tinydiff info``."""
        return f"NumPy {np.__version__}, {_blas()}"


def _blas():
    config = np.show_config(mode="dicts")
    blas = config.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')} for matrix products".replace("  ", " ")
