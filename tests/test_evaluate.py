"""``tinydiff evaluate``: everything that can be said of a model's samples, from one command."""

import dataclasses
import json

import numpy as np
import pytest

from tests.checks import backend_or_skip
from tests.metrics.test_classifier import colours
from tests.metrics.test_classifier import save as save_images
from tests.train import tiny
from tinydiff import cli
from tinydiff.commands import evaluate as command
from tinydiff.data import Dataset, bytes_to_signed, captions, scenes, strokes
from tinydiff.evaluate import NO_CLASSES, NO_FEATURES, NO_LABELS, Said, measure, proportional_labels
from tinydiff.metrics import classifier, inception
from tinydiff.metrics.classifier import CIFAR10
from tinydiff.metrics.fid import FeatureNet
from tinydiff.train import checkpoint as checkpoints

BRIEF = ["--samples", "20", "--steps", "2", "--guidance", "1"]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def few_strokes(monkeypatch):
    monkeypatch.setattr(strokes.load, "__defaults__", (100,))


def save(path, dataset):
    """A checkpoint of a model for that data set, not trained."""
    _, size, _, channels = dataset.images.shape
    model = dict(size=size, image_channels=channels, classes=dataset.classes)
    checkpoints.save(path, tiny.trainer(dataset, model).checkpoint())


def test_one_command_measures_everything(few_strokes, tmp_path, capsys):
    path, written = tmp_path / "model.safetensors", tmp_path / "results.json"
    save(path, strokes.load())
    assert cli.main(["evaluate", str(path), *BRIEF, "--samples", "80", "--json", str(written)]) == 0
    out = capsys.readouterr().out
    for words in ("conditional accuracy", "FID ", "floor", "MMD^2", "two such sets of real data", "memorisation"):
        assert words in out
    results = json.loads(written.read_text())
    assert set(results) == {"drawn", "accuracy", "fid", "mmd", "memorisation"}
    assert results["drawn"]["samples"] == 80 and results["drawn"]["training_step"] == 0
    assert results["drawn"]["precision"] == "fp32"
    assert results["fid"]["value"] > 2 * results["fid"]["floor"]  # noise is no digit
    assert results["mmd"]["value"] > results["mmd"]["band"][1]
    assert results["accuracy"]["value"] < 0.7 < results["accuracy"]["test"]


def test_samples_drawn_in_bfloat16(few_strokes, tmp_path, capsys):
    backend_or_skip("auto", "bf16")
    path, written = tmp_path / "model.safetensors", tmp_path / "results.json"
    save(path, strokes.load())
    both = []
    for precision in ("fp32", "bf16"):
        arguments = [*BRIEF, "--precision", precision, "--samples", "80", "--json", str(written)]
        assert cli.main(["evaluate", str(path), *arguments]) == 0
        assert f"precision {precision}" in capsys.readouterr().out
        both.append(json.loads(written.read_text()))
        assert both[-1]["drawn"]["precision"] == precision
    one, other = (results["fid"] for results in both)
    assert abs(one["value"] - other["value"]) < 0.05 * one["value"]
    assert one["floor"] == other["floor"]  # the judge is the same


def test_of_too_few_samples_no_value_is_shown_that_says_nothing(few_strokes, tmp_path, capsys):
    path, written = tmp_path / "model.safetensors", tmp_path / "results.json"
    save(path, strokes.load())
    assert cli.main(["evaluate", str(path), *BRIEF, "--samples", "4", "--json", str(written)]) == 0
    reasons = {
        "fid": "not measured: FID of 64 features needs more than 64 samples, got 4",
        "mmd": "not measured: MMD needs at least 5 samples and 10 real points, got 4 and 8",
    }
    results = json.loads(written.read_text())
    assert {name: results[name] for name in reasons} == reasons
    out = capsys.readouterr().out
    assert all(reason in out for reason in reasons.values())
    one = dataclasses.replace(strokes.load(), images=strokes.load().images[:1], labels=np.zeros(1, int))
    assert measure(bytes_to_signed(one.images), one.labels, one)["memorisation"] == (
        "not measured: memorisation without test images needs at least 2 training images, got 1"
    )


