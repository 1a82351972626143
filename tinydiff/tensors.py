"""Files of named tensors (safetensors), read as float32: bfloat16 too, which NumPy lacks, without another package."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors

# the types that are read, and as what: bfloat16 is the upper half of a float32
KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class Damaged(ValueError):
    """A file that is not as it was written."""


class Tensors(NamedTuple):
    """A file's content."""

    named: dict[str, np.ndarray]  # float32
    metadata: dict[str, str]
    kinds: set[str]  # the types in the file


def read(path):
    """Read a file -> ``Tensors``; every tensor becomes float32.

    Raises ``Damaged`` naming the file if it is truncated, not of this format, or holds a value that is not finite,
    ``ValueError`` naming it and a tensor of a type other than ``KINDS``, ``OSError`` if it cannot be read.
    """
    metadata = read_metadata(path)
    try:
        entries = safetensors.deserialize(Path(path).read_bytes())
    except safetensors.SafetensorError as error:
        raise Damaged(f"{path} is truncated or not a safetensors file: {error}") from None
    named = {}
    for name, entry in entries:
        kind = entry["dtype"]
        if kind not in KINDS:
            raise ValueError(f"{path}: tensor {name} is {kind}; F64, F32, F16 and BF16 are read")
        numbers = np.frombuffer(entry["data"], KINDS[kind]).reshape(entry["shape"])
        named[name] = _float32(numbers, kind)
        if not np.isfinite(named[name]).all():
            raise Damaged(f"{path}: tensor {name} holds a value that is not finite")
    return Tensors(named, metadata, {entry["dtype"] for _, entry in entries})


def read_metadata(path):
    """The metadata alone, {name: text}. Raises as ``read`` for a file that is truncated or not of this format."""
    with open(path, "rb"):  # or an error of the system that names it
        pass
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise Damaged(f"{path} is truncated or not a safetensors file: {error}") from None


def _float32(numbers, kind):
    """A copy, to be written to."""
    if kind == "BF16":
        bits = numbers.astype(np.uint32)
        bits <<= 16  # in place: << would make a scalar of an array without axes
        return bits.view(np.float32)
    with np.errstate(over="ignore"):  # becomes infinite
        return numbers.astype(np.float32)
