"""Writing on file systems and under names of all kinds."""

import errno
import os
import stat
import subprocess
import sys
import threading

import pytest

from tinydiff import files
from tinydiff.files import cache_dir, write_atomically, write_folder_atomically

FILES = {"config.json": b"{}", "weights": b"many", "under/one/more": b"deep"}


def refusing(monkeypatch, function, number, applies=lambda *_: True):
    """Let a function of ``os`` fail with this errno where ``applies`` says so; returns how often it did."""
    real, calls = getattr(os, function), []

    def fail(*arguments, **options):
        if applies(*arguments):
            calls.append(arguments)
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    monkeypatch.setattr(os, function, fail)
    return calls


def is_folder(opened, *_):
    return stat.S_ISDIR((os.fstat if isinstance(opened, int) else os.stat)(opened).st_mode)


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EBADF])
@pytest.mark.parametrize("function, applies", [("fsync", is_folder), ("open", is_folder), ("fsync", lambda *_: True)])
def test_where_nothing_can_be_synced_writing_goes_on(tmp_path, monkeypatch, number, function, applies):
    with monkeypatch.context() as patch:
        refused = refusing(patch, function, number, applies)
        write_atomically(tmp_path / "a", b"new")
        write_folder_atomically(tmp_path / "folder", FILES)
    assert refused and (tmp_path / "a").read_bytes() == b"new" and contents(tmp_path / "folder") == FILES


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fails_is_an_error(tmp_path, monkeypatch, number):
    refusing(monkeypatch, "fsync", number)
    (tmp_path / "a").write_bytes(b"old")
    for write, path in ((write_atomically, "a"), (write_folder_atomically, "folder")):
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            write(tmp_path / path, FILES if path == "folder" else b"new")
        assert caught.value.filename == str(tmp_path / path)
    assert contents(tmp_path) == {"a": b"old"}


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.ENOSYS])
def test_where_nothing_can_be_replaced_files_are_written_over(tmp_path, monkeypatch, number):
    refused = refusing(monkeypatch, "replace", number)
    (tmp_path / "a").write_bytes(b"old and longer")
    (tmp_path / "folder").mkdir()
    write_atomically(tmp_path / "a", b"new")
    write_folder_atomically(tmp_path / "folder", FILES)
    write_folder_atomically(tmp_path / "new", FILES)
    assert len(refused) == 1 + 2 * len(FILES) + 1 + 2 * len(FILES)
    assert contents(tmp_path / "folder") == contents(tmp_path / "new") == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "folder", "new"]
    assert (tmp_path / "a").read_bytes() == b"new"


def test_pieces_of_a_file_are_written_as_they_are_made(tmp_path):
    path = tmp_path / "a"
    write_atomically(path, (bytes([each]) * 2 for each in range(3)))
    assert path.read_bytes() == b"\0\0\1\1\2\2"

    def failing():
        yield b"new"
        raise ValueError("cannot be made")

    with pytest.raises(ValueError, match="cannot be made"):
        write_atomically(path, failing())
    assert path.read_bytes() == b"\0\0\1\1\2\2" and list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_over_leaves_no_new_file(tmp_path, monkeypatch):
    refusing(monkeypatch, "replace", errno.EXDEV)
    monkeypatch.setattr(files.shutil, "copyfileobj", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        write_atomically(tmp_path / "a", b"new")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["n" * 250, "n" * 255, "ü" * 127, "n" * 129, "." * 240 + "x"])
def test_names_as_long_as_they_may_be(tmp_path, name):
    for content in (b"one", b"two"):
        write_atomically(tmp_path / name, content)
    write_folder_atomically(tmp_path / "under" / name, FILES)
    assert (tmp_path / name).read_bytes() == b"two" and contents(tmp_path / "under" / name) == FILES
    assert sorted(os.listdir(tmp_path)) == sorted([name, "under"]) and os.listdir(tmp_path / "under") == [name]


def test_a_folder_that_cannot_be_replaced_or_filled_does_not_appear(tmp_path, monkeypatch):
    refusing(monkeypatch, "replace", errno.EXDEV, is_folder)
    refusing(monkeypatch, "replace", errno.ENOSPC, lambda _, path: path == tmp_path / "new" / "weights")
    with pytest.raises(OSError, match="No space left on device"):
        write_folder_atomically(tmp_path / "new", FILES)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_too_long_is_named(tmp_path):
    with pytest.raises(OSError, match="File name too long") as caught:
        write_atomically(tmp_path / ("n" * 256), b"")
    assert caught.value.filename == str(tmp_path / ("n" * 256)) and not list(tmp_path.iterdir())