def test_real_digits_are_told_from_other_labels():
    """Real digits as samples reach the floor of everything; asked for as other digits, no accuracy."""
    train, test, real = strokes.load(300), strokes.load(200, first=300), strokes.load(200, first=500)
    results = measure(bytes_to_signed(real.images), real.labels, train, test)
    assert results["accuracy"].value > 0.9
    assert results["fid"].value < 3 * results["fid"].floor
    assert results["mmd"].value < results["mmd"].band[1] + 1e-3
    assert results["memorisation"].near < 0.1
    wrong = measure(bytes_to_signed(real.images), (real.labels + 1) % 10, train, test)
    assert wrong["accuracy"].value < 0.1


def test_other_images_get_what_can_be_measured():
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3)).astype(np.uint8)
    noise = Dataset("noise", images, np.zeros(60, np.int32), 1)
    results = measure(bytes_to_signed(images[:20]), noise.labels[:20], noise)
    assert (results["accuracy"], results["fid"]) == (NO_CLASSES, NO_FEATURES)
    assert results["memorisation"].near == 1 and results["mmd"].n == 20


def test_colour_images_have_features_and_those_of_cifar10_s_classes_are_recognised():
    """By the class names: stripes are asked for in the classes that the classifier takes them for."""
    train, test, other = colours(200), colours(140, seed=1), colours(140, seed=2)
    seen = classifier.classify(other.images, kind=CIFAR10)
    results = measure(bytes_to_signed(other.images), seen, train, test)
    assert results["accuracy"].value == 1 and results["accuracy"].n == results["accuracy"].test_n == 140
    assert results["accuracy"].test == (classifier.classify(test.images, kind=CIFAR10) == test.labels).mean()
    assert results["fid"].value < 3 * results["fid"].floor and "128 features" in results["fid"].net
    assert measure(bytes_to_signed(255 - other.images), seen, train, test)["fid"].value > 10 * results["fid"].floor

    names = [f"class {i}" for i in range(10)]
    unknown = measure(bytes_to_signed(other.images), seen, colours(200, names=names), colours(140, names=names, seed=1))
    assert unknown["accuracy"] == NO_CLASSES and unknown["fid"] == results["fid"]
    assert measure(bytes_to_signed(other.images), None, train, test)["accuracy"] == NO_LABELS


def test_larger_images_say_what_was_done_to_them():
    train, samples = colours(200, size=64), bytes_to_signed(colours(150, size=64, seed=1).images)
    result = measure(samples, None, train)["fid"]
    assert "of images brought from 64x64 to 32x32" in result.net


def test_without_held_out_images_it_is_said():
    train, samples = colours(200), colours(150, seed=1)
    results = measure(bytes_to_signed(samples.images), samples.labels, train)
    assert results["fid"].floor is None and "no floor, as no images were held out" in str(results["fid"])
    assert results["accuracy"].test is None and str(results["accuracy"]).endswith("; no images were held out")


@pytest.fixture
def folders(tmp_path):
    """Images to train on and others, of the classes of CIFAR-10, and a checkpoint of a model of the former."""
    for seed, name in enumerate(("train", "test")):
        save_images(colours(150, seed=seed), tmp_path / name)
    train = dataclasses.replace(colours(150), name="folder")
    model = dict(size=32, image_channels=3, classes=10)
    checkpoint = tiny.trainer(train, model).checkpoint()
    checkpoints.save(tmp_path / "model.safetensors", checkpoint._replace(data_set=None))
    return tmp_path


def of_folders(folders, *arguments):
    return cli.main(["evaluate", str(folders / "model.safetensors"), *BRIEF, *map(str, arguments)])


