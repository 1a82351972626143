"""What a folder's images decode to is kept, and found again to the same bits, whatever happens to it or to them."""

import errno
import fcntl
import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.checks import backend_or_skip
from tests.data.test_folder import colour, gray, save
from tests.train import tiny
from tinydiff.data import decoded, folder
from tinydiff.train import Trainer

pytestmark = pytest.mark.usefixtures("own_cache")
KEPT_IN_MEMORY = "decoded into memory, as what is decoded cannot be kept"


def load(path, **options):
    """The ``Dataset`` of a folder, and what was said."""
    said = []
    return folder.load(path, say=said.append, **options), said


def assert_same(one, other):
    (ours, said), (theirs, also_said) = one, other
    assert np.array_equal(ours.images, theirs.images) and ours.images.shape == theirs.images.shape
    assert np.array_equal(ours.labels, theirs.labels) and ours.identity == theirs.identity
    assert said == also_said


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def same_place(path, content):
    """Other content for a file whose size and times stay the same."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def pets(tmp_path):
    """Five gray images, then one of colours, in two classes, and what is passed over."""
    for i in range(5):
        save(tmp_path / "pets" / "cat" / f"{i}.png", noise(i, 8, 8))
    save(tmp_path / "pets" / "dog" / "deeper" / "a.png", noise(5, 8, 8, 3))
    (tmp_path / "pets" / "notes.txt").write_text("not a picture")
    return tmp_path / "pets"


@pytest.fixture
def opened(monkeypatch):
    """The names of the images that are decoded, as they are."""
    names, read = [], folder._read

    def noted(file):
        names.append(file.name)
        return read(file)

    monkeypatch.setattr(folder, "_read", noted)
    return names


@pytest.mark.parametrize("options", [{}, {"size": 4}], ids=str)
def test_a_second_time_nothing_is_decoded(pets, opened, own_cache, options):
    in_memory = load(pets, cache=False, **options)
    assert len(opened) == 6 and not own_cache.exists()
    first = load(pets, **options)
    assert len(opened) == 12
    second = load(pets, **options)
    assert len(opened) == 12 and len(list(own_cache.iterdir())) == 1
    assert_same(first, in_memory)
    assert_same(second, in_memory)
    for dataset, _ in (first, second):
        assert isinstance(dataset.images.base, np.memmap) and not dataset.images.flags.writeable


def test_gray_until_the_last_image(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "AT_ONCE", 100)  # bytes, no multiple of which the gray ones are
    grays, last = noise(0, 7, 8, 8), noise(1, 8, 8, 3)
    for i, image in enumerate(grays):
        save(tmp_path / f"{i}.png", image)
    assert np.array_equal(load(tmp_path)[0].images, grays[..., None])
    save(tmp_path / "9.png", last)
    expected = np.concatenate([np.repeat(grays[..., None], 3, axis=3), last[None]])
    for cache in (True, False):
        assert np.array_equal(load(tmp_path, cache=cache)[0].images, expected)


def _other_time(pets, _):
    os.utime(pets / "cat" / "0.png", ns=(0, (pets / "cat" / "0.png").stat().st_mtime_ns + 1))


def _other_size(pets, _):
    before = (pets / "cat" / "0.png").stat()
    with open(pets / "cat" / "0.png", "ab") as file:
        file.write(b"more")
    os.utime(pets / "cat" / "0.png", ns=(0, before.st_mtime_ns))


def _one_more(pets, _):
    save(pets / "dog" / "b.png", gray(1))


def _one_less(pets, _):
    (pets / "cat" / "0.png").unlink()


def _other_name(pets, _):
    (pets / "cat" / "0.png").rename(pets / "cat" / "9.png")


def _other_class(pets, _):
    (pets / "cat").rename(pets / "ant")


def _other_rules(_, monkeypatch):
    monkeypatch.setattr(folder, "RULES", folder.RULES + 1)


def _other_pillow(_, monkeypatch):
    monkeypatch.setattr(folder.PIL, "__version__", "0.1")


@pytest.mark.parametrize(
    "change",
    [_other_time, _other_size, _one_more, _one_less, _other_name, _other_class, _other_rules, _other_pillow],
)
def test_what_has_changed_is_decoded_again_and_the_older_file_goes(pets, opened, own_cache, monkeypatch, change):
    before, _ = load(pets)
    images, kept = before.images.copy(), list(own_cache.iterdir())
    opened.clear()
    change(pets, monkeypatch)
    after = load(pets)
    assert len(opened) == len(after[0])
    assert len(list(own_cache.iterdir())) == 1 and list(own_cache.iterdir()) != kept
    assert_same(after, load(pets, cache=False))
    assert np.array_equal(before.images, images)  # whoever has the older file mapped keeps it


def test_each_size_and_each_folder_has_a_file(pets, tmp_path, opened, own_cache):
    save(tmp_path / "other" / "a.png", gray(1))
    for _ in range(2):
        assert load(pets)[0].images.shape == (6, 8, 8, 3)
        assert load(pets, size=4)[0].images.shape == (6, 4, 4, 3)
        assert load(tmp_path / "other")[0].images.shape == (1, 8, 8, 1)
    assert len(opened) == 6 + 6 + 1 and len(list(own_cache.iterdir())) == 3


def test_a_folder_is_one_however_it_is_named(pets, tmp_path, opened, monkeypatch):
    load(pets)
    opened.clear()
    (tmp_path / "link").symlink_to(pets)
    monkeypatch.chdir(pets)
    for name in (tmp_path / "link", ".", f"{pets}/cat/.."):
        load(name)
    assert not opened


def test_what_is_passed_over_is_looked_for_every_time(pets, opened):
    load(pets)
    opened.clear()
    (pets / "more.txt").write_text("not a picture")
    (pets / "notes.txt").unlink()
    assert load(pets)[1][1] == f"{pets}: passed over 1 without a picture's ending (more.txt)" and not opened


def test_what_was_unreadable_is_tried_again_every_time(pets, opened):
    save(pets / "cat" / "2b.png", noise(9, 8, 8))
    whole = (pets / "cat" / "2b.png").read_bytes()
    same_place(pets / "cat" / "2b.png", bytes(len(whole)))
    first = load(pets, skip_unreadable=True)
    assert len(opened) == 7 and first[1][0].startswith(f"skipped {pets}/cat/2b.png: cannot identify")
    opened.clear()
    assert_same(load(pets, skip_unreadable=True), first)
    assert opened == ["2b.png"]
    for cache in (True, False):
        with pytest.raises(ValueError, match="cat/2b.png cannot be read .*--skip-unreadable goes on without it"):
            load(pets, cache=cache)
    same_place(pets / "cat" / "2b.png", whole)
    assert_same(load(pets), load(pets, cache=False))
    assert len(load(pets)[0]) == 7


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:5],
        lambda content: content[:-1],
        lambda content: content[1:],
        lambda content: content + b"\0",
        lambda content: content[:-8] + b"\xff" * 8,
        lambda content: bytes(len(content)),
        lambda content: content[:-8] + (2).to_bytes(8, "little"),
    ],
)
def test_a_damaged_file_is_written_again(pets, own_cache, damage):
    first = load(pets)
    [path] = own_cache.iterdir()
    whole = path.read_bytes()
    path.unlink()  # it is still mapped
    path.write_bytes(damage(whole))
    assert_same(load(pets), first)
    assert path.read_bytes() == whole and list(own_cache.iterdir()) == [path]


def test_where_files_are_kept(pets, tmp_path, own_cache, monkeypatch):
    monkeypatch.setenv("TINYDIFF_DATA", str(tmp_path / "data"))
    load(pets)
    assert len(list((tmp_path / "data" / "decoded").iterdir())) == 1 and not own_cache.exists()
    monkeypatch.setenv("TINYDIFF_DATA", "")
    load(pets)
    assert len(list(own_cache.iterdir())) == 1


def test_where_nothing_can_be_kept_images_are_decoded_into_memory(pets, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TINYDIFF_DATA", str(tmp_path / "file"))
    dataset, said = load(pets)
    assert said.pop(0) == f"{pets}: {KEPT_IN_MEMORY} ([Errno 20] Not a directory: '{tmp_path}/file/decoded')"
    assert_same((dataset, said), load(pets, cache=False))


class Full(io.BufferedRandom):
    """A file on a disk that is full after so many bytes."""

    room = 0

    def write(self, content):
        if self.tell() + len(content) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(content)


def _no_room(room):
    def patch(monkeypatch):
        def opened(path, mode):
            return Full(io.FileIO(path, "x+")) if mode == "x+b" else open(path, mode)

        monkeypatch.setattr(Full, "room", room)
        monkeypatch.setattr(decoded, "open", opened, raising=False)

    return patch


def _fails_to_sync(monkeypatch):
    def sync(opened):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(decoded, "sync", sync)


@pytest.mark.parametrize("fill", [_no_room(0), _no_room(200), _no_room(6 * 8 * 8 * 3), _fails_to_sync])
def test_a_full_disk_leaves_no_half_written_file(pets, own_cache, monkeypatch, fill):
    (pets / "cat" / "x.png").write_text("not an image")
    fill(monkeypatch)
    dataset, said = load(pets, skip_unreadable=True)
    assert f"{pets}: {KEPT_IN_MEMORY} ([Errno 28] No space left on device)" in said
    said = [line for line in said if KEPT_IN_MEMORY not in line]
    assert_same((dataset, said), load(pets, skip_unreadable=True, cache=False))
    assert list(own_cache.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interrupted_it_leaves_nothing(pets, own_cache, monkeypatch, error):
    read = folder._read

    def interrupted(file):
        if file.name == "3.png":
            assert len(list(own_cache.iterdir())) == 2  # the lock, and a file that is not whole
            raise error
        return read(file)

    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(folder, "_read", interrupted)
        load(pets)
    assert list(own_cache.iterdir()) == []


@pytest.mark.parametrize("sizes", [[(9, 9), (7, 7), (6, 6)], [(8, 9)]], ids=str)
def test_a_folder_that_is_refused_leaves_nothing(pets, own_cache, sizes):
    for i, size in enumerate(sizes):
        save(pets / "dog" / f"{i}.png", noise(0, *size))
    shown = f"{pets}/cat/0.png is 8x8, " + ", ".join(
        f"{pets}/dog/{i}.png is {width}x{height}" for i, (height, width) in enumerate(sizes[:2])
    )
    for cache in (True, False):
        with pytest.raises(ValueError, match=f"^images must be square and of one size: {shown}; --image-size brings"):
            load(pets, cache=cache)
    assert list(own_cache.iterdir()) == []


HELD = """
import hashlib, sys
from tinydiff.data import folder
read = folder._read
def held(file):
    if file.name == "3.png":
        print("decoding", flush=True)
        sys.stdin.read()
    return read(file)
