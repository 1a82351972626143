import gzip
import hashlib
import http.server
import os
import threading

import numpy as np
import pytest

from tests.data import idx
from tinydiff.data import NotFound, mnist
from tinydiff.files import cache_dir


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch, tmp_path):
    """Neither this machine's data nor the network take part, unless a test says so."""
    monkeypatch.delenv("TINYDIFF_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TINYDIFF_MIRROR", (tmp_path / "mirror").as_uri())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("subfolder", ["", "mnist"])
def test_found_in_data_dir(tmp_path, zipped, subfolder):
    idx.write(tmp_path / subfolder, zipped=zipped)
    data = mnist.load(data_dir=tmp_path)
    assert data.images.shape == (40, 28, 28, 1) and data.images.dtype == np.uint8 and data.classes == 10
    assert data.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert data.images.max() == 255


def test_looked_for_in_the_environment_and_the_cache(tmp_path, monkeypatch):
    idx.write(cache_dir("mnist"), n=10)
    assert len(mnist.load()) == 10
    idx.write(tmp_path / "env", n=20)
    monkeypatch.setenv("TINYDIFF_DATA", str(tmp_path / "env"))
    assert len(mnist.load()) == 20
    idx.write(tmp_path / "dir", n=30)
    assert len(mnist.load(data_dir=tmp_path / "dir")) == 30


def test_missing(tmp_path):
    with pytest.raises(NotFound, match="train-images-idx3-ubyte.gz or train-images-idx3-ubyte is not in .*"):
        mnist.load(data_dir=tmp_path)
    with pytest.raises(NotFound, match="could not be downloaded: file://.*No such file"):
        mnist.load()
    with pytest.raises(ValueError, match="split must be one of train, test, got 'dev'"):
        mnist.load("dev")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda content: gzip.compress(content)[:-30], "is truncated or damaged"),
        (
            lambda content: gzip.compress(content[:-1]),
            "is truncated or damaged: 40 x 28 x 28 values need 31376 bytes, the file holds 31375",
        ),
        (lambda content: content + b"x", "is truncated or damaged"),
        (lambda content: b"", "is not an idx file of bytes with 3 axes: begins , not 00000803"),
        (lambda content: b"\x00\x00\x0d\x03" + content[4:], "begins 00000d03, not 00000803"),
        (lambda content: b"\x1f\x8bhello", "is truncated or damaged"),
        (lambda content: content[:9], "is truncated or damaged"),
    ],
)
def test_damaged_images(tmp_path, damage, message):
    images, _ = idx.write(tmp_path)
    images.write_bytes(damage(gzip.decompress(images.read_bytes())))
    with pytest.raises(ValueError, match=f"{images.name}.* {message}" if message.startswith("is") else message):
        mnist.load(data_dir=tmp_path)


@pytest.mark.parametrize(
    "labels, message",
    [(np.arange(39) % 10, "has 39 labels for the 40 images"), (np.full(40, 10), "label 10 is not a digit")],
)
def test_bad_labels(tmp_path, labels, message):
    _, path = idx.write(tmp_path)
    path.write_bytes(gzip.compress(idx.encode(labels)))
    with pytest.raises(ValueError, match=message):
        mnist.load(data_dir=tmp_path)


def checksums(paths):
    return [hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() for path in paths]


def test_files_with_mnists_names_are_told_apart_by_their_content(tmp_path, monkeypatch):
    images, labels = idx.write(tmp_path)
    said = []
    data = mnist.load(data_dir=tmp_path, say=said.append)
    assert not data.digits and data.name == "mnist"
    rest = "used, but not by what reads digits"
    assert said.pop() == f"{images} and its labels are not MNIST but of unknown content: {rest}"

    sums = checksums((images, labels))
    with monkeypatch.context() as patched:
        patched.setitem(mnist.FASHION, "train", sums[0])
        assert not mnist.load(data_dir=tmp_path, say=said.append).digits
        assert said.pop() == f"{images} and its labels are not MNIST but Fashion-MNIST: {rest}"

    monkeypatch.setitem(mnist.FILES, "train", tuple(zip(idx.NAMES, sums)))
    assert mnist.load(data_dir=tmp_path, say=said.append).digits and not said

    # as many labels of each class, and other content: a run knows that these are others
    labels.write_bytes(gzip.compress(idx.encode(np.arange(40)[::-1] % 10)))
    other = mnist.load(data_dir=tmp_path, say=said.append)
    assert not other.digits and len(said) == 1
    assert data.identity.difference(other.identity) == "its files have other names or content"


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A mirror on this machine, whose files are the expected ones."""
    paths = idx.write(tmp_path / "mirror")
    monkeypatch.setitem(mnist.FILES, "train", tuple(zip(idx.NAMES, checksums(paths))))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path / "mirror")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("TINYDIFF_MIRROR", f"http://127.0.0.1:{server.server_port}")
    yield paths
    server.shutdown()
    server.server_close()


def test_downloaded_once_and_kept(served):
    assert len(mnist.load()) == 40
    for path in served:
        path.unlink()
    assert len(mnist.load()) == 40
    with pytest.raises(NotFound):
        mnist.load("test", download=False)


@pytest.mark.parametrize("content", [gzip.compress(b"something else"), b"\x1f\x8b cut"], ids=["wrong", "cut short"])
def test_a_download_with_a_wrong_checksum_is_not_kept(served, content):
    served[0].write_bytes(content)
    with pytest.raises(NotFound, match="wrong checksum|truncated or damaged"):
        mnist.load()
    assert list(cache_dir("mnist").iterdir()) == []


def test_the_next_mirror_is_tried(served, monkeypatch):
    good = os.environ["TINYDIFF_MIRROR"]
    monkeypatch.delenv("TINYDIFF_MIRROR")
    monkeypatch.setattr(mnist, "MIRRORS", (good + "/nothing/here", good))
    assert len(mnist.load()) == 40


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(NotFound, match="could not be downloaded: .*Not a directory"):
        mnist.load()