def test_a_folder_of_held_out_images_gives_a_floor(folders, capsys):
    written, train = folders / "results.json", folders / "train"
    assert of_folders(folders, "--data-dir", train, "--samples", "140", "--json", written) == 0
    assert "no floor" in capsys.readouterr().out
    without = json.loads(written.read_text())
    assert without["fid"]["floor"] is None and without["accuracy"]["test"] is None
    assert without["memorisation"]["held_out"] == "training images (to another)"
    arguments = ["--data-dir", train, "--test-dir", folders / "test", "--samples", "140", "--json", written]
    assert of_folders(folders, *arguments) == 0
    having = json.loads(written.read_text())
    assert having["fid"]["value"] == without["fid"]["value"] > having["fid"]["floor"] > 0
    assert having["fid"]["floor_n"] == 140 and having["accuracy"]["test_n"] == 150
    assert having["memorisation"]["held_out"] == "test images"


def test_images_that_were_not_held_out_of_these_are_refused(folders, capsys):
    save_images(colours(40, names=["car", "tree"]), folders / "others")
    for i in range(10):
        gray = np.zeros((1, 32, 32), np.uint8)
        save_images(Dataset("gray", gray, np.zeros(1, int), 1, (colours().class_names[i],)), folders / "gray")
    missing = "airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck"
    not_like = "test_dir is not like the images that the model was trained on"
    train = folders / "train"
    for test_dir, message in {
        train: f"test_dir must hold images that were held out, and {train} is the training set",
        folders / "others": f"{not_like}: its classes are others: without {missing}; with car, tree",
        folders / "gray": f"{not_like}: its images are (32, 32, 1), not (32, 32, 3)",
        folders / "nowhere": f"{folders / 'nowhere'} is not a folder",
    }.items():
        assert of_folders(folders, "--data-dir", train, "--test-dir", test_dir) == 2
        assert capsys.readouterr().err.strip().splitlines()[-1] == f"tinydiff: {message}"