folder._read = held
dataset = folder.load(sys.argv[1], say=lambda line: None)
print(hashlib.sha256(dataset.images.tobytes()).hexdigest())
"""


@pytest.fixture
def other(pets):
    """Another process that decodes the same images, and goes on when its input is closed."""
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, "-c", HELD, pets], **pipes) as process:
        assert process.stdout.readline() == "decoding\n"
        yield process
        process.kill()


def test_of_two_processes_one_decodes_and_both_read_its_file(pets, other, opened, own_cache):
    said = []

    def say(line):
        said.append(line)
        if len(said) == 1:
            other.stdin.close()

    dataset = folder.load(pets, say=say)
    assert said[0].startswith(f"process {other.pid} on ") and said[0].endswith("decodes these images; waiting for it")
    assert other.stdout.read().strip() == hashlib.sha256(dataset.images.tobytes()).hexdigest()
    assert not opened and len(list(own_cache.iterdir())) == 1
    assert_same((dataset, said[1:]), load(pets, cache=False))


def test_what_a_killed_process_leaves_is_removed(pets, other, own_cache):
    other.kill()
    other.wait()
    assert len(list(own_cache.iterdir())) == 2
    assert_same(load(pets), load(pets, cache=False))
    [path] = own_cache.iterdir()
    assert not path.name.startswith(".")


def test_without_locks_both_decode_and_both_end_well(pets, own_cache, monkeypatch):
    read, inner = folder._read, []

    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    def read_and_be_overtaken(file):
        if file.name == "3.png" and not inner:
            inner.append(None)
            inner[0] = load(pets)
        return read(file)

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(folder, "_read", read_and_be_overtaken)
    outer = load(pets)
    assert_same(outer, inner[0])
    assert_same(outer, load(pets, cache=False))
    assert len(list(own_cache.iterdir())) == 1


PEAK = """
import re, sys
from tinydiff.data import folder
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
folder.load(sys.argv[2], say=lambda line: None, cache=False)  # so that all is imported
before = peak()
folder.load(sys.argv[1], say=lambda line: None, cache=sys.argv[3] == "cache")
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
def test_no_more_than_one_image_is_in_memory(tmp_path):
    save(tmp_path / "one" / "0.png", colour(1, 2, 3, size=256))
    content = (tmp_path / "one" / "0.png").read_bytes()
    (tmp_path / "many").mkdir()
    for i in range(300):
        (tmp_path / "many" / f"{i}.png").write_bytes(content)

    def peak(how):
        arguments = [sys.executable, "-c", PEAK, tmp_path / "many", tmp_path / "one", how]
        return int(subprocess.run(arguments, capture_output=True, check=True, text=True).stdout)

    images = 300 * 256 * 256 * 3
    assert peak("memory") > images / 2
    for _ in ("decoded", "mapped"):
        assert peak("cache") < images / 10


@pytest.mark.parametrize("name", ["numpy", "cpu", "emulator"])
def test_training_reads_them_where_they_are_and_to_the_same_bits(tmp_path, name):
    for i in range(9):
        save(tmp_path / "ab"[i % 2] / f"{i}.png", noise(i, 8, 8))
    backend, states = backend_or_skip(name), []
    for cache in (True, False):
        data, _ = load(tmp_path, cache=cache)
        trainer = Trainer(tiny.trainer(data).config, data, backend)
        assert np.shares_memory(trainer.images, data.images)
        trainer.train_step()
        states.append(tiny.state(trainer))
    assert states[0] == states[1]
