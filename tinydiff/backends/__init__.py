"""Backends: objects with one attribute per op, interchangeable because they obey one contract."""

from __future__ import annotations

from tinydiff.backends import launchers
from tinydiff.backends.cuda import CudaBackend
from tinydiff.backends.kernel_names import PRECISIONS
from tinydiff.backends.numpy import NumpyBackend
from tinydiff.precision import bfloat16

try:
    from tinydiff.backends.cpu import CpuBackend
except ModuleNotFoundError:  # installed without a compiler
    CpuBackend = None

NAMES = ("auto", "numpy", "cpu", "cuda", "emulator")


def get(name="auto", precision="fp32"):
    """The backend of that name; ``"auto"`` takes the fastest that works here (its ``name`` says which).

    ``precision`` says how activations and the weights of matrices are stored where a model computes: "fp32", or "bf16"
    (bfloat16; parameters, their gradients, statistics and losses stay float32), which all have but numpy. "auto" is
    "bf16" for the cpu backend where the machine multiplies bfloat16 faster, elsewhere "fp32"; the backend's
    ``precision`` says which.

    Raises ``ValueError`` for an unknown name or precision and for a backend that cannot run here, saying what is
    missing.
    """
    if name not in NAMES:
        raise ValueError(f"backend must be one of {', '.join(NAMES)}, got {name!r}")
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f"precision must be one of auto, {', '.join(PRECISIONS)}, got {precision!r}")
    if missing := _missing(name):
        raise ValueError(f"backend {name!r} needs {missing}; use 'numpy' or 'auto'")
    if name in ("cuda", "emulator"):
        return CudaBackend(name, "fp32" if precision == "auto" else precision)
    if name != "numpy" and CpuBackend is not None:
        return CpuBackend(precision)
    if precision == "bf16":
        which = "backend 'numpy'" if name == "numpy" else f"backend {name!r} is 'numpy' here, which"
        raise ValueError(f"{which} has no precision 'bf16'; 'cpu', 'cuda' and 'emulator' have")
    return NumpyBackend()


def works(name):
    """Whether the backend of that name can run here."""
    return _missing(name) is None


def describe():
    """(name, state) of every backend, for ``tinydiff info``."""
    missing = {name: _missing(name) for name in NAMES[1:]}
    return [
        (name, f"not available: needs {what}" if what else f"ready: {get(name).describe()}; {_precisions(name)}")
        for name, what in missing.items()
    ]


def _precisions(name):
    """Those of a backend that is here, and why it lacks one that it could have."""
    if name == "numpy":
        return "precision fp32"
    try:
        bfloat16()
    except ValueError as error:
        return f"precision fp32; {error}"
    return f"precisions {' and '.join(PRECISIONS)}"


def _missing(name):
    """What the backend needs and does not find, in words that end "backend X needs ..."; None if nothing."""
    if name in ("cuda", "emulator"):
        return launchers.what_is_missing(name)
    if name == "cpu" and CpuBackend is None:
        return (
            "its C++ kernels, which could not be compiled when tinydiff was installed: install GCC or Clang (Debian "
            "and Ubuntu: apt install g++ python3-dev; macOS: xcode-select --install), then install tinydiff again"
        )
    return None
