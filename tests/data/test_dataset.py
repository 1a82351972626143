import numpy as np
import pytest

from tests.data import idx
from tinydiff import data
from tinydiff.data import Dataset, NotFound, bytes_to_signed, signed_to_bytes


def test_every_byte_round_trips():
    images = np.arange(256, dtype=np.uint8)
    signed = bytes_to_signed(images)
    assert signed.dtype == np.float32 and signed[0] == -1 and signed[-1] == 1
    assert np.array_equal(signed_to_bytes(signed), images)
    assert signed_to_bytes(np.array([-3.0, 3.0])).tolist() == [0, 255]


def test_floats_pass_through():
    points = np.array([[0.5, 7.0]], np.float32)
    assert bytes_to_signed(points) is points


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (np.zeros((2, 3), np.int64), [0, 0], "images must be uint8 .* or float32"),
        (np.zeros((0, 3), np.uint8), [], "images .* and not empty"),
        (np.zeros((2, 3), np.uint8), [0], "labels must be 2 integers"),
        (np.zeros((2, 3), np.uint8), [0.0, 1.0], "labels must be 2 integers"),
        (np.zeros((2, 3), np.uint8), [0, 2], r"labels must lie in \[0, 2\), got 0 .. 2"),
        (np.array([[0], [np.inf]], np.float32), [0, 0], "item 1 holds a value that is not finite"),
    ],
)
def test_bad_data(images, labels, message):
    with pytest.raises(ValueError, match=f"mine: {message}"):
        Dataset("mine", images, np.array(labels), 2)


def test_auto_prefers_mnist_and_says_when_it_falls_back(tmp_path, monkeypatch):
    said = []
    idx.write(tmp_path)
    monkeypatch.setenv("TINYDIFF_DATA", str(tmp_path))
    assert data.load("auto", say=said.append).name == "mnist" and not said

    monkeypatch.setenv("TINYDIFF_DATA", str(tmp_path / "empty"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TINYDIFF_MIRROR", (tmp_path / "mirror").as_uri())
    monkeypatch.setattr(data.strokes.load, "__defaults__", (20,))
    assert data.load("auto", say=said.append).name == "strokes"
    assert len(said) == 1 and "MNIST is not to be had" in said[0] and "--data strokes" in said[0]
    for arguments in ({"name": "mnist"}, {"name": "auto", "data_dir": tmp_path / "empty"}):
        with pytest.raises(NotFound):
            data.load(**arguments)


def test_damaged_files_are_never_fallen_back_from(tmp_path):
    images, _ = idx.write(tmp_path)
    images.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="is not an idx file"):
        data.load("auto", data_dir=tmp_path)


def test_unknown_name():
    with pytest.raises(ValueError, match="data must be one of auto, mnist, strokes, cifar10, folder, got 'cifar'"):
        data.load("cifar")
