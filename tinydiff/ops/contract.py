"""What an op may be given, said once and checked before any arithmetic runs.

The shapes of an op are written the way its docstring writes them, as letters::

    sizes = contract.bind("conv2d", x=(x, "N H W C"), w=(w, "R S C O"), b=(b, "O"))

A letter means one size wherever it stands, so the weight above must have as many input channels as
``x``. Only ``shape`` and ``dtype`` are looked at, never values but by ``expect_within``, so every
backend calls the same checks on its own arrays.
"""

from __future__ import annotations

import numpy as np


def bind(op: str, **arguments) -> dict[str, int]:
    """Match arrays against shapes written in letters and return the size of each letter.

    ``arguments`` maps a name to ``(array, "N H W C")``. A leading ``...`` takes any number of axes, a digit
    is that size exactly, and an argument whose array is ``None`` is skipped. All arrays must share one
    floating dtype; but beside bfloat16, parameters may be float32, and which ones must be is the backend's to say.

    Raises ``ValueError`` that names the op, the argument, the shape expected and the shape given.
    """
    sizes: dict[str, int] = {}
    source: dict[str, str] = {}
    first = None
    for name, (array, letters) in arguments.items():
        if array is None:
            continue
        expect_array(op, name, array)
        if first is None:
            first = name, array.dtype
            if not _is_floating(array):
                raise ValueError(f"{op}: {name} must be a floating-point array, got {array.dtype}")
        elif array.dtype != first[1] and not _mixed(first[1], array.dtype):
            raise ValueError(f"{op}: {name} must be {first[1]} like {first[0]}, got {array.dtype}")
        axes = letters.split()
        shape = tuple(array.shape)
        if axes[0] == "...":
            axes = axes[1:]
            fits = len(shape) >= len(axes)
            tail = shape[len(shape) - len(axes) :] if fits else ()
        else:
            fits = len(shape) == len(axes)
            tail = shape
        if not fits or any(_known(axis, sizes) not in (None, size) for axis, size in zip(axes, tail)):
            raise ValueError(
                f"{op}: {name} must have shape ({', '.join(letters.split())})"
                f"{_because(axes, sizes, source)}, got {shape}"
            )
        if 0 in shape:
            raise ValueError(f"{op}: {name} must not be empty, got shape {shape}")
        for axis, size in zip(axes, tail):
            if not axis.isdigit() and axis not in sizes:
                sizes[axis], source[axis] = size, name
    return sizes


def expect(op: str, name: str, array, shape, dtype) -> None:
    """Raise ``ValueError`` unless ``array`` has exactly this shape and dtype (as a gradient must)."""
    expect_array(op, name, array)
    if tuple(array.shape) != tuple(shape):
        raise ValueError(f"{op}: {name} must have shape {tuple(shape)}, got {tuple(array.shape)}")
    if array.dtype != dtype:
        raise ValueError(f"{op}: {name} must be {np.dtype(dtype)}, got {array.dtype}")


def expect_integers(op: str, name: str, array, letters: str = "N") -> None:
    """Raise ``ValueError`` unless ``array`` is a non-empty one-dimensional integer array."""
    expect_array(op, name, array)
    if array.dtype.kind not in "iu" or array.ndim != 1 or array.shape[0] == 0:
        raise ValueError(
            f"{op}: {name} must be a non-empty integer array of shape ({letters},), "
            f"got {array.dtype} {tuple(array.shape)}"
        )


def expect_within(op: str, name: str, values, count) -> None:
    """Raise ``ValueError`` unless all values of an integer array lie in [0, count)."""
    if values.min() < 0 or values.max() >= count:
        raise ValueError(f"{op}: {name} must lie in [0, {count}), got {values.min()} .. {values.max()}")


def expect_errors(op: str, prediction, target, weight) -> None:
    """Raise ``ValueError`` unless these are what a loss takes: two arrays (N, ...) alike, and weight (N,) or None."""
    sizes = bind(op, prediction=(prediction, "..."), weight=(weight, "N"))
    expect(op, "target", target, prediction.shape, prediction.dtype)
    if weight is not None and sizes["N"] != prediction.shape[0]:
        raise ValueError(f"{op}: weight must have shape ({prediction.shape[0]},), got {weight.shape}")


def place(op: str, name: str, value, out):
    """``value``, or where ``out`` is given ``out`` with the value written into it."""
    if out is None:
        return value
    expect(op, name, out, value.shape, value.dtype)
    out[...] = value
    return out


def expect_array(op: str, name: str, array) -> None:
    """Raise ``ValueError`` unless it has a shape and a dtype."""
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        raise ValueError(f"{op}: {name} must be an array, got {type(array).__name__}")


def _is_floating(array):
    """Whether it holds floats, or numbers that stand for them (``gradcheck.trace``)."""
    kind, name = np.dtype(array.dtype).kind, str(array.dtype)
    return kind == "f" or name == "bfloat16" or getattr(array, "stands_for_floats", False)


def _mixed(*dtypes):
    """Whether these are bfloat16 (of the package ml_dtypes, which need not be there) and float32."""
    return {str(dtype) for dtype in dtypes} == {"bfloat16", "float32"}


def _known(axis, sizes):
    return int(axis) if axis.isdigit() else sizes.get(axis)


def _because(axes, sizes, source):
    known = [f"{axis} = {sizes[axis]} from {source[axis]}" for axis in dict.fromkeys(axes) if axis in sizes]
    return f" with {', '.join(known)}" if known else ""
