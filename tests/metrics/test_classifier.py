import numpy as np
import pytest

from tests.checks import assert_close, normal
from tests.data import idx
from tests.model.checks import assert_caught, randomise
from tinydiff import backends
from tinydiff.data import NotFound, mnist, strokes
from tinydiff.metrics import classifier


def test_gradient_of_every_parameter_and_of_the_images(monkeypatch):
    """Along random directions, and it sees a backward that forgets to go through SiLU."""
    model = classifier.Classifier(backends.get("numpy"), np.float64)
    randomise(model.parameters, 0)
    inputs = {"x": normal(1, 2, 28, 28, 1)}
    line = "dh = self.backend.silu.backward(dh, cache.silu)"
    assert_caught(monkeypatch, model, model.parameters, inputs, line, "pass", directions=2)


def test_it_reads_the_digits_of_mnist():
    """At least 99.0 % of the test images, as they are stored in the package."""
    try:
        test = mnist.load("test", download=False)
    except NotFound as error:
        pytest.skip(str(error))
    assert (classifier.classify(test.images) == test.labels).mean() >= 0.99


def test_it_reads_drawn_digits():
    """Another hand than any it was trained on; runs everywhere."""
    data = strokes.load(500)
    assert (classifier.classify(data.images) == data.labels).mean() > 0.9


def test_features_do_not_depend_on_the_batch(monkeypatch):
    images, net = strokes.load(30).images, classifier.feature_net("numpy")
    whole = net.features(images)
    assert whole.shape == (30, classifier.FEATURES)
    monkeypatch.setattr(classifier, "BATCH", 7)
    assert_close(net.features(images), whole, 1e-5)


def test_it_can_be_trained_again(tmp_path):
    """A short training on easy images learns them, twice to the same bits; the program stores what it made."""
    idx.write(tmp_path, n=200)
    data, backend = mnist.load(data_dir=tmp_path), backends.get("auto")
    first, second = (classifier.train(data, backend, epochs=10, progress=False) for _ in range(2))
    assert np.array_equal(first.parameters.values, second.parameters.values)
    logits, _ = first.forward(backend.asarray(data.images[:100] / np.float32(127.5) - 1))
    assert (logits.argmax(axis=1) == data.labels[:100]).mean() > 0.9


def test_shifted_images_keep_their_ink():
    images = np.zeros((50, 28, 28, 1), np.uint8)
    images[:, 10, 12] = 200
    shifted = classifier._shifted(images, np.random.default_rng(0))
    assert shifted.shape == images.shape and (shifted.sum(axis=(1, 2, 3)) == 200).all()
    _, row, column, _ = np.nonzero(shifted)
    assert set(row - 10) == set(column - 12) == {-2, -1, 0, 1, 2}


def test_other_images_are_refused():
    with pytest.raises(ValueError, match="the classifier takes images of 28x28x1, got 32x32x3"):
        classifier.classify(np.zeros((2, 32, 32, 3), np.uint8))
