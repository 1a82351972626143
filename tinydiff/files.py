"""Files: written so that nothing is ever half-written, locked, and where those are kept that can be made again."""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import hashlib
import os
import platform
import shutil
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None

# what file systems answer that cannot sync a folder or a file (network and FUSE ones), or may not open a folder
CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM}
# and those that cannot put one file in another's place: object stores, and files that are mounted by themselves
CANNOT_REPLACE = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBUSY, errno.EXDEV}
LONGEST_NAME = 128  # bytes that another name is made of; the longest are of 255, on encrypted file systems of 143


def write_atomically(path, content):
    """Write bytes, or pieces of them, so that ``path`` holds either what it held or all of ``content``, whatever happens.

    Written to a temporary file beside it, synced to disk, renamed; where the file system cannot replace a file, written
    over it, which a crash may leave half done. A link stays one: the file it leads to is written. A device or a pipe is
    written to as it is. Raises ``OSError`` naming the path if that fails.
    """
    path = Path(path)
    pieces = [content] if isinstance(content, bytes) else content
    try:
        if path.exists() and not path.is_file():
            with open(path, "wb") as file:
                file.writelines(pieces)
            return
        target = Path(os.path.realpath(path))
        partial = partial_beside(target)
        try:
            with open(partial, "wb") as file:
                file.writelines(pieces)
                file.flush()
                sync(file.fileno())
            _replace(partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        error.filename = str(path)  # a full disk does not say which file it was
        raise


def expect_writable(name, path):
    """Raise an error unless a file can be written at ``path``, the argument ``name``: before hours of work, not after.

    ``ValueError`` for a folder that does not exist, ``OSError`` naming the path for all else.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"{name}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():  # a device or a pipe
        return
    partial = partial_beside(Path(os.path.realpath(path)))
    try:
        partial.touch()
        partial.unlink()
    except OSError as error:
        error.filename = str(path)
        raise


def write_folder_atomically(folder, files):
    """Write {name: bytes} so that ``folder`` holds all of them or is as it was, whatever happens; a name may be a path.

    All is written and synced under another name, and then the folder renamed. One that is there stays the same (with
    its owner, and for whoever is in it): its files are renamed one by one, as they are where the file system cannot
    replace a folder. A crash between two of them leaves that half done.

    Raises ``ValueError`` for a folder that is there and not empty, ``OSError`` naming a path if writing fails.
    """
    target = Path(os.path.realpath(folder))
    is_there = target.exists()
    partial = target / ".partial" if is_there else partial_beside(target)
    try:
        if is_there and not (target.is_dir() and all(each == partial for each in target.iterdir())):
            raise ValueError(f"{folder} is there and not empty; choose another folder")
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        try:
            partial.mkdir(parents=True)
            for name, content in files.items():
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                write_atomically(partial / name, content)
            _replace_folder(partial, target, files)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _sync_folder(target if is_there else target.parent)
    except OSError as error:
        error.filename = str(folder)
        raise


def partial_beside(path):
    """Where what will be ``path`` is written until it is whole; of a long name, another that is short enough."""
    name = os.fsencode(path.name)
    if len(name) > LONGEST_NAME:
        return path.with_name(f".{hashlib.sha256(name).hexdigest()}.partial")
    return path.with_name(f".{path.name}.partial")


def _replace(partial, path):
    """Put a file in the place of another, at once where the file system can."""
    try:
        os.replace(partial, path)
    except OSError as error:
        if error.errno not in CANNOT_REPLACE:
            raise
        is_new = not path.exists()
        try:
            with open(partial, "rb") as source, open(path, "wb") as file:
                shutil.copyfileobj(source, file)
                file.flush()
                sync(file.fileno())
        except BaseException:
            if is_new:
                path.unlink(missing_ok=True)
            raise
        partial.unlink()


def _replace_folder(partial, target, names):
    """Put a folder of files in the place of another: at once, or file by file where that is there or cannot be.

    On an error none of the files stays, and no folder that was not there.
    """
    is_new = not target.exists()
    if is_new:
        try:
            os.replace(partial, target)
            return
        except OSError as error:
            if error.errno not in CANNOT_REPLACE:
                raise
        target.mkdir()
    moved, made = [], [target] if is_new else []
    try:
        for folder in sorted({folder for name in names for folder in Path(name).parents if folder.parts}):
            (target / folder).mkdir()
            made.append(target / folder)
        for name in names:
            moved.append(target / name)
            _replace(partial / name, moved[-1])
        shutil.rmtree(partial)
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        for folder in reversed(made):
            folder.rmdir()
        raise


def sync(opened):
    """Make what was written to a descriptor reach the disk; where its file system cannot say so, go on."""
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise


def _sync_folder(folder):
    """Make a rename inside a folder reach the disk; where folders cannot be opened or synced, nothing."""
    if os.name != "posix":
        return
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
        return
    try:
        sync(opened)
    finally:
        os.close(opened)


class Held(Exception):
    """Another process holds a lock; says which."""


class NoLocks(Exception):
    """There are no locks here; says why."""


def lock(path, *, wait=False):
    """The open file at ``path`` that no other process can lock until it is given to ``unlock``, or this one ends.

    Raises ``Held`` where another process has it, unless told to wait for it; ``NoLocks`` on a system, or a file system,
    that has none; ``OSError`` if the file cannot be written.
    """
    while True:
        file = open(path, "a+")
        try:
            if fcntl is None:
                raise OSError("this system has none")
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except (BlockingIOError, PermissionError):  # the latter on some network file systems
            with file:
                file.seek(0)
                raise Held(file.read().strip() or "another process") from None
        except OSError as error:
            unlock(file)
            raise NoLocks(str(error)) from None
        except BaseException:  # interrupted while it waits
            file.close()
            raise
        try:
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                break
        except FileNotFoundError:
            pass
        file.close()  # whoever held it has removed it meanwhile
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
    except BaseException:
        unlock(file)
        raise
    return file


def unlock(file):
    """Remove and close what ``lock`` gave."""
    with file, contextlib.suppress(OSError):  # removed while it is held, so that nobody's is removed
        os.unlink(file.name)


def cache_dir(*parts):
    """Where downloads and results worth keeping lie: ``$XDG_CACHE_HOME/tinydiff``, by default under ``~/.cache``.

    A user without a home has a folder that is removed when the process ends.
    """
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        home = _folder_of_this_process()
    return home.joinpath("tinydiff", *parts)


@functools.cache
def _folder_of_this_process():
    folder = Path(tempfile.mkdtemp(prefix="tinydiff-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
