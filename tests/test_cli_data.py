"""``tinydiff train --data ...`` on every kind of data, good and bad."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from tests.data import idx
from tests.data.test_folder import colour, gray, save
from tinydiff import cli, generate, report
from tinydiff.data import Dataset, cifar10, scenes
from tinydiff.generate import Trajectory
from tinydiff.model.unet import UNet
from tinydiff.train import checkpoint as checkpoints

pytestmark = pytest.mark.usefixtures("own_cache")

SMALL = ["--channels", "4,8", "--groups", "2", "--batch", "4", "--noise-steps", "5", "--sample-every", "0"]
BRIEF = ["--samples", "4", "--steps", "2"]


def train(*arguments):
    return cli.main(["train", *SMALL, "--steps", "2", *map(str, arguments)])


def last_line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch):
    monkeypatch.setattr(report, "COLUMNS", 1)


@pytest.fixture
def pets(tmp_path):
    """Two classes of three colour images, of several sizes."""
    for i in range(3):
        save(tmp_path / "pets" / "cat" / f"{i}.png", colour(10 * i, 200, 0, size=30 + i))
        save(tmp_path / "pets" / "dog" / f"{i}.png", colour(0, 10 * i, 200, size=40 + i))
    return tmp_path / "pets"


def test_a_folder_of_images(pets, tmp_path, capsys):
    assert train("--data", "folder", "--data-dir", pets, "--image-size", "16", "--out", tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "0 cat (3), 1 dog (3)" in said and "--label dog " in said  # the command that draws more, of a class there is
    model = checkpoints.load(tmp_path / "run").config.model
    assert (model.size, model.image_channels, model.classes) == (16, 3, 2)
    with Image.open(tmp_path / "run" / "samples.png") as picture:
        assert picture.mode == "RGB"

    out = tmp_path / "one.png"
    assert cli.main(["sample", str(tmp_path / "run"), "--label", "1", "--steps", "2", "--out", str(out)]) == 0
    assert cli.main(["evaluate", str(tmp_path / "run"), *BRIEF, "--data-dir", str(pets)]) == 0
    said = capsys.readouterr().out
    assert "not measured: the classifiers know MNIST's digits" in said and "MMD^2" in said
    assert cli.main(["train", "--resume", str(tmp_path / "run"), "--data-dir", str(pets), "--sample-every", "0"]) == 0


def test_a_preset_is_of_a_data_set_unless_another_is_asked_for(pets, tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    monkeypatch.setattr(cifar10, "load", lambda split, data_dir: Dataset("cifar10", images, np.arange(20) % 10, 10))
    more = ["--attention-levels", "-1", "--head-width", "8", "--no-pictures", "--out"]
    assert train("--preset", "cifar10", *more, tmp_path / "own") == 0
    given = ["--data", "folder", "--data-dir", pets, "--image-size", "16"]
    assert train("--preset", "cifar10", *given, *more, tmp_path / "other") == 0
    own, other = (checkpoints.load(tmp_path / name).config for name in ("own", "other"))
    assert (own.data, other.data) == ("cifar10", "folder") and own.prediction == other.prediction == "eps"


def test_labels_by_name(pets, tmp_path, capsys):
    assert train("--data", "folder", "--data-dir", pets, "--image-size", "16", "--out", tmp_path / "run") == 0

    def draw(*labels):
        out = tmp_path / "drawn.png"
        labels = [each for label in labels for each in ("--label", label)]
        assert cli.main(["sample", str(tmp_path / "run"), "--steps", "2", *labels, "--out", str(out)]) == 0
        return out.read_bytes()

    assert draw("dog", "cat") == draw("1", "0") == draw("1", "cat") != draw("cat", "dog")
    assert cli.main(["sample", str(tmp_path / "run"), "--label", "eel"]) == 2
    assert last_line(capsys) == "tinydiff: label must be one of cat, dog, got 'eel'"


def test_data_that_changed_are_refused_by_name(pets, tmp_path, capsys):
    """On resume and evaluate, unless one goes on knowingly; from then on the run is on these."""
    arguments = ["--data", "folder", "--data-dir", pets, "--image-size", "16", "--out", tmp_path / "run"]
    assert train(*arguments, "--minutes", "1e-9") == 0
    (pets / "cat").rename(pets / "zebra")  # as many classes, so that dog is 0 now
    resume = ["train", "--resume", str(tmp_path / "run"), "--data-dir", str(pets), "--no-pictures"]
    evaluate = ["evaluate", str(tmp_path / "run"), *BRIEF, "--data-dir", str(pets)]
    for command in (resume, evaluate):
        assert cli.main(command) == 2
        assert last_line(capsys) == (
            "tinydiff: folder is not what the model was trained on: its classes are others: without cat; with zebra; "
            "--data-changed goes on all the same"
        )
    assert cli.main([*evaluate, "--data-changed"]) == 0
    assert cli.main([*resume, "--data-changed"]) == 0
    assert "folder is not what the model was trained on: its classes are others" in capsys.readouterr().out
    assert checkpoints.load(tmp_path / "run").data_set.class_names == ("dog", "zebra")
    assert cli.main(evaluate) == 0

    save(pets / "dog" / "9.png", colour(0, 0, 0, size=40))
    assert cli.main(evaluate) == 2
    assert "class dog has 4 images, not 3" in last_line(capsys)


def test_data_named_on_resume_are_obeyed_or_refused(pets, tmp_path, capsys):
    assert train("--data", "folder", "--data-dir", pets, "--image-size", "16", "--out", tmp_path / "run") == 0
    for command in (["train", "--resume", str(tmp_path / "run")], ["evaluate", str(tmp_path / "run"), *BRIEF]):
        assert cli.main([*command, "--data-dir", str(pets), "--data", "strokes"]) == 2
        assert last_line(capsys) == "tinydiff: the model was trained on folder, not on strokes"

    loaded = checkpoints.load(tmp_path / "run")
    unknown = loaded._replace(config=dataclasses.replace(loaded.config, data="unknown"), data_set=None, step=0)
    checkpoints.save(tmp_path / "imported.safetensors", unknown)
    resume = ["train", "--resume", str(tmp_path / "imported.safetensors"), "--data-dir", str(pets), "--no-pictures"]
    resume += ["--out", str(tmp_path / "on")]
    evaluate = ["evaluate", str(tmp_path / "imported.safetensors"), *BRIEF, "--data-dir", str(pets)]
    for command in (resume, evaluate):
        assert cli.main(command) == 2
        assert last_line(capsys).endswith("does not say what data it was trained on; --data names them")
        assert cli.main([*command, "--data", "folder"]) == 0
    assert checkpoints.load(tmp_path / "on").config.data == "folder"


def test_many_classes(tmp_path, capsys, monkeypatch):
    """Pictures have a bounded number of rows, on the way and at the end, and no more is drawn at once than fits, nor do
    a run's own ever ask the network about more images than a training step, of 3, does."""
    monkeypatch.setattr(generate, "PIXELS_AT_ONCE", 7 * 8 * 8)
    drawn, seen, take, predict = [], [], Trajectory._take, UNet._forward
    monkeypatch.setattr(Trajectory, "_take", lambda self, *given: (drawn.append(self.count), take(self, *given))[1])
    monkeypatch.setattr(
        UNet,
        "_forward",
        lambda self, x, *given, **options: (seen.append(len(x)), predict(self, x, *given, **options))[1],
    )
    for i in range(200):
        save(tmp_path / "many" / f"{i}" / "0.png", gray(i, size=8))
    out = tmp_path / "run"
    arguments = ["--data", "folder", "--data-dir", tmp_path / "many", "--out", out, "--sample-every", "2"]
    assert train(*arguments, "--batch", "3") == 0
    assert sum(drawn) == 16 * 4 + 16 * 1 and max(drawn) == 2 and max(seen) == 3
    for name, columns in (("samples.png", 1), ("samples/step-0000002.png", 4)):
        with Image.open(out / name) as picture:
            assert picture.size == (2 * (columns * 10 + 2), 2 * (16 * 10 + 2))
    with Image.open(out / "denoising.gif") as picture:
        assert picture.size == (2 * 2 * (8 * 10 + 2) + 12, 2 * (2 * 10 + 2))
    drawn.clear()
    assert cli.main(["sample", str(out), "--steps", "2", "--count", "1", "--out", str(tmp_path / "x.png")]) == 0
    assert "drawing the first 16 of 200 classes" in capsys.readouterr().out
    assert drawn == [4] * 4


