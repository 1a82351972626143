"""``tinydiff train-vae`` and ``tinydiff train --latent``, and all that takes a run in latents."""

import dataclasses
import json
import re
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.data.test_folder import save
from tests.test_cli import failure, newest
from tests.train import tiny
from tinydiff import cli, data, terminal
from tinydiff.commands import train_vae
from tinydiff.model.autoencoder import AutoencoderConfig
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.folder import read_metrics
from tinydiff.train.vae_config import VAETrainConfig
from tinydiff.train.vae_trainer import VAETrainer

pytestmark = pytest.mark.usefixtures("module_cache")
SMALL_VAE = ["--channels", "4,8", "--groups", "2", "--batch", "4", "--sample-every", "2", "--checkpoint-every", "2"]
SMALL = ["--channels", "4,8", "--groups", "2", "--batch", "4", "--noise-steps", "5", "--sample-every", "2"]
BRIEF = ["--samples", "4", "--steps", "2"]


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """Two classes of colour images of several sizes, in noise."""
    folder, rng = tmp_path_factory.mktemp("data") / "pets", np.random.default_rng(0)
    for i in range(6):
        for name in ("cat", "dog"):
            save(folder / name / f"{i}.png", rng.integers(0, 256, (20 + i, 20 + i, 3)).astype(np.uint8))
    return folder


def raising(error):
    def function(*arguments, **options):
        raise error

    return function


def of(pets, size=16):
    return ["--data", "folder", "--data-dir", str(pets), *(["--image-size", str(size)] if size else [])]


