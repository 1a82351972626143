"""Backends: objects with one attribute per op, interchangeable because they obey one contract."""

from __future__ import annotations

from tinydiff.backends.numpy import NumpyBackend

NAMES = ("auto", "numpy", "cpu", "cuda", "emulator")

# A backend that is known but not there: what is missing, in words that end "backend X needs ...".
_MISSING = {
    "cpu": "the compiled C++ kernels, which this version does not have yet",
    "cuda": "the CUDA kernels, which this version does not have yet",
    "emulator": "the CUDA kernels and their emulator, which this version does not have yet",
}


def get(name="auto"):
    """The backend of that name; ``"auto"`` takes the fastest that works here (its ``name`` says which).

    Raises ``ValueError`` for an unknown name and for a backend that cannot run here, saying what is missing.
    """
    if name in ("auto", "numpy"):
        return NumpyBackend()
    if name in _MISSING:
        raise ValueError(f"backend {name!r} needs {_MISSING[name]}; use 'numpy' or 'auto'")
    raise ValueError(f"backend must be one of {', '.join(NAMES)}, got {name!r}")


def describe():
    """(name, state) of every backend, for ``tinydiff info``."""
    states = [("numpy", f"ready: {NumpyBackend().describe()}")]
    return states + [(name, f"not available: needs {what}") for name, what in _MISSING.items()]