def test_one_class_is_trained_without_labels(tmp_path, capsys):
    for i in range(4):
        save(tmp_path / "images" / f"{i}.png", gray(50 * i))
    assert train("--data", "folder", "--data-dir", tmp_path / "images", "--out", tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "folder is of one class: training without labels" in said and "--label all " in said
    assert "--guidance 1 " in said
    assert checkpoints.load(tmp_path / "run").config.model.classes == 0
    assert cli.main(["sample", str(tmp_path / "run"), "--guidance", "2"]) == 2
    assert last_line(capsys) == "tinydiff: guidance must be 1 for a model without classes, got 2"
    assert cli.main(["evaluate", str(tmp_path / "run"), *BRIEF, "--data-dir", str(tmp_path / "images")]) == 0


def test_cifar10(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
    dataset = Dataset("cifar10", images, np.arange(20) % 10, 10)
    monkeypatch.setattr(cifar10, "load", lambda split, data_dir: dataset)
    assert train("--data", "cifar10", "--image-size", "32", "--out", tmp_path / "run") == 0
    config = checkpoints.load(tmp_path / "run").config
    assert config.data == "cifar10" and (config.model.size, config.model.image_channels) == (32, 3)
    assert cli.main(["evaluate", str(tmp_path / "run"), *BRIEF]) == 0


@pytest.mark.parametrize("size", [32, 64])
def test_scenes(tmp_path, monkeypatch, size):
    """Drawn in the size that is asked for, evaluated in that of the run, on others than it was trained on."""
    asked, load = [], scenes.load

    def few(count=12, *, size=None, first=0, **options):
        asked.append((size, first))
        return load(min(count, 12), size=size, first=first, **options)

    monkeypatch.setattr(scenes, "load", few)
    arguments = [] if size == 32 else ["--image-size", size]
    assert train("--data", "scenes", *arguments, "--out", tmp_path / "run") == 0
    model = checkpoints.load(tmp_path / "run").config.model
    assert (model.size, model.image_channels, model.classes) == (size, 3, 3)
    assert cli.main(["evaluate", str(tmp_path / "run"), *BRIEF]) == 0
    assert asked[1:] == [(size, 0), (size, scenes.HELD_OUT)]


def test_what_is_decoded_is_kept_unless_one_says_no(pets, tmp_path, capsys, own_cache):
    """Of a run that is stopped, the command that goes on says so again."""
    arguments = ["--data", "folder", "--data-dir", pets, "--image-size", "16", "--minutes", "1e-9"]
    assert train(*arguments, "--no-cache", "--out", tmp_path / "without") == 0
    assert "--no-cache" in capsys.readouterr().out and not own_cache.exists()
    assert cli.main(["evaluate", str(tmp_path / "without"), *BRIEF, "--data-dir", str(pets), "--no-cache"]) == 0
    assert not own_cache.exists()
    assert train(*arguments, "--out", tmp_path / "with") == 0
    assert "--no-cache" not in capsys.readouterr().out
    [kept] = own_cache.iterdir()
    assert cli.main(["evaluate", str(tmp_path / "with"), *BRIEF, "--data-dir", str(pets)]) == 0
    assert list(own_cache.iterdir()) == [kept]


def test_unreadable_files(pets, tmp_path, capsys):
    (pets / "cat" / "x.png").write_text("not an image")
    arguments = ["--data", "folder", "--data-dir", pets, "--image-size", "16", "--out", tmp_path / "run"]
    assert train(*arguments) == 2
    assert last_line(capsys).startswith(f"tinydiff: {pets}/cat/x.png cannot be read (cannot identify image file")
    assert train(*arguments, "--skip-unreadable") == 0
    assert f"skipped {pets}/cat/x.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--data", "folder"], "data 'folder' needs data_dir, the folder of images"),
        (["--data", "folder", "--data-dir", "EMPTY"], "EMPTY holds no images (.png, "),
        (["--data", "folder", "--data-dir", "PETS"], "images must be square and of one size: "),
        (
            ["--data", "folder", "--data-dir", "PETS", "--image-size", "16", "--batch", "7"],
            "folder has 6 images, fewer than a batch of 7; choose a smaller batch",
        ),
        (
            ["--data", "folder", "--data-dir", "PETS", "--image-size", "15"],
            "size must be divisible by 2, as 2 levels halve it 1 times, got 15",
        ),
        (["--data", "cifar10", "--data-dir", "EMPTY"], "cifar-10-binary.tar.gz or "),
        (["--data", "strokes", "--data-dir", "EMPTY"], "data_dir: 'strokes' are drawn, not read, got EMPTY"),
        (["--data", "scenes", "--data-dir", "EMPTY"], "data_dir: 'scenes' are drawn, not read, got EMPTY"),
        (["--data", "scenes", "--image-size", "28"], "image_size: scenes have images of 32x32 or 64x64, got 28"),
        (["--data", "strokes", "--skip-unreadable"], "skip_unreadable goes with data 'folder', not 'strokes'"),
        (["--data", "strokes", "--no-cache"], "no_cache goes with data 'folder' or 'scenes', not 'strokes'"),
        (["--data", "strokes", "--data-changed"], "data_changed goes with resume: "),
        (
            ["--data", "mnist", "--data-dir", "DIGITS", "--image-size", "32"],
            "image_size: mnist has images of 28x28, got 32",
        ),
    ],
)
def test_bad_data_end_in_one_line(pets, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    idx.write(tmp_path / "digits")
    places = {"EMPTY": tmp_path / "empty", "PETS": pets, "DIGITS": tmp_path / "digits"}
    assert train(*(places.get(each, each) for each in arguments), "--out", tmp_path / "run") == 2
    error = last_line(capsys)
    assert error.startswith(f"tinydiff: {message.replace('EMPTY', str(tmp_path / 'empty'))}"), error
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_data_set(pets, tmp_path, capsys):
    """Resumed on images of another size or other classes, or evaluated on them."""
    assert train("--data", "folder", "--data-dir", pets, "--image-size", "16", "--out", tmp_path / "run") == 0
    again = ["train", "--resume", str(tmp_path / "run"), "--data-dir", str(pets)]
    assert cli.main([*again, "--image-size", "32"]) == 2
    assert "folder has images of (32, 32, 3), the model takes (16, 16, 3)" in last_line(capsys)
    save(pets / "eel" / "0.png", colour(0, 0, 0))
    assert cli.main(again) == 2
    assert "folder has 3 classes, the model 2" in last_line(capsys)
    assert cli.main(["evaluate", str(tmp_path / "run"), *BRIEF, "--data-dir", str(pets)]) == 2
    assert "folder has 3 classes, the model 2" in last_line(capsys)
