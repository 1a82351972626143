"""``tinydiff sample --init --strength --mask``: from an image file to one that begins with it."""

import numpy as np
import pytest
from PIL import Image

from tests.test_cli import failure
from tests.test_evaluate import save
from tests.train import tiny, tiny_vae
from tinydiff import cli
from tinydiff.samplers import SAMPLERS
from tinydiff.train import checkpoint as checkpoints


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An untrained model of 8x8 images in gray, and beside it files: an image, a mask, others."""
    folder = tmp_path_factory.mktemp("run")
    save(folder / "model.safetensors", tiny.dataset())
    Image.fromarray(tiny.dataset().images[0, :, :, 0]).save(folder / "init.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 5:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(folder / "other.png")
    (folder / "text.png").write_text("no image")
    return folder


def draw(run, out, *more):
    arguments = ["--label", "1", "--count", "2", "--steps", "4", "--init", str(run / "init.png"), "--out", str(out)]
    assert cli.main(["sample", str(run / "model.safetensors"), *arguments, *map(str, more)]) == 0
    with Image.open(out) as picture:
        return np.asarray(picture)


def first_of(picture):
    """The first of a picture's images, which are shown twice as large with a margin of two pixels around."""
    return picture[4:20:2, 4:20:2]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_beginning_with_an_image(run, tmp_path, sampler):
    init = tiny.dataset().images[0, :, :, 0]
    same = draw(run, tmp_path / "out.png", "--strength", 0, "--sampler", sampler)
    assert np.array_equal(first_of(same), init)
    assert not np.array_equal(first_of(draw(run, tmp_path / "out.png", "--sampler", sampler)), init)
    for more in ((), ("--resample", 2), ("--strength", 0.5)):
        kept = first_of(draw(run, tmp_path / "out.png", "--mask", run / "mask.png", "--sampler", sampler, *more))
        assert np.array_equal(kept[:, :5], init[:, :5]) and not np.array_equal(kept[:, 5:], init[:, 5:])


def test_in_latents_what_the_mask_keeps_is_kept_too(tmp_path):
    trainer = tiny_vae.latent_trainer(tiny_vae.encoded(tiny_vae.measured()))
    checkpoints.save(tmp_path / "model.safetensors", trainer.checkpoint())
    checkpoints.save(tmp_path / checkpoints.AUTOENCODER, trainer.autoencoder)
    size = trainer.image_shape[0]
    init = np.random.default_rng(0).integers(0, 256, trainer.image_shape).astype(np.uint8)
    mask = np.zeros((size, size), np.uint8)
    mask[:, size // 2 :] = 255
    Image.fromarray(init.squeeze()).save(tmp_path / "init.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    arguments = [
        "--count",
        "1",
        "--steps",
        "3",
        "--init",
        str(tmp_path / "init.png"),
        "--mask",
        str(tmp_path / "mask.png"),
    ]
    out = tmp_path / "out.png"
    assert cli.main(["sample", str(tmp_path / "model.safetensors"), "--label", "0", *arguments, "--out", str(out)]) == 0
    with Image.open(out) as picture:
        first = first_of(np.asarray(picture))
    assert np.array_equal(first[:, : size // 2], init.squeeze()[:, : size // 2])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--strength", "0.5"], "strength goes with init"),
        (["--mask", "mask.png"], "mask goes with init"),
        (["--init", "init.png", "--resample", "2"], "resample goes with mask"),
        (["--init", "init.png", "--strength", "1.1"], "strength must lie in [0, 1], got 1.1"),
        (["--init", "init.png", "--strength", "-0.1"], "strength must lie in [0, 1], got -0.1"),
        (["--init", "init.png", "--mask", "other.png"], "mask must have the size of init, 8x8, got 8x9"),
        (["--init", "nowhere.png"], "nowhere.png cannot be read (No such file or directory)"),
        (["--init", "text.png"], "text.png cannot be read (cannot identify image file"),
    ],
)
def test_what_is_refused(run, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(run)
    reason = failure(["sample", "model.safetensors", *arguments, "--out", str(tmp_path / "out.png")], capsys)
    assert message in reason and not (tmp_path / "out.png").exists()