def test_held_out_images_of_another_set_are_refused(few_strokes, tmp_path, capsys):
    save(tmp_path / "model.safetensors", strokes.load())
    assert cli.main(["evaluate", str(tmp_path / "model.safetensors"), *BRIEF, "--test-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.strip() == "tinydiff: test_dir goes with data 'folder', not 'strokes'"


def test_fid_by_another_network(folders, capsys, monkeypatch):
    """It takes the place of the classifier's, for images of any kind; of too few images nothing is drawn."""
    asked = []

    def feature_net(path, backend_name):
        asked.append(path)
        return FeatureNet("means of three channels", "a", lambda images: bytes_to_signed(images).mean(axis=(1, 2)))

    monkeypatch.setattr(inception, "feature_net", feature_net)
    monkeypatch.setattr(inception, "FEATURES", 3)
    arguments = ["--data-dir", folders / "train", "--test-dir", folders / "test", "--inception", "weights"]
    assert of_folders(folders, *arguments) == 0 and asked == ["weights"]
    assert "of 20 test images; means of three channels)" in capsys.readouterr().out
    monkeypatch.setattr(command, "draw", None)
    for images, n in ("samples", 20), ("training images", 150):
        monkeypatch.setattr(inception, "FEATURES", n)
        number = ["--samples", "300"] if images != "samples" else []
        assert of_folders(folders, *arguments, *number) == 2
        line = f"tinydiff: inception: FID of {n} features needs more than {n} {images}, got {n}"
        assert capsys.readouterr().err.strip().splitlines()[-1] == line


def test_weights_that_are_none_are_refused_before_images_are_read(folders, capsys):
    (folders / "weights.pth").write_bytes(b"PK...")
    assert of_folders(folders, "--data-dir", folders / "nowhere", "--inception", folders / "weights.pth") == 2
    assert "weights.pth is a pickle, which could run any program" in capsys.readouterr().err


@pytest.mark.parametrize("train_digits, test_digits", [(True, False), (False, True)])
def test_the_classifier_reads_nothing_but_digits(train_digits, test_digits):
    """Where files that have MNIST's names hold something else, on either side."""
    train, test = (
        dataclasses.replace(strokes.load(80, first=first), name="mnist", digits=digits)
        for first, digits in ((0, train_digits), (80, test_digits))
    )
    results = measure(bytes_to_signed(test.images), test.labels, train, test)
    assert results["accuracy"].startswith("not measured") and results["fid"].startswith("not measured")
    assert results["memorisation"].held_out == "test images"


def test_labels_in_the_proportions_of_the_data():
    labels = np.array([0] * 30 + [1] * 10)
    dataset = Dataset("mine", np.zeros((40, 2), np.float32), labels, 2)
    assert np.bincount(proportional_labels(dataset, 8)).tolist() == [6, 2]
    assert len(proportional_labels(dataset, 1000)) == 1000


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--steps", "99"], "steps must be an integer in [1, 50], the schedule's noise steps, got 99"),
        (["--json", "/nonexistent/x.json"], "json: the folder /nonexistent does not exist"),
        (["--eta", "1", "--sampler", "heun"], "eta is not an option of the sampler heun"),
    ],
)
def test_bad_arguments(few_strokes, tmp_path, capsys, arguments, message):
    save(tmp_path / "model.safetensors", strokes.load())
    assert cli.main(["evaluate", str(tmp_path / "model.safetensors"), *BRIEF, *arguments]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == f"tinydiff: {message}"


def test_a_checkpoint_of_other_images_is_refused(few_strokes, tmp_path, capsys):
    checkpoint = tiny.trainer().checkpoint()
    config = dataclasses.replace(checkpoint.config, data="strokes")
    checkpoints.save(tmp_path / "model.safetensors", checkpoint._replace(config=config))
    assert cli.main(["evaluate", str(tmp_path / "model.safetensors"), *BRIEF]) == 2
    assert "strokes has images of (28, 28, 1), the model takes (8, 8, 1)" in capsys.readouterr().err


def test_scenes_are_read(monkeypatch):
    """Their class is how many digits they have; how many of those asked for are clear is told too."""
    train, test = scenes.load(300), scenes.load(60, first=scenes.HELD_OUT)
    real = bytes_to_signed(test.images)
    results = measure(real, test.labels, train, test)
    assert results["accuracy"].value == results["accuracy"].test > 0.9
    assert results["digits"].value == results["digits"].test > 0.9
    assert results["digits"].n == results["digits"].test_n == 120 and "of 120 digits that were asked" in str(
        results["digits"]
    )
    more = measure(real, np.full_like(test.labels, 2), train, None)  # three digits were asked for
    assert abs(more["accuracy"].value - 1 / 3) < 0.1 and abs(more["digits"].value - 120 / 180) < 0.1
    assert more["digits"].test is None and "no images were held out" in str(more["digits"])
    blurred = measure(np.zeros_like(real), test.labels, train, test)
    assert blurred["accuracy"].value == blurred["digits"].value == 0
    assert measure(real, None, train, test)["digits"] == NO_LABELS


def test_scenes_are_compared_with_their_captions():
    def made(count, unseen):
        data, _, said = captions.load(count, first=scenes.HELD_OUT, unseen=unseen, cache=False)
        return data, said

    (known, known_said), (new, new_said) = made(70, False), made(30, True)
    images = np.concatenate([known.images, new.images])
    test = Dataset("scenes", images, np.zeros(100, int), 1)
    said = Said(np.concatenate([known_said, new_said]), np.arange(100) >= 70)
    results = measure(bytes_to_signed(images), None, known, test, said=said)
    found = results["captions"]
    assert (found.n, found.new_n) == (70, 30) and found.known.all > 0.9 and found.new.all > 0.9
    assert "accuracy" not in results and "digits" not in results
    assert "of 30 with a thing in a colour never seen on it" in str(found) and "of test images " in str(found)
    told = command._by_name(found)
    assert told["n"] == 70 and told["known"]["colours"] == found.known.colours and told["test"]["all"] > 0.9
    others = measure(bytes_to_signed(images[::-1].copy()), None, known, None, said=said)["captions"]
    assert others.known.all < 0.2 and others.test is None  # of other captions