@pytest.fixture(scope="module")
def vae(pets, tmp_path_factory):
    """The folder of an autoencoder's run of a few steps, by the command."""
    out = tmp_path_factory.mktemp("runs") / "vae"
    assert cli.main(["train-vae", *SMALL_VAE, *of(pets), "--steps", "6", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def latent(pets, vae, tmp_path_factory):
    """The folder of a run in its latents."""
    out = tmp_path_factory.mktemp("runs") / "latent"
    arguments = ["train", *SMALL, "--latent", str(vae), "--data-dir", str(pets), "--steps", "4"]
    assert cli.main([*arguments, "--checkpoint-every", "2", "--out", str(out)]) == 0
    return out


def test_what_is_left(vae):
    names = {path.name for path in vae.iterdir()}
    assert names == {"checkpoints", "samples", "config.json", "metrics.jsonl", "reconstructions.png", "loss.png"}
    assert sorted(path.name for path in (vae / "samples").iterdir()) == [f"step-000000{step}.png" for step in (2, 4, 6)]
    assert len(read_metrics(vae / "metrics.jsonl")) == 6
    loaded = checkpoints.load(vae, VAETrainConfig)
    assert loaded.step == 6 and loaded.config.model.shape == (16, 16, 3) and len(loaded.scale.shift) == 3
    assert "tinydiff" in json.loads((vae / "config.json").read_text())
    with Image.open(vae / "reconstructions.png") as picture:
        assert picture.size == (2 * 2 * (6 * 18 + 2) + 12, 2 * (8 * 18 + 2))


@pytest.mark.parametrize("name, kind", [("scenes", "held-out"), ("folder", "training"), ("not found", "training")])
def test_reconstructions_are_measured(pets, tmp_path, capsys, monkeypatch, name, kind):
    monkeypatch.setattr(train_vae, "RECONSTRUCTED", 7)
    if name == "scenes":  # few of them: what is held out is drawn as ever
        monkeypatch.setattr(train_vae, "load_data", lambda *_, **__: train_vae.data.scenes.load(20))
    if name == "not found":
        monkeypatch.setattr(train_vae.data, "load_test", raising(train_vae.data.NotFound("no test files")))
    which = of(pets) if name != "scenes" else ["--data", "scenes"]
    run = ["train-vae", *SMALL_VAE, *which, "--steps", "1", "--no-pictures", "--no-cache"]
    arguments = [*run, "--out", str(tmp_path / "vae")]
    assert cli.main(arguments) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("reconstruction"))
    assert re.fullmatch(
        rf"reconstruction of {kind} images: PSNR \d+\.\d\d dB \(mean of 7, standard error \d\.\d\d\)", line
    )


def test_stopped_and_resumed_ends_bit_identical(pets, vae, tmp_path, capsys):
    out = tmp_path / "stopped"
    arguments = ["train-vae", *SMALL_VAE, *of(pets), "--steps", "6", "--out", str(out), "--no-pictures"]
    assert cli.main([*arguments, "--minutes", "1e-9"]) == 0
    assert f"tinydiff train-vae --resume {out} --preset laptop" in capsys.readouterr().out
    stopped = checkpoints.load(out, VAETrainConfig)
    assert stopped.step == 1 and stopped.scale, "its time over, it can be trained upon"
    assert cli.main(["train-vae", "--resume", str(out), "--data-dir", str(pets), "--no-pictures"]) == 0
    assert newest(out).read_bytes() == newest(vae).read_bytes()
    assert (out / "metrics.jsonl").read_bytes() == (vae / "metrics.jsonl").read_bytes()


def test_the_command_it_prints_trains_in_its_latents(pets, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train-vae", *SMALL_VAE, *of(pets), "--steps", "2", "--no-pictures"]) == 0
    said = capsys.readouterr().out
    assert "autoencoder (4, 8): " in said and "latents: standard deviation " in said
    command = said.splitlines()[-1].strip()
    assert command.startswith(terminal.own_command("train", "--latent", "runs/folder-vae-laptop"))
    command = shlex.split(command.partition("tinydiff ")[2])
    assert cli.main([*command, *SMALL, "--steps", "1", "--no-pictures"]) == 0
    config = checkpoints.load("runs/folder-laptop").config
    assert config.model.shape == (8, 8, 3) and config.model.classes == 2


def test_every_knob_of_a_run_is_a_flag():
    settable = {flag.replace("-", "_") for flag in (*train_vae.RUN_OVERRIDES, *train_vae.MODEL_OVERRIDES)}
    fields = {field.name for kind in (VAETrainConfig, AutoencoderConfig) for field in dataclasses.fields(kind)}
    # the data set decides the images; quant convolutions are for weights of others
    others = {"model", "data", "restarts", "size", "image_channels", "eps", "quant_conv", "post_quant_conv"}
    assert fields - settable == others and settable <= fields


def test_knobs(pets, tmp_path):
    flags = ["--reconstruction", "mse", "--kl-weight", "0.5", "--latent-channels", "2", "--mid-attention", "off"]
    out = str(tmp_path / "run")
    assert cli.main(["train-vae", *SMALL_VAE, *of(pets), *flags, "--steps", "1", "--no-pictures", "--out", out]) == 0
    config = checkpoints.load(out, VAETrainConfig).config
    assert (config.reconstruction, config.kl_weight) == ("mse", 0.5)
    assert config.model.latent_channels == 2 and not config.model.mid_attention


def test_the_error_of_features(pets, tmp_path, capsys):
    out = tmp_path / "run"
    given = [*SMALL_VAE, "--feature-weight", "0.5", "--steps", "2", "--no-pictures", "--out", str(out)]
    reason = failure(["train-vae", *of(pets, 16), *given], capsys)
    assert reason.startswith("feature_weight needs images that there is a classifier for") and "got 16x16x3" in reason
    assert not out.exists()
    assert cli.main(["train-vae", *of(pets, 32), *given]) == 0
    assert checkpoints.load(out, VAETrainConfig).config.feature_weight == 0.5
    assert all(each["features"] > 0 for each in read_metrics(out / "metrics.jsonl"))


def test_scenes_that_captions_speak_of(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(data.captions.load, "__defaults__", (24,))
    monkeypatch.setattr(train_vae, "RECONSTRUCTED", 3)
    measured, reconstruct = [], VAETrainer.reconstruct
    spy = lambda self, images: measured.append(images) or reconstruct(self, images)
    monkeypatch.setattr(VAETrainer, "reconstruct", spy)
    out = tmp_path / "run"
    train = ["train-vae", *SMALL_VAE, "--data", "scenes", "--shapes", "on", "--steps", "2", "--no-pictures"]
    assert cli.main([*train, "--out", str(out), "--minutes", "1e-9"]) == 0
    assert cli.main(["train-vae", "--resume", str(out), "--no-pictures"]) == 0
    checkpoint = checkpoints.load(out, VAETrainConfig)
    assert checkpoint.step == 2 and checkpoint.config.shapes and checkpoint.data_set.class_names == ("captions",)
    held_out = data.captions.load(3, first=data.scenes.HELD_OUT, cache=False)[0]
    assert np.array_equal(measured[-1], held_out.images)
    message = failure([*train, "--data", "strokes", "--out", str(tmp_path / "other")], capsys)
    assert message == "shapes goes with data 'scenes', not 'strokes'"


def test_a_run_in_latents_leaves_what_every_run_does(latent, vae):
    names = {path.name for path in latent.iterdir()}
    files = {"samples.png", "denoising.gif", "loss.png", "metrics.jsonl", "config.json", "autoencoder.safetensors"}
    assert names == {*files, "checkpoints", "samples"}
    for name, columns in (("samples.png", 1), ("samples/step-0000004.png", 4)):
        with Image.open(latent / name) as picture:  # of images, not of latents
            assert picture.size == (2 * (columns * 18 + 2), 2 * (2 * 18 + 2)) and picture.mode == "RGB"
    loaded = checkpoints.load(latent)
    assert loaded.config.model.shape == (8, 8, 3) and loaded.image_shape == (16, 16, 3)
    assert loaded.autoencoder.scale == checkpoints.load(vae, VAETrainConfig).scale
    assert loaded.data_set.shape == (16, 16, 3)


@pytest.mark.parametrize("cache", [True, False])
def test_it_goes_on_without_the_autoencoders_run(pets, vae, latent, tmp_path, cache):
    moved, out = tmp_path / "vae", tmp_path / "stopped"
    shutil.copytree(vae, moved)
    arguments = ["train", *SMALL, "--latent", str(moved), *of(pets, size=None), "--steps", "4", "--no-pictures"]
    assert cli.main([*arguments, "--out", str(out), "--minutes", "1e-9"]) == 0
    shutil.rmtree(moved)
    again = ["train", "--resume", str(out), "--data-dir", str(pets), "--no-pictures"]
    assert cli.main([*again, *([] if cache else ["--no-cache"])]) == 0
    assert newest(out).read_bytes() == newest(latent).read_bytes()
    assert (out / "metrics.jsonl").read_bytes() == (latent / "metrics.jsonl").read_bytes()


def test_resumed_in_a_new_folder_that_is_complete_too(pets, latent, tmp_path):
    old = checkpoints.saved(latent / "checkpoints")[0]
    arguments = [
        "train",
        "--resume",
        str(old),
        "--data-dir",
        str(pets),
        "--no-pictures",
        "--out",
        str(tmp_path / "new"),
    ]
    assert cli.main(arguments) == 0
    assert newest(tmp_path / "new").read_bytes() == newest(latent).read_bytes()
    assert (tmp_path / "new" / "autoencoder.safetensors").read_bytes() == (
        latent / "autoencoder.safetensors"
    ).read_bytes()


def test_sample_and_evaluate_give_images(pets, latent, tmp_path, capsys):
    out = tmp_path / "x.png"
    arguments = ["sample", str(latent), "--steps", "2", "--count", "3", "--label", "dog", "--label", "0"]
    assert cli.main([*arguments, "--out", str(out)]) == 0
    with Image.open(out) as picture:
        assert picture.size == (2 * (3 * 18 + 2), 2 * (2 * 18 + 2))
    assert cli.main(["evaluate", str(latent), *BRIEF, "--data-dir", str(pets)]) == 0
    said = capsys.readouterr().out
    assert "MMD^2" in said and "of 4 samples lie nearer to a training image" in said
    assert cli.main(["evaluate", str(latent), *BRIEF, "--data-dir", str(pets), "--data", "strokes"]) == 2


def test_a_student_of_a_run_in_latents(pets, latent, tmp_path):
    out = tmp_path / "student"
    arguments = ["distill", str(latent), "--steps", "2", "--training-steps", "1", "--batch", "4", "--sample-every", "1"]
    assert cli.main([*arguments, "--data-dir", str(pets), "--out", str(out)]) == 0
    with Image.open(out / "samples" / "step-0000001.png") as picture:  # images of the teacher's, and its own
        assert picture.size == (2 * 2 * (4 * 18 + 2) + 12, 2 * (2 * 18 + 2))
    assert cli.main(["sample", str(out), "--count", "1", "--out", str(tmp_path / "x.png")]) == 0
    assert checkpoints.load(out).autoencoder.scale == checkpoints.load(latent).autoencoder.scale


def test_memory_is_told(vae, latent, capsys):
    assert cli.main(["info", str(vae)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1].startswith("to train, batch 4, ") and "to draw" not in said[-1]
    assert cli.main(["info", str(latent)]) == 0
    train, draw = capsys.readouterr().out.splitlines()[-2:]
    assert train.startswith("to train, batch 4, ") and draw.startswith("to draw 256 at a time")
    for run, more in ((vae, ["--what", "train"]), (latent, ["--what", "train"]), (latent, ["--what", "sample"])):
        assert cli.main(["program", str(run), "--totals", *more]) == 0
    said = capsys.readouterr().out
    assert "gaussian_kl.backward" in said and "gaussian_sample.forward" in said


def test_the_wrong_kind_of_run(pets, vae, latent, tmp_path, capsys):
    file, other = newest(vae), newest(latent)
    vae_words, words = "autoencoder (tinydiff train-vae)", "diffusion (tinydiff train)"
    for command in (
        ["sample", str(vae), "--out", str(tmp_path / "x.png")],
        ["evaluate", str(vae), *BRIEF, "--data-dir", str(pets)],
        ["export", str(vae), str(tmp_path / "out"), "--format", "web"],
        ["train", "--resume", str(vae), "--data-dir", str(pets)],
        ["site", "--model", str(vae), "--out", str(tmp_path / "out")],
    ):
        assert failure(command, capsys) == f"{file} is of the kind {vae_words}, not {words}"
    for command in (
        ["train", "--latent", str(latent), *of(pets), "--out", str(tmp_path / "out")],
        ["train-vae", "--resume", str(latent), "--data-dir", str(pets)],
    ):
        assert failure(command, capsys) == f"{other} is of the kind {words}, not {vae_words}"
    said = failure(["program", str(vae)], capsys)
    assert said == "what must be train for the autoencoder, got 'predict'"
    assert not list(tmp_path.iterdir())


def test_images_that_the_autoencoder_does_not_take(pets, vae, tmp_path, capsys):
    train = ["train", *SMALL, "--latent", str(vae), "--out", str(tmp_path / "run")]
    said = failure([*train, *of(pets, size=32)], capsys)
    assert said == "folder has images of (32, 32, 3), the autoencoder takes (16, 16, 3)"
    for i in range(4):
        save(tmp_path / "gray" / f"{i}.png", np.full((16, 16), 50 * i, np.uint8))
    said = failure([*train, *of(tmp_path / "gray", size=None)], capsys)
    assert said == "folder has images of (16, 16, 1), the autoencoder takes (16, 16, 3)"
    assert not (tmp_path / "run").exists()


def test_a_run_whose_autoencoder_is_missing(pets, latent, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(latent, out)
    (out / "autoencoder.safetensors").unlink()
    for command in (
        ["sample", str(out), "--out", str(tmp_path / "x.png")],
        ["evaluate", str(out), *BRIEF, "--data-dir", str(pets)],
        ["train", "--resume", str(out), "--data-dir", str(pets)],
    ):
        said = failure(command, capsys)
        assert said == f"{out}/autoencoder.safetensors is missing: the autoencoder in whose latents {newest(out)} works"
    assert not (tmp_path / "x.png").exists()


def test_an_autoencoder_whose_run_was_interrupted(pets, vae, tmp_path, capsys):
    loaded = checkpoints.load(vae, VAETrainConfig)
    checkpoints.save(tmp_path / "step-0000006.safetensors", loaded._replace(scale=None))
    said = failure(["train", "--latent", str(tmp_path), *of(pets), "--out", str(tmp_path / "run")], capsys)
    assert said == (
        f"{tmp_path} is at step 6 of 6 and was stopped before its latents were measured; tinydiff train-vae --resume "
        f"{tmp_path} goes on"
    )


def test_latent_goes_with_a_new_run(pets, vae, latent, capsys):
    said = failure(["train", "--resume", str(latent), "--latent", str(vae), "--data-dir", str(pets)], capsys)
    assert said == "latent goes with a new run: one that goes on has its autoencoder, if any, in its folder"


def test_a_page_draws_no_latents(latent, tmp_path, capsys):
    for command in (
        ["export", str(latent), str(tmp_path / "out"), "--format", "web"],
        ["site", "--model", str(latent), "--out", str(tmp_path / "out")],
    ):
        assert "a page draws images themselves, and this run the latents of an autoencoder" in failure(command, capsys)
    assert not (tmp_path / "out").exists()


def test_overwriting_a_run_in_latents_with_one_of_images(pets, latent, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(latent, out)
    arguments = ["train", *SMALL, *of(pets), "--steps", "1", "--no-pictures", "--out", str(out), "--overwrite"]
    assert cli.main(arguments) == 0
    assert not (out / "autoencoder.safetensors").exists() and checkpoints.load(out).autoencoder is None


def test_a_diffusion_run_of_before_knows_no_kinds(tmp_path):
    """Its checkpoints have neither a kind nor the field."""
    trainer = tiny.trainer()
    path = tmp_path / "step-0000000.safetensors"
    checkpoints.save(path, trainer.checkpoint())
    description, named = checkpoints._described(trainer.checkpoint())
    for key in ("kind", "sha256"):
        del description[key]
    del description["config"]["autoencoder"]
    import safetensors.numpy

    safetensors.numpy.save_file(named, path, {checkpoints.METADATA: json.dumps(description)})
    assert checkpoints.load(path).config == trainer.config
