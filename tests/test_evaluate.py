"""``tinydiff evaluate``: everything that can be said of a model's samples, from one command."""

import dataclasses
import json

import numpy as np
import pytest

from tests.checks import backend_or_skip
from tests.train import tiny
from tinydiff import cli
from tinydiff.data import Dataset, bytes_to_signed, strokes
from tinydiff.evaluate import measure, proportional_labels
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
    why_not = "not measured: the classifier reads digits, which these images are not known to be"
    assert results["accuracy"] == results["fid"] == why_not
    assert results["memorisation"].near == 1 and results["mmd"].n == 20


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
