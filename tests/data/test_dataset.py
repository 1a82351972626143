import dataclasses
import json

import numpy as np
import pytest

from tests.data import idx
from tinydiff import data
from tinydiff.data import Dataset, Identity, NotFound, bytes_to_signed, signed_to_bytes


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


def test_class_names_must_match():
    with pytest.raises(ValueError, match="mine: class_names must be 2 names, got 1"):
        Dataset("mine", np.zeros((2, 3), np.uint8), np.array([0, 1]), 2, ("cat",))


def pets(counts=(2, 1), class_names=("cat", "dog"), **changes):
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.zeros((len(labels), 4, 4, 1), np.uint8)
    return dataclasses.replace(Dataset("folder", images, labels, len(counts), class_names), **changes)


@pytest.mark.parametrize(
    "other, difference",
    [
        (pets(), ""),
        (pets(name="strokes"), "it is strokes, not folder"),
        (pets(class_names=("dog", "zebra")), "its classes are others: without cat; with zebra"),
        (pets(class_names=("dog", "cat")), "its classes are others: in another order"),
        (pets((2, 1, 1), ("cat", "dog", "zebra")), "its classes are others: with zebra"),
        (pets((2, 2)), "class dog has 2 images, not 1"),
        (pets(images=np.zeros((3, 5, 5, 1), np.uint8)), r"its images are (5, 5, 1), not (4, 4, 1)"),
        (pets(files_digest="abc"), "its files have other names or content"),
    ],
)
def test_a_data_set_is_known_again(other, difference):
    identity = pets().identity
    assert identity.difference(other.identity) == difference
    assert (identity.digest == other.identity.digest) == (not difference)
    assert Identity.from_json(json.loads(json.dumps(other.identity._asdict()))) == other.identity


@pytest.mark.parametrize("change", [dict(counts=["2"]), dict(name=1), dict(class_names=[None]), dict(digits=1), dict(more=1)])
def test_an_identity_of_other_types_is_refused(change):
    with pytest.raises(TypeError):
        Identity.from_json({**pets().identity._asdict(), **change})


def test_auto_prefers_mnist_and_says_when_it_falls_back(tmp_path, monkeypatch):
    said = []
    idx.write(tmp_path)
    monkeypatch.setenv("TINYDIFF_DATA", str(tmp_path))
    assert data.load("auto", say=said.append).name == "mnist"
    assert "not MNIST but of unknown content" in said.pop() and not said

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
    with pytest.raises(ValueError, match="data must be one of auto, mnist, strokes, cifar10, scenes, folder, got 'cifar'"):
        data.load("cifar")
