import hashlib
import io
import os
import pickle
import tarfile

import numpy as np
import pytest

from tinydiff.data import NotFound, cifar10
from tinydiff.files import cache_dir

N = 20  # images in a batch, here


@pytest.fixture(autouse=True)
def small_and_nowhere_else(monkeypatch, tmp_path):
    monkeypatch.setattr(cifar10, "RECORDS", N)
    monkeypatch.delenv("TINYDIFF_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TINYDIFF_MIRROR", (tmp_path / "mirror").as_uri())


def batch(i):
    """Images (N, 32, 32, 3) and labels (N,) of batch i; the sixth is the test batch."""
    rng = np.random.default_rng(i)
    return rng.integers(0, 256, (N, 32, 32, 3)).astype(np.uint8), rng.integers(0, 10, N)


def encoded(i, kind):
    images, labels = batch(i)
    rows = images.transpose(0, 3, 1, 2).reshape(N, 3072)
    if kind == "binary":
        return np.concatenate([labels[:, None].astype(np.uint8), rows], axis=1).tobytes()
    return pickle.dumps({b"data": rows, b"labels": labels.tolist(), b"batch_label": b"x"}, protocol=2)


def write(folder, kind, packed=True, replace=None, leave_out=None):
    """The files of one format; ``replace`` maps a batch's name to other content."""
    inside, ending = ("cifar-10-batches-bin", ".bin") if kind == "binary" else ("cifar-10-batches-py", "")
    names = [f"data_batch_{i}{ending}" for i in range(1, 6)] + [f"test_batch{ending}"]
    files = {name: encoded(i, kind) for i, name in enumerate(names, 1) if name != leave_out}
    files.update(replace or {})
    if packed:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"cifar-10-{kind}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(f"{inside}/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return path
    (folder / inside).mkdir(parents=True)
    for name, content in files.items():
        (folder / inside / name).write_bytes(content)
    return folder / inside


@pytest.mark.parametrize("kind", ["binary", "python"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("subfolder", ["", "cifar10"])
def test_every_format(tmp_path, kind, packed, subfolder):
    path = write(tmp_path / subfolder, kind, packed)
    for data_dir in [tmp_path] if packed else [tmp_path, path]:
        train, test = cifar10.load(data_dir=data_dir), cifar10.load("test", data_dir=data_dir)
        batches = [batch(i) for i in range(1, 7)]
        assert np.array_equal(train.images, np.concatenate([images for images, _ in batches[:5]]))
        assert np.array_equal(train.labels, np.concatenate([labels for _, labels in batches[:5]]))
        assert np.array_equal(test.images, batches[5][0]) and np.array_equal(test.labels, batches[5][1])
        assert (train.name, test.name, train.classes) == ("cifar10", "cifar10 test", 10)


def test_downloaded_once_and_kept(tmp_path, monkeypatch):
    path = write(tmp_path / "mirror", "binary")
    monkeypatch.setitem(cifar10.ARCHIVES, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(cifar10.load()) == 5 * N
    path.unlink()
    assert len(cifar10.load()) == 5 * N


def test_a_wrong_checksum_is_not_kept(tmp_path):
    write(tmp_path / "mirror", "binary")
    with pytest.raises(NotFound, match="cifar-10-binary.tar.gz: the content has the wrong checksum"):
        cifar10.load()
    assert os.listdir(cache_dir("cifar10")) == []


def test_missing(tmp_path):
    with pytest.raises(NotFound, match=f"cifar-10-binary.tar.gz or .* is not in {tmp_path}$"):
        cifar10.load(data_dir=tmp_path)
    with pytest.raises(NotFound, match="could not be downloaded: file://.*No such file"):
        cifar10.load()
    with pytest.raises(ValueError, match="split must be one of train, test, got 'dev'"):
        cifar10.load("dev")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "kind, replace, message",
    [
        (
            "binary",
            {"data_batch_2.bin": b"short"},
            "data_batch_2.bin is truncated or damaged: 20 images need 61460 bytes",
        ),
        ("binary", {"data_batch_1.bin": b"\x0a" * 61460}, "data_batch_1.bin: label 10 is none of CIFAR-10"),
        ("python", {"data_batch_3": b"\x80\x02}garbage"}, "data_batch_3 is not a batch of CIFAR-10"),
        (
            "python",
            {"data_batch_3": pickle.dumps({b"labels": [1]})},
            "data_batch_3 is not a batch of CIFAR-10: b'data'",
        ),
        (
            "python",
            {"data_batch_3": pickle.dumps({b"data": np.zeros((3, 5), np.uint8), b"labels": [1]})},
            r"data_batch_3 is not a batch of CIFAR-10: data of uint8 \(3, 5\)",
        ),
    ],
)
def test_damaged_batches(tmp_path, packed, kind, replace, message):
    write(tmp_path, kind, packed, replace)
    with pytest.raises(ValueError, match=message):
        cifar10.load(data_dir=tmp_path)


def test_a_pickle_that_would_run_something_does_not(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "attacked"),)

    write(tmp_path, "python", replace={"data_batch_1": pickle.dumps(Attack())})
    with pytest.raises(ValueError, match="it asks for posix.mkdir, which is no array"):
        cifar10.load(data_dir=tmp_path)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("packed", [True, False])
def test_a_missing_batch(tmp_path, packed):
    write(tmp_path, "binary", packed, leave_out="data_batch_4.bin")
    with pytest.raises(ValueError, match="holds no data_batch_4.bin"):
        cifar10.load(data_dir=tmp_path)


def test_a_truncated_archive(tmp_path):
    path = write(tmp_path, "binary")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=f"{path} is truncated or damaged"):
        cifar10.load(data_dir=tmp_path)
