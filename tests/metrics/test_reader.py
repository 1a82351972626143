"""The reader of scenes: its gradients, what it finds in scenes and in made-up answers, and how it is trained."""

import json

import numpy as np
import pytest
import safetensors

from tests.checks import normal
from tests.model.checks import assert_caught, randomise
from tinydiff import backends
from tinydiff.data import Dataset, captions, scenes, strokes
from tinydiff.metrics import judge, reader
from tinydiff.metrics.reader import Fulfilment, Reader

HELD_OUT = dict(count=300, first=scenes.HELD_OUT)


def answers(digits, count=1):
    """logits (count, 16, 16, 22) of a reader that is sure of what each scene shows: [(digit, colour, x, y)]."""
    truth = np.zeros(1, scenes.TRUTH)
    truth["kind"] = truth["colour"] = -1
    truth["count"] = len(digits)
    for i, (digit, colour, x, y) in enumerate(digits):
        truth["kind"][0, i], truth["colour"][0, i], truth["box"][0, i] = digit, colour, (x - 9, y - 9, x + 9, y + 9)
    kinds, colours = reader._taught(truth, reader.SIZE)
    logits = np.zeros((1, reader.PLACES, reader.PLACES, 1 + reader.KINDS + len(scenes.COLOURS)), np.float32)
    np.put_along_axis(logits, kinds[..., None], 9, axis=3)
    np.put_along_axis(logits[..., 1 + reader.KINDS :], colours.astype(int)[..., None], 9, axis=3)
    return truth, logits


def test_gradient_of_every_parameter_and_of_the_images(monkeypatch):
    model = Reader(backends.get("numpy"), (8, 8, 16), np.float64)
    randomise(model.parameters, 0)
    line = "dh = block.backward(dh, block_cache)"
    assert_caught(monkeypatch, model, model.parameters, {"x": normal(1, 1, 16, 16, 3)}, line, "pass", directions=2)


def test_gradient_of_the_loss():
    truth = scenes.truth(**HELD_OUT)[:3]
    taught = reader._taught(truth, 32)
    logits, direction = normal(0, 3, 16, 16, 22), normal(1, 3, 16, 16, 22)
    _, dlogits = reader._loss(logits, *taught)
    after, before = (reader._loss(logits + h * direction, *taught)[0] for h in (1e-5, -1e-5))
    assert abs((after - before) / 2e-5 - (dlogits * direction).sum()) < 1e-8 * np.abs(dlogits * direction).sum()


@pytest.mark.parametrize(
    "digits",
    [
        [],
        [(3, 1, 12, 20)],
        [(7, 0, 14, 14), (7, 0, 30, 14), (0, 5, 50, 52)],  # the same twice, and near
        [(9, 7, 20, 31), (1, 2, 32, 33), (4, 4, 46, 30)],
    ],
)
def test_what_it_is_sure_of_is_read(digits):
    truth, logits = answers(digits)
    found = reader._things_in(logits)
    assert found["count"] == len(digits) == reader.clear(found)
    assert reader.agreement(found, truth) == (1, 1, 1)
    middles = found["middle"][0, : len(digits)]
    for digit, colour, x, y in digits:
        nearest = np.linalg.norm(middles - (x, y), axis=1).argmin()
        assert np.abs(middles[nearest] - (x, y)).max() < 2
        assert (found["kind"][0, nearest], found["colour"][0, nearest]) == (digit, colour)


def test_agreement_counts_digits_and_colours_apart():
    truth, logits = answers([(3, 1, 12, 20), (5, 2, 40, 40)])
    found = reader._things_in(logits)
    swapped, other, fewer = truth.copy(), truth.copy(), truth.copy()
    swapped["colour"][0, :2] = 2, 1
    other["kind"][0, 0] = 4
    fewer["count"], fewer["kind"][0, 1] = 1, -1
    shares = [reader.agreement(found, each) for each in (truth, swapped, other, fewer)]
    assert shares == [(1, 1, 1), (1, 1, 0), (1, 0, 0), (0, 0, 0)]


