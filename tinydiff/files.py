"""Files: written so that nothing is ever half-written, and where those are kept that can be made again."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path


def write_atomically(path, content):
    """Write bytes so that ``path`` holds either what it held or all of ``content``, whatever happens.

    Written to a temporary file beside it, synced to disk, renamed. Raises ``OSError`` naming the path if that
    fails.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(partial)):
            error.filename = str(path)  # a full disk does not say which file it was
        raise
    _sync_folder(path.parent)


def expect_writable(name, path):
    """Raise an error unless a file can be written at ``path``, the argument ``name``: before hours of work, not after.

    ``ValueError`` for a folder that does not exist, ``OSError`` naming the path for all else.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"{name}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.touch()
        partial.unlink()
    except OSError as error:
        error.filename = str(path)
        raise


def write_folder_atomically(folder, files):
    """Write {name: bytes} so that ``folder`` holds all of them or is as it was, whatever happens.

    Raises ``ValueError`` for a folder that is there and not empty, ``OSError`` naming a path if writing fails.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder} is there and not empty; choose another folder")
    partial = folder.resolve().with_name(f".{folder.resolve().name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    try:
        partial.mkdir(parents=True)
        for name, content in files.items():
            write_atomically(partial / name, content)
        os.replace(partial, folder)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError):
            error.filename = str(folder)
        raise
    _sync_folder(folder.resolve().parent)


def _sync_folder(folder):
    """Make a rename inside a folder reach the disk; where folders cannot be synced, nothing."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def cache_dir(*parts):
    """Where downloads and results worth keeping lie: ``$XDG_CACHE_HOME/tinydiff``, by default under ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").joinpath("tinydiff", *parts)
