"""The error of a classifier's features: its gradient, on every backend, and in the training of an autoencoder."""

import math

import numpy as np
import pytest

from tests.checks import COMPILED, assert_close, backend_or_skip, broken
from tests.train import tiny, tiny_vae
from tinydiff import backends
from tinydiff.data.dataset import Dataset
from tinydiff.gradcheck import GradientMismatch, check_adjoint
from tinydiff.program import memory, runs
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.feature_error import FeatureError

SHAPES = [(28, 28, 1), (32, 32, 3), (64, 64, 3)]


def images(shape, seed, dtype=np.float64):
    return np.random.default_rng(seed).uniform(-1, 1, (2, *shape)).astype(dtype)


def check(shape):
    error, y, x = FeatureError(shape, backends.get("numpy"), np.float64), images(shape, 0), images(shape, 1)
    backward = lambda dy, cache: error.backward(float(dy[0]), cache)
    check_adjoint(lambda: error.forward(y, x), backward, {"y": y}, directions=2)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient(shape):
    check(shape)


@pytest.mark.parametrize("line", ["dx = self.backend.conv2d.backward(dx, cache.brought)[0]", " / len(cache.errors)"])
def test_a_wrong_gradient_is_seen(monkeypatch, line):
    instead = "dx = dx.repeat(2, axis=1).repeat(2, axis=2)" if "conv2d" in line else ""
    monkeypatch.setattr(FeatureError, "backward", broken(FeatureError.backward, line, instead))
    with pytest.raises(GradientMismatch):
        check((64, 64, 3))


def test_images_that_are_alike_have_none():
    error, x = FeatureError((32, 32, 3), backends.get("auto")), images((32, 32, 3), 0, np.float32)
    found, cache = error.forward(x.copy(), x)
    assert found.shape == (1,) and found[0] == 0 and not np.any(error.backward(1.0, cache))


@pytest.mark.parametrize("precision, tolerance", [("fp32", 1e-5), ("bf16", 0.04)])
@pytest.mark.parametrize("name", COMPILED)
def test_every_backend(name, precision, tolerance):
    backend, shape = backend_or_skip(name, precision), (64, 64, 3)
    y, x = images(shape, 0), images(shape, 1)
    reference = FeatureError(shape, backends.get("numpy"), np.float64)
    wanted, cache = reference.forward(y, x)
    gradient = reference.backward(0.5, cache)
    error = FeatureError(shape, backend)
    found, cache = error.forward(*(backend.asarray(each, np.float32) for each in (y, x)))
    assert math.isclose(backend.to_numpy(found)[0], wanted[0], rel_tol=tolerance)
    scale = np.abs(gradient).max()
    assert_close(backend.to_numpy(error.backward(0.5, cache)) / scale, gradient / scale, tolerance)


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 1), (48, 48, 3)])
def test_images_that_no_classifier_takes(shape):
    given = "x".join(map(str, shape))
    with pytest.raises(ValueError, match=f"feature_weight needs images .* got {given}"):
        FeatureError(shape, backends.get("numpy"))


def trainer(backend=None, **changes):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3)).astype(np.uint8)
    data = Dataset("pets", pixels, np.zeros(16, np.int64), 1)
    model = dict(size=32, image_channels=3)
    return tiny_vae.trainer(data, model, backend, **{"feature_weight": 0.5, "steps": 20, **changes})


def test_it_is_reported_and_counts():
    metrics, without = trainer().train_step(), trainer(feature_weight=0.0).train_step()
    assert metrics.features > 0.1 and without.features == 0.0
    assert metrics.loss == metrics.reconstruction + 1e-4 * metrics.kl + 0.5 * metrics.features
    assert without.loss == metrics.reconstruction + 1e-4 * metrics.kl
    assert metrics.grad_norm != without.grad_norm


def test_the_gradients_are_those_of_the_loss():
    """Along themselves the loss rises by their norm."""
    one = trainer(feature_weight=5.0)
    one.optimizer.prepare(1, 0.0)
    values = one.parameters.values
    one.one_part()
    gradient = one.parameters.grads.copy()
    norm, before, losses = np.linalg.norm(gradient), values.copy(), []
    for sign in (1, -1):
        values[...] = before + sign * 1e-3 / norm * gradient
        losses.append(one._numbers(one.one_part())["loss"])
    assert (losses[0] - losses[1]) / 2e-3 == pytest.approx(norm, rel=0.02)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_captured_it_has_the_same_bits(precision):
    """A program leaves out the gradients of the classifier's weights, which nobody reads."""
    backend = backend_or_skip("cpu", precision)
    one, other = trainer(backend), trainer(backend, captured=False)
    for _ in range(3):
        assert one.train_step() == other.train_step()
    assert tiny.state(one) == tiny.state(other)


def test_parts_are_the_whole_batch():
    one, other = trainer().train_step(), trainer(parts=2).train_step()
    for name in ("loss", "features", "grad_norm"):
        assert math.isclose(getattr(one, name), getattr(other, name), rel_tol=1e-4)


def test_what_it_reads_has_names():
    program = runs.train(trainer(backend_or_skip("cpu", "fp32"))).program
    assert "classifier.blocks.0.conv.weight" in program.names and not any("constant" in name for name in program.names)


def test_without_it_a_run_is_described_as_before():
    """So the digests of older autoencoders stay."""
    assert "feature_weight" not in trainer(feature_weight=0.0).config.to_dict()
    checkpoint = trainer().checkpoint()
    assert checkpoint.config.to_dict()["feature_weight"] == 0.5
    other = checkpoint._replace(config=trainer(feature_weight=0.0).config)
    assert checkpoints.digest(checkpoint) != checkpoints.digest(other)


def test_memory_tells_the_classifier_apart():
    with_it, without = (
        memory.expect_enough(each.config, backends.get("numpy"), each.dataset)[0]
        for each in (trainer(), trainer(feature_weight=0.0))
    )
    assert with_it.state == without.state and with_it.step > without.step
    classifier = FeatureError((32, 32, 3), backends.get("numpy")).classifier
    assert with_it.frozen == {"classifier": classifier.parameters.values.nbytes}
