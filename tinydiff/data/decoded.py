"""Decoded images, or what an autoencoder made of them, in a file that is mapped into memory: its pages are read as they
are needed, and all processes share them.

A file is named PLACE-KEY and lies in ``$TINYDIFF_DATA/decoded``, else in the user's cache. It holds the values of one
image after another; {"shape": [n, H, W, C], "unreadable": names} as JSON; and in the last 8 bytes the length of that.
It appears whole or not at all and is never changed, only replaced: whoever has it mapped keeps what he has.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import secrets
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinydiff.files import Held, NoLocks, cache_dir, lock, sync, unlock

LENGTH = 8  # bytes of the number at the end


class Decoded(NamedTuple):
    """Images, and the names of the files that are not among them, as they could not be read."""

    images: np.ndarray  # (n, H, W, C), read-only where they are mapped
    unreadable: list[str]


def images_of(decode, place, key, *, cache, without, say, is_current=lambda unreadable: True, dtype=np.uint8):
    """What ``decode`` writes, as ``Decoded``: ``mapped``, with the same arguments, else ``in_memory``.

    cache    False: into memory every time, as is done where the file cannot be written or mapped
    without  what is said then, before the error
    """
    if cache:
        try:
            return mapped(decode, place, key, is_current=is_current, say=say, dtype=dtype)
        except OSError as error:
            say(f"{without} ({error})")
    return in_memory(decode, dtype)


def name_of(values):
    """A place or key for values that JSON can hold: another one where any of them is another."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def in_memory(decode, dtype=np.uint8):
    """What ``decode`` writes (see ``mapped``), as ``Decoded`` in memory of its own."""
    out = io.BytesIO()
    shape, unreadable = decode(out)
    return Decoded(np.frombuffer(out.getbuffer(), dtype).reshape(shape), unreadable)


def mapped(decode, place, key, *, is_current, say, dtype=np.uint8):
    """What ``decode`` writes, as ``Decoded``: from the file of that place and key, which is written if need be.

    decode      a binary file -> the shape of the images that it wrote there, and the names of unreadable ones
    place, key  names: what the images are of, and what their pixels depend on. Of a place only the newest file is kept
    is_current  names of what was unreadable -> whether it still is; if not, all are decoded again
    dtype       of what is written

    Raises ``OSError`` if the file cannot be written, and then leaves none, or not be mapped.
    """

    def current():
        found = _open(path, dtype)
        return found if found and is_current(found.unreadable) else None

    path = _folder() / f"{place}-{key}"
    if found := current():
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path.with_name(f"{place}.lock"), say) as alone:
        if found := current():  # another process was faster
            return found
        if alone:
            _remove(path.parent.glob(f".{place}-*"))  # of processes that were killed
        _write(path, decode)
        _remove(each for each in path.parent.glob(f"{place}-*") if each != path)
        found = _open(path, dtype)
    if not found:
        raise OSError(f"{path} cannot be mapped into memory")
    return found


def _folder():
    data = os.environ.get("TINYDIFF_DATA")
    return Path(data) / "decoded" if data else cache_dir("decoded")


def _open(path, dtype):
    """The ``Decoded`` of a file; None if it is not there, or not whole."""
    try:
        with open(path, "rb") as file:
            end = file.seek(-LENGTH, os.SEEK_END)
            length = int.from_bytes(file.read(LENGTH), "little")
            pixels = file.seek(end - length)
            about = json.loads(file.read(length))
            if pixels != math.prod(about["shape"]) * np.dtype(dtype).itemsize:
                return None
            images = np.memmap(file, dtype, "r", shape=tuple(about["shape"]))
        return Decoded(images.view(np.ndarray), about["unreadable"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def _write(path, decode):
    """Write the file. Until it is whole it has a name of its own, which no other process uses."""
    partial = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with open(partial, "x+b") as out:
            shape, unreadable = decode(out)
            about = json.dumps({"shape": shape, "unreadable": unreadable}).encode()
            out.write(about + len(about).to_bytes(LENGTH, "little"))
            out.flush()
            sync(out.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _remove(paths):
    for path in list(paths):
        with contextlib.suppress(OSError):  # it is another user's, or gone
            path.unlink()


@contextlib.contextmanager
def _alone(path, say):
    """Within: no other process writes files of the same place, where there are locks; yields whether there are."""
    try:
        try:
            file = lock(path)
        except Held as holder:
            say(f"{holder} decodes these images; waiting for it")
            file = lock(path, wait=True)
    except (Held, NoLocks):
        file = None
    try:
        yield file is not None
    finally:
        if file:
            unlock(file)
