"""Files of named tensors (safetensors), read by their bytes: so bfloat16, which NumPy lacks, needs no other package.

    8 bytes   n, the length of the header, little-endian
    n bytes   JSON: {name: {"dtype", "shape", "data_offsets": [start, stop]}}, and texts by name in "__metadata__"
    the rest  the tensors' bytes, little-endian, at their offsets

Source: https://github.com/huggingface/safetensors, "Format". (They are written by the package of that name.)
"""

from __future__ import annotations

import json
import math
import os
from typing import NamedTuple

import numpy as np

# the types that are read, and as what: bfloat16 is the upper half of a float32
KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class Tensors(NamedTuple):
    """A file's content."""

    named: dict[str, np.ndarray]  # float32
    metadata: dict[str, str]


def read(path):
    """Read a file -> ``Tensors``; every tensor becomes float32.

    Raises ``ValueError`` naming the file, and the tensor where it is one: truncated, not of this format, of a type
    other than ``KINDS``, or with a value that is not finite as float32. ``OSError`` if the file cannot be read.
    """
    with open(path, "rb") as file:
        header, metadata, start = _header(path, file)
        named = {}
        for name, entry in header.items():
            kind, shape = entry["dtype"], entry["shape"]
            if kind not in KINDS:
                raise ValueError(f"{path}: tensor {name} is {kind}; F64, F32, F16 and BF16 are read")
            file.seek(start + entry["data_offsets"][0])
            numbers = np.fromfile(file, KINDS[kind], math.prod(shape)).reshape(shape)
            named[name] = _float32(numbers, kind)
            if not np.isfinite(named[name]).all():
                raise ValueError(f"{path}: tensor {name} holds a value that is not finite")
    return Tensors(named, metadata)


def read_metadata(path):
    """The metadata alone, {name: text}. Raises as ``read`` for a file that is truncated or not of this format."""
    with open(path, "rb") as file:
        return _header(path, file)[1]


def _float32(numbers, kind):
    if kind == "BF16":
        bits = numbers.astype(np.uint32)
        bits <<= 16  # in place: << would make a scalar of an array without axes
        return bits.view(np.float32)
    with np.errstate(over="ignore"):  # becomes infinite, which is refused
        return numbers.astype(np.float32)


def _header(path, file):
    """The entries by name, the metadata, and where the tensors' bytes begin; every entry lies within the file."""
    size = os.fstat(file.fileno()).st_size
    try:
        length = int.from_bytes(file.read(8), "little")
        _expect(8 + length <= size, "it ends within its header")
        header = json.loads(file.read(length))
        _expect(isinstance(header, dict), "its header is not an object")
        metadata = header.pop("__metadata__", {})
        _expect(isinstance(metadata, dict), "its metadata are not an object")
        _expect(all(isinstance(text, str) for text in metadata.values()), "its metadata are not texts")
        for name, entry in header.items():
            _expect(_fits(entry, size - 8 - length), f"tensor {name} is cut off or not described")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is truncated or not a safetensors file: {error}") from None
    return header, metadata, 8 + length


def _expect(holds, what):
    if not holds:
        raise ValueError(what)


def _fits(entry, bytes_there):
    """Whether an entry of the header is one, and its bytes are there; of types that are not read only the offsets."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or any(type(each) is not int or each < 0 for each in numbers):
            return False
    if len(offsets) != 2 or not offsets[0] <= offsets[1] <= bytes_there:
        return False
    kind = KINDS.get(entry["dtype"])
    return kind is None or math.prod(shape) * np.dtype(kind).itemsize == offsets[1] - offsets[0]
