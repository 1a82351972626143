import json

import numpy as np
import pytest
import safetensors
from PIL import Image

from tests.checks import assert_close, backend_or_skip, normal
from tests.data import idx
from tests.model.checks import assert_caught, make, randomise
from tinydiff import backends
from tinydiff.data import Dataset, NotFound, cifar10, mnist, strokes
from tinydiff.metrics import classifier, judge
from tinydiff.metrics.classifier import CIFAR10, MNIST, Block, Classifier, Config

SMALL = Config(size=7, image_channels=3, widths=(8, 16), residual=(1,), features=6, classes=3)


def colours(n=100, size=32, names=cifar10.CLASSES, seed=0):
    """Noise over stripes, in each class of another width: of odd ones upright."""
    labels = np.arange(n) % len(names)
    images = np.random.default_rng(seed).integers(0, 60, (n, size, size, 3)).astype(np.uint8)
    for image, label in zip(images, labels):
        stripes = np.arange(size) // (label // 2 + 1) % 2 == 0
        image[(slice(None), stripes) if label % 2 else stripes] += 180
    return Dataset("colours", images, labels, len(names), tuple(names))


def save(dataset, folder):
    """The images of a data set as a folder for each class."""
    for i, (image, label) in enumerate(zip(dataset.images, dataset.labels)):
        path = folder / dataset.class_names[label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


@pytest.fixture
def small(monkeypatch):
    """The kind for colour images, smaller and easier to train."""
    kind = CIFAR10._replace(
        config=CIFAR10.config._replace(widths=(8, 16, 32), residual=(1,), features=6),
        recipe=CIFAR10.recipe._replace(batch=20, learning_rate=1e-2, largest_shift=1),
    )
    monkeypatch.setattr(classifier, "CIFAR10", kind)
    return kind


@pytest.mark.parametrize("config", [MNIST.config, SMALL])
def test_gradient_of_every_parameter_and_of_the_images(monkeypatch, config):
    """Along random directions, and it sees a backward that forgets to go through SiLU."""
    model = Classifier(config, backends.get("numpy"), np.float64)
    randomise(model.parameters, 0)
    inputs = {"x": normal(1, 2, *config.shape)}
    line = "dh = self.backend.silu.backward(dh, cache.silu)"
    assert_caught(monkeypatch, model, model.parameters, inputs, line, "pass", directions=2)


@pytest.mark.parametrize("line", ["through_residual + ", " + through_sum"])
def test_gradient_of_a_residual_block(monkeypatch, line):
    block, parameters = make(lambda parameters: Block(parameters, "block", 3, 8, stride=2, residual=True))
    assert_caught(monkeypatch, block, parameters, {"x": normal(1, 2, 5, 5, 3)}, line, directions=2)


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


def test_it_knows_the_classes_of_cifar10():
    """At least 80 % of the test images."""
    try:
        test = cifar10.load("test", download=False)
    except NotFound as error:
        pytest.skip(str(error))
    assert (classifier.classify(test.images, kind=CIFAR10) == test.labels).mean() >= 0.8


@pytest.mark.parametrize("kind, images", [(MNIST, strokes.load(30).images), (CIFAR10, colours(30).images)])
def test_features_do_not_depend_on_the_batch(monkeypatch, kind, images):
    net = classifier.feature_net("numpy", kind)
    whole = net.features(images)
    assert whole.shape == (30, kind.config.features)
    monkeypatch.setattr(classifier, "BATCH", 7)
    assert_close(net.features(images), whole, 1e-5)


def test_what_comes_with_the_package_is_small():
    for kind in (MNIST, CIFAR10):
        assert (
            classifier.load("numpy", kind).parameters.count <= 750_000
            and len(judge.path_of(kind.weights).read_bytes()) <= 1.5e6
        )


def test_which_classifier_suits_which_data():
    cars = colours(names=("car", "tree"))
    known = colours(), colours(20, size=64), strokes.load(9)
    assert [classifier.of_classes(each) for each in (*known, cars)] == [CIFAR10, CIFAR10, MNIST, None]
    assert [classifier.of_images(each) for each in (*known, cars)] == [CIFAR10, CIFAR10, MNIST, CIFAR10]
    gray = Dataset("gray", np.zeros((9, 32, 32, 1), np.uint8), np.zeros(9, int), 1)
    points = Dataset("points", np.zeros((9, 2), np.float32), np.zeros(9, int), 1)
    assert not any(classifier.of_images(each) for each in (gray, points, colours(20, size=48), colours(20, size=16)))
    backwards = colours(names=cifar10.CLASSES[::-1])  # the labels mean something else
    assert classifier.of_classes(backwards) is None and classifier.of_images(backwards) is CIFAR10


def test_larger_images_are_brought_to_its_size_by_area():
    images = colours(20, size=96).images
    means = [[images[:, h : h + 3, w : w + 3].mean(axis=(1, 2)) for w in range(0, 96, 3)] for h in range(0, 96, 3)]
    reduced = np.array(means).transpose(2, 0, 1, 3).astype(np.float32) / np.float32(127.5) - 1
    net = classifier.feature_net("auto", CIFAR10, 96)
    assert_close(net.features(images), net.features(reduced), 1e-4)
    assert net.name == "tinydiff's CIFAR-10 classifier, 128 features, of images brought from 96x96 to 32x32"
    assert classifier.feature_net("auto", CIFAR10, 32).name == "tinydiff's CIFAR-10 classifier, 128 features"


def test_it_can_be_trained_again(tmp_path):
    """A short training on easy images learns them, twice to the same bits; the program stores what it made."""
    idx.write(tmp_path, n=200)
    data, backend = mnist.load(data_dir=tmp_path), backends.get("auto")
    first, second = (classifier.train(data, backend, epochs=10, progress=False) for _ in range(2))
    assert np.array_equal(first.parameters.values, second.parameters.values)
    logits, _ = first.forward(backend.asarray(data.images[:100] / np.float32(127.5) - 1))
    assert (logits.argmax(axis=1) == data.labels[:100]).mean() > 0.9
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        classifier.train(data, backend, epochs=0)
    with pytest.raises(ValueError, match="training takes at least 100 images, got 40"):
        idx.write(tmp_path, n=40)
        classifier.train(mnist.load(data_dir=tmp_path), backend)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_with_residuals_learns_in_either_precision(small, precision):
    data, backend = colours(), backend_or_skip("auto", precision)
    model = classifier.train(data, backend, small, epochs=20, progress=False)
    assert (classifier._answers(model, data.images) == data.labels).mean() > 0.7  # by chance 0.1


def test_the_program_stores_what_it_made(small, tmp_path, capsys, monkeypatch):
    """And until it has made it, after each epoch the average so far, beside that file."""
    folders = [save(colours(60, seed=seed), tmp_path / str(seed)) for seed in (0, 1)]
    out = tmp_path / "weights.safetensors"
    arguments = ["--data", "folder", "--data-dir", folders[0], "--test-dir", folders[1], "--out", out, "--epochs", "2"]
    stored, write_atomically = [], judge.write_atomically

    def write(path, content):
        write_atomically(path, content)
        stored.append(path.name)

    monkeypatch.setattr(judge, "write_atomically", write)
    classifier.main(list(map(str, arguments)))
    assert stored == ["weights.safetensors.unfinished"] * 2 and not (tmp_path / stored[0]).exists()
    said = capsys.readouterr().out
    assert "epoch 2: test accuracy " in said and f"wrote {out}" in said
    with safetensors.safe_open(out, "numpy") as file:
        about = json.loads(file.metadata()["tinydiff"])
        assert about["epochs"] == 2 and about["data"] == "cifar10" and 0 <= about["test accuracy"] <= 1
        assert {str(file.get_tensor(name).dtype) for name in file.keys()} == {"float16"}
    monkeypatch.setattr(judge, "path_of", lambda name: out)
    assert len(classifier._answers(classifier.trained(backends.get("auto"), small), colours().images)) == 100


@pytest.mark.parametrize(
    "train, test, message",
    [
        (colours(20, names=("car", "tree")), colours(), "data: the classifier of CIFAR-10 is trained on its"),
        (colours(20, size=64), colours(), "data: the classifier of CIFAR-10 is trained on its images and classes"),
        (colours(), colours(20, names=("car", "tree")), "test_dir: the classifier of CIFAR-10 is trained on"),
        (colours(), None, "test_dir: the classifier of CIFAR-10 is trained on its images and classes"),
    ],
)
def test_the_program_refuses_other_images(small, tmp_path, train, test, message):
    arguments = ["--data", "folder", "--data-dir", str(save(train, tmp_path / "train")), "--out", str(tmp_path / "out")]
    if test:
        arguments += ["--test-dir", str(save(test, tmp_path / "test"))]
    with pytest.raises(ValueError, match=message):
        classifier.main(arguments)
    assert not (tmp_path / "out").exists()


def test_shifted_images_keep_their_ink():
    images = np.zeros((50, 28, 28, 1), np.uint8)
    images[:, 10, 12] = 200
    shifted = classifier._varied(images, MNIST.recipe, np.random.default_rng(0))
    assert shifted.shape == images.shape and (shifted.sum(axis=(1, 2, 3)) == 200).all()
    _, row, column, _ = np.nonzero(shifted)
    assert set(row - 10) == set(column - 12) == {-2, -1, 0, 1, 2}


def test_half_of_the_images_are_mirrored_whole():
    images = np.repeat(np.arange(32, dtype=np.uint8)[:, None], 3, axis=1) * np.ones((400, 32, 1, 1), np.uint8)
    images += (np.arange(400) % 7 * 32).astype(np.uint8).reshape(-1, 1, 1, 1)
    recipe = CIFAR10.recipe._replace(largest_shift=0)
    varied = classifier._varied(images, recipe, np.random.default_rng(0))
    mirrored = (varied == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert np.array_equal(varied[~mirrored], images[~mirrored]) and 150 < mirrored.sum() < 250
    assert (varied.flags.c_contiguous, varied.dtype) == (True, np.uint8)


def test_other_images_are_refused():
    with pytest.raises(ValueError, match="the classifier takes images of 28x28x1, got 32x32x3"):
        classifier.classify(np.zeros((2, 32, 32, 3), np.uint8))
