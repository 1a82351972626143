"""``tinydiff train --data ...`` on every kind of data, good and bad."""

import numpy as np
import pytest
from PIL import Image

from tests.data import idx
from tests.data.test_folder import colour, gray, save
from tinydiff import cli, report
from tinydiff.data import Dataset, cifar10
from tinydiff.train import checkpoint as checkpoints

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
    assert "0 cat (3), 1 dog (3)" in said and "--label 1 " in said  # the command that draws more, of a class there is
    model = checkpoints.load(tmp_path / "run").config.model
    assert (model.size, model.image_channels, model.classes) == (16, 3, 2)
    with Image.open(tmp_path / "run" / "samples.png") as picture:
        assert picture.mode == "RGB"

    out = tmp_path / "one.png"
    assert cli.main(["sample", str(tmp_path / "run"), "--label", "1", "--steps", "2", "--out", str(out)]) == 0
    assert cli.main(["evaluate", str(tmp_path / "run"), *BRIEF, "--data-dir", str(pets)]) == 0
    said = capsys.readouterr().out
    assert "not measured: the classifier reads digits, which these images are not" in said and "MMD^2" in said
    assert cli.main(["train", "--resume", str(tmp_path / "run"), "--data-dir", str(pets), "--sample-every", "0"]) == 0


def test_one_class_is_trained_without_labels(tmp_path, capsys):
    for i in range(4):
        save(tmp_path / "images" / f"{i}.png", gray(50 * i))
    assert train("--data", "folder", "--data-dir", tmp_path / "images", "--out", tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "folder is of one class: training without labels" in said and "--label 0 " in said
    assert checkpoints.load(tmp_path / "run").config.model.classes == 0
    assert cli.main(["evaluate", str(tmp_path / "run"), *BRIEF, "--data-dir", str(tmp_path / "images")]) == 0


def test_cifar10(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
    dataset = Dataset("cifar10", images, np.arange(20) % 10, 10)
    monkeypatch.setattr(cifar10, "load", lambda split, data_dir: dataset)
    assert train("--data", "cifar10", "--image-size", "32", "--out", tmp_path / "run") == 0
    config = checkpoints.load(tmp_path / "run").config
    assert config.data == "cifar10" and (config.model.size, config.model.image_channels) == (32, 3)
    assert cli.main(["evaluate", str(tmp_path / "run"), *BRIEF]) == 0


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