def test_fulfilment_counts_things_colours_and_places_apart():
    truth, logits = answers([(3, 1, 12, 20), (5, 2, 40, 44)])  # the first is above the second
    found = reader._things_in(logits)
    said = np.zeros(1, captions.SAID)
    said["kind"], said["colour"], said["relation"] = [3, 5, -1], [1, 2, -1], captions.RELATIONS.index("above")
    below, swapped, other, silent = (said.copy() for _ in range(4))
    below["relation"] = captions.RELATIONS.index("below")
    swapped["colour"] = [2, 1, -1]
    other["kind"] = [3, 6, -1]
    silent["relation"] = -1
    shares = [Fulfilment.of(found, each) for each in (said, below, swapped, other, silent)]
    assert shares == [(1, 1, 1, 1), (1, 1, 0, 0), (1, 0, None, 0), (0, 0, None, 0), (1, 1, None, 1)]
    left = said.copy()
    left["kind"], left["colour"], left["relation"] = [5, 3, -1], [2, 1, -1], captions.RELATIONS.index("right of")
    assert Fulfilment.of(found, left).places == 1
    assert Fulfilment.of(np.repeat(found, 3), np.concatenate([said, other, below])) == (2 / 3, 2 / 3, 1 / 2, 1 / 3)


@pytest.mark.parametrize("size", scenes.SIZES)
def test_real_scenes_are_as_their_captions_say(size):
    data, _, said = captions.load(300, size=size, first=scenes.HELD_OUT, cache=False)
    assert min(Fulfilment.of(reader.read(data.images), said)) > 0.95


@pytest.mark.parametrize("size", scenes.SIZES)
def test_it_reads_held_out_scenes(size):
    images, truth = scenes.load(size=size, **HELD_OUT).images, scenes.truth(size=size, **HELD_OUT)
    found = reader.read(images)
    shares = reader.agreement(found, truth)
    assert min(shares) > 0.97
    assert np.array_equal(reader.classify(images), found["count"].astype(int) - 1)
    assert 0.9 * truth["count"].sum() < reader.clear(found).sum() <= found["count"].sum()
    for n in np.flatnonzero((found["count"] == 1) & (truth["count"] == 1)):
        box = truth["box"][n, 0]
        assert np.abs(found["middle"][n, 0] - (box[:2] + box[2:]) / 2).max() < size / 16


def test_noise_is_not_read():
    noise = np.random.default_rng(0).integers(0, 256, (50, 64, 64, 3)).astype(np.uint8)
    assert reader.clear(reader.read(noise)).sum() <= 5


def test_it_does_not_depend_on_the_batch(monkeypatch):
    images = scenes.load(20, first=scenes.HELD_OUT).images
    whole = reader.read(images)
    monkeypatch.setattr(reader, "BATCH", 7)
    assert np.array_equal(reader.read(images)["kind"], whole["kind"])


def test_what_it_suits():
    drawn = scenes.load(9)
    other = Dataset("other", drawn.images, drawn.labels, 3, ("a", "b", "c"))
    assert reader.suits(drawn) and not reader.suits(other) and not reader.suits(strokes.load(9))


def test_it_can_be_trained_again(tmp_path, capsys, monkeypatch):
    """A short training learns what is ground; the program stores it, and what it stored can be loaded."""
    monkeypatch.setattr(reader, "WIDTHS", (8, 8, 16))
    monkeypatch.setattr(reader, "HELD_OUT", 20)
    out, backend = tmp_path / "weights.safetensors", backends.get("auto")
    small = lambda: reader.train(backend, 100, epochs=2, progress=False).parameters.values
    assert np.array_equal(small(), small())
    reader.main(["--out", str(out), "--count", "100", "--epochs", "2", "--precision", "fp32"])
    assert "epoch 2: count of 32x32 " in capsys.readouterr().out
    with safetensors.safe_open(out, "numpy") as file:
        about = json.loads(file.metadata()["tinydiff"])
    assert about["epochs"] == 2 and about["scenes of each size"] == 100 and 0 <= about["kinds of 64x64"] <= 1
    model = Reader(backend, reader.WIDTHS)
    monkeypatch.setattr(judge, "path_of", lambda name: out)
    judge.load_weights(model, reader.WEIGHTS)
    assert np.abs(model.parameters.values - small()).max() < 1e-2
    with pytest.raises(ValueError, match="the reader learns from at least 1 epoch of 100 scenes, got 2 of 99"):
        reader.train(backend, 99, epochs=2)


def test_other_images_are_refused():
    with pytest.raises(ValueError, match="the reader of scenes takes images of 32x32x3 or 64x64x3, got 28x28x1"):
        reader.read(np.zeros((2, 28, 28, 1), np.uint8))


def test_what_comes_with_the_package_is_small():
    assert len(judge.path_of(reader.WEIGHTS).read_bytes()) <= 1.5e6
