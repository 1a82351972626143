"""Files: written so that nothing is ever half-written, and where those are kept that can be made again."""

from __future__ import annotations

import os
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
    if os.name == "posix":  # the rename itself must reach the disk; elsewhere a folder cannot be synced
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def cache_dir(*parts):
    """Where downloads and results worth keeping lie: ``$XDG_CACHE_HOME/tinydiff``, by default under ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").joinpath("tinydiff", *parts)
