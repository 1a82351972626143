"""Files of named tensors (safetensors), read as float32: bfloat16 too, which NumPy lacks, without another package; all at
once, or each when it is asked for; and written in any type."""

from __future__ import annotations

import json
import math
import weakref
from typing import NamedTuple

import numpy as np
import safetensors

# the types that are read, and as what: bfloat16 is the upper half of a float32
KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class Damaged(ValueError):
    """A file that is not as it was written."""


class Tensors(NamedTuple):
    """A file's content."""

    named: dict[str, np.ndarray]  # float32; or a ``Lazy`` each
    metadata: dict[str, str]
    kinds: set[str]  # the types in the file


class Lazy:
    """An array that is made when it is asked for, ``np.asarray(lazy)``, each time anew; ``shape`` is known before."""

    def __init__(self, shape, make):
        self.shape, self._make = tuple(shape), make

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._make(), dtype)

    def then(self, turn):
        """What a function that only moves an array's elements makes of it, as lazy."""
        shape = turn(np.broadcast_to(np.float32(0), self.shape)).shape
        return Lazy(shape, lambda: turn(np.asarray(self)))


def read(path, passed_over=lambda name: False):
    """Read a file -> ``Tensors``; every tensor becomes float32, but for those ``passed_over``, which are left out.

    Raises ``Damaged`` naming the file if it is truncated, not of this format, or holds a value that is not finite,
    ``ValueError`` naming it and a tensor of a type other than ``KINDS``, ``OSError`` if it cannot be read.
    """
    named, metadata, kinds = read_lazily(path, passed_over)
    return Tensors({name: np.asarray(each) for name, each in named.items()}, metadata, kinds)


def read_lazily(path, passed_over=lambda name: False):
    """The same with a ``Lazy`` for each array, so that of a large file no more is in memory than is asked for. A value that
    is not finite raises when it is read."""
    metadata = read_metadata(path)  # a header that is sound, and a file as long as it says
    held = _Held(path)
    length = int.from_bytes(held.file.read(8), "little")
    header = json.loads(held.file.read(length))
    header.pop("__metadata__", None)
    named = {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if passed_over(name):
            continue
        if (kind := entry["dtype"]) not in KINDS:
            raise ValueError(f"{path}: tensor {name} is {kind}; F64, F32, F16 and BF16 are read")
        named[name] = _lazy(held, name, kind, entry["shape"], 8 + length + entry["data_offsets"][0])
    return Tensors(named, metadata, {entry["dtype"] for entry in header.values()})


class _Held:
    """A file that is open as long as one of its tensors may be asked for, so that it may be removed meanwhile: of the
    checkpoints of a run only the last ones stay."""

    def __init__(self, path):
        self.path, self.file = path, open(path, "rb")
        weakref.finalize(self, self.file.close)


def _lazy(held, name, kind, shape, at):
    def load():
        held.file.seek(at)
        numbers = np.fromfile(held.file, KINDS[kind], math.prod(shape)).reshape(shape)
        array = numbers if kind == "F32" else as_float32(numbers, kind)
        if not np.isfinite(array).all():
            raise Damaged(f"{held.path}: tensor {name} holds a value that is not finite")
        return array

    return Lazy(shape, load)


def read_metadata(path):
    """The metadata alone, {name: text}. Raises as ``read`` for a file that is truncated or not of this format."""
    with open(path, "rb"):  # or an error of the system that names it
        pass
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise Damaged(f"{path} is truncated or not a safetensors file: {error}") from None


def as_float32(numbers, kind):
    """Numbers as a file holds them, of one of ``KINDS``, as float32: a copy, to be written to."""
    if kind == "BF16":
        bits = numbers.astype(np.uint32)
        bits <<= 16  # in place: << would make a scalar of an array without axes
        return bits.view(np.float32)
    with np.errstate(over="ignore"):  # becomes infinite
        return numbers.astype(np.float32)


def encode(named, *, types=None, metadata=None):
    """The bytes of a file of {name: array}; arguments as of ``pieces``."""
    return b"".join(pieces(named, types=types, metadata=metadata))


def pieces(named, *, types=None, metadata=None):
    """The same one after another, a tensor at a time: what is in memory is not all of it twice.

    types     {name: "BF16" or "F16"} of float32 arrays to be rounded; the others are written as they are
    metadata  {name: text}

    Of NumPy's arrays the library of the format writes any, but bfloat16 only with a package more.
    """
    header, types, end = {"__metadata__": metadata} if metadata else {}, types or {}, 0
    for name, value in named.items():
        kind = types.get(name) or f"{value.dtype.kind.upper()}{8 * value.dtype.itemsize}"
        length = value.size * (2 if name in types else value.dtype.itemsize)
        header[name] = {"dtype": kind, "shape": value.shape, "data_offsets": [end, end := end + length]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name, value in named.items():
        yield _written(value, types.get(name))


def round_to_bf16(values):
    """float32 values rounded to the nearest that bfloat16 has, the even one of two; still float32."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32).reshape(values.shape)


def _written(value, kind):
    """The bytes of an array in a file; ``kind`` None is its own type."""
    if kind == "BF16":
        return (round_to_bf16(value).view(np.uint32) >> 16).astype("<u2").tobytes()
    return (value.astype("<f2") if kind == "F16" else value).tobytes()