def test_names_that_are_no_text(tmp_path):
    name = os.fsdecode(b"a\xff\n\x1b[31m")
    write_atomically(tmp_path / name, b"x")
    write_folder_atomically(tmp_path / "folder" / name, FILES)
    assert contents(tmp_path / "folder" / name) == FILES and (tmp_path / name).read_bytes() == b"x"


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path):
    for name in ("there", "not there yet"):
        link = tmp_path / f"link to {name}"
        link.symlink_to(tmp_path / name)
        (tmp_path / "there").write_bytes(b"old")
        write_atomically(link, b"new")
        assert link.is_symlink() and (tmp_path / name).read_bytes() == b"new"


def test_a_device_and_a_pipe_are_written_to_and_stay(tmp_path):
    """As --json /dev/stdout; root's /dev/null would become a file."""
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_atomically(tmp_path / "pipe", b"through")
    reader.join()
    assert read == [b"through"] and stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    write_atomically(os.devnull, b"gone")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_atomically("/dev/full", b"x")
    assert caught.value.filename == "/dev/full"


@pytest.mark.parametrize("kind", ["dot", "link", "dangling link", "empty", "new", "left by a killed run"])
def test_a_folder_however_it_is_called(tmp_path, monkeypatch, kind):
    real = tmp_path / "real"
    if kind not in ("dangling link", "new"):
        real.mkdir(mode=0o700)
    if kind == "left by a killed run":
        (real / ".partial").mkdir()
        (real / ".partial" / "config.json").write_bytes(b"{")
    before = real.stat() if real.exists() else None
    folder = real
    if kind == "dot":
        monkeypatch.chdir(real)
        folder = "."
    if "link" in kind:
        folder = tmp_path / "link"
        folder.symlink_to("real")
    write_folder_atomically(folder, FILES)
    assert contents(real) == FILES
    assert kind != "dot" or "weights" in os.listdir("."), "whoever is in the folder sees the files"
    if before:
        assert (real.stat().st_ino, real.stat().st_mode) == (before.st_ino, before.st_mode)
    with pytest.raises(ValueError, match="is there and not empty; choose another folder"):
        write_folder_atomically(folder, FILES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"real", *(["link"] if "link" in kind else [])})


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_folder_that_is_there_is_left_as_it_was(tmp_path, monkeypatch, failing):
    folder = tmp_path / "folder"
    folder.mkdir()
    for after in range(2 * len(FILES)):  # each file is written, and moved to its place
        with monkeypatch.context() as patch:
            calls = []
            refusing(patch, failing, errno.ENOSPC, lambda *_: calls.append(1) or len(calls) > after)
            with pytest.raises(OSError, match="No space left on device"):
                write_folder_atomically(folder, FILES)
        assert not list(folder.iterdir())


def test_a_user_without_a_home(monkeypatch, tmp_path):
    """The cache is a folder of the process's own, and gone after it."""
    lines = (
        "import pwd, sys",
        "def nobody(uid): raise KeyError('uid not found')",
        "pwd.getpwuid = nobody",
        "from tinydiff.files import cache_dir",
        "one, two = cache_dir('mnist'), cache_dir('statistics')",
        "one.mkdir(parents=True)",
        "assert one.parent == two.parent",
        "print(one)",
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    environment["TMPDIR"] = str(tmp_path)
    script = "\n".join(lines)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path)) and not list(tmp_path.iterdir())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir("mnist") == tmp_path / "tinydiff" / "mnist"


def test_a_lock_is_one_processs_until_it_is_given_back(tmp_path):
    held = files.lock(tmp_path / "lock")
    with pytest.raises(files.Held, match=f"^process {os.getpid()} on "):
        files.lock(tmp_path / "lock")
    waiting = threading.Thread(target=lambda: files.unlock(files.lock(tmp_path / "lock", wait=True)))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    files.unlock(held)
    waiting.join(60)
    assert not waiting.is_alive() and list(tmp_path.iterdir()) == []


def test_a_lock_that_cannot_be_written_to_leaves_nothing(tmp_path, monkeypatch):
    def fail():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.platform, "node", fail)
    with pytest.raises(OSError, match="No space left"):
        files.lock(tmp_path / "lock")
    assert list(tmp_path.iterdir()) == []
