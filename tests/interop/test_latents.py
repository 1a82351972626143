"""Runs in latents, and the autoencoders of runs, as folders of diffusers' and back."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from tests.interop.folders import same
from tests.train import tiny, tiny_vae
from tinydiff import backends, cli, tensors, terminal
from tinydiff.interop.autoencoder import export_autoencoder
from tinydiff.interop.folder import export_folder, import_folder
from tinydiff.model.autoencoder import Autoencoder
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.vae_config import VAETrainConfig

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def vae():
    """The checkpoint of an autoencoder's run, whose parts are all of their own."""
    trainer = tiny_vae.trainer()
    trainer.parameters.values[...] += 0.1 * np.random.default_rng(3).standard_normal(trainer.parameters.count)
    trainer.train_step()
    return trainer.checkpoint()._replace(scale=tiny_vae.measured().scale)


@pytest.fixture(scope="module")
def latent(vae):
    """The checkpoint of a run in its latents."""
    trainer = tiny_vae.latent_trainer(tiny_vae.encoded(vae._replace(parts={"average": vae.parts["average"]})))
    trainer.train_step()
    return trainer.checkpoint()


@pytest.fixture
def saved(latent, tmp_path):
    (tmp_path / "run").mkdir()
    checkpoints.save(tmp_path / "run" / checkpoints.AUTOENCODER, latent.autoencoder)
    checkpoints.save(tmp_path / "run" / "step-0000001.safetensors", latent)
    return tmp_path / "run"


def test_a_run_in_latents_there_and_back(latent, tmp_path):
    export_folder(latent, tmp_path / "out")
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    assert files == [
        "scheduler/scheduler_config.json",
        "unet/config.json",
        f"unet/{WEIGHTS}",
        "vae/config.json",
        f"vae/{WEIGHTS}",
    ]
    assert json.loads((tmp_path / "out" / "scheduler" / "scheduler_config.json").read_text())["clip_sample"] is False
    after, assumed, *_ = import_folder(tmp_path / "out")
    assert not assumed and same(after.parts["average"], latent.parts["average"])
    assert after.config.autoencoder == checkpoints.digest(after.autoencoder)
    assert dataclasses.replace(after.config, autoencoder=latent.config.autoencoder) == latent.config
    found, before = after.autoencoder, latent.autoencoder
    assert same(found.parts["average"], before.parts["average"]) and found.config.model == before.config.model
    assert np.allclose(found.scale.shift, before.scale.shift) and np.allclose(found.scale.scale, before.scale.scale)


def test_a_pipeline_of_somebody_else(latent, tmp_path):
    """No metadata, and a scheduler that does not clip: which is right here, and so nothing that was assumed."""
    export_folder(latent, tmp_path / "out")
    path = tmp_path / "out" / "unet" / WEIGHTS
    path.write_bytes(tensors.encode(tensors.read(path).named))
    after, assumed, *_ = import_folder(tmp_path / "out")
    assert assumed == ['2 classes, and the last row of the class embedding stands for "no class"']
    assert after.config.drawing == {"clip": None} and after.image_shape == (8, 8, 1)


def test_a_pipeline_without_its_vae_or_with_another(latent, tmp_path):
    export_folder(latent, tmp_path / "out")
    shutil.move(tmp_path / "out" / "vae", tmp_path / "vae")
    for folder in (tmp_path / "out", tmp_path / "out" / "unet"):
        with pytest.raises(
            ValueError, match=f"{folder} holds no vae, the autoencoder in whose latents its U-Net works"
        ):
            import_folder(folder)
    path = tmp_path / "vae" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sample_size": 16}))
    shutil.move(tmp_path / "vae", tmp_path / "out" / "vae")
    after = import_folder(tmp_path / "out").checkpoint  # of other images, to which it is the same
    assert after.image_shape == latent.image_shape and after.config.model.shape == latent.config.model.shape
    shutil.rmtree(tmp_path / "out" / "vae")
    other = dataclasses.replace(latent.autoencoder.config.model, latent_channels=3)
    named = Autoencoder(other, backends.get("numpy")).parameters
    export_autoencoder(other, named.to_numpy(named.values), tmp_path / "out" / "vae")
    with pytest.raises(ValueError, match="out/vae makes latents of 3 channels, the U-Net takes 2"):
        import_folder(tmp_path / "out")


def test_the_commands_of_a_run_in_latents(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "run", "out"]) == 0
    assert "it draws latents: it is in the folder unet, and what makes images of them in vae" in capsys.readouterr().out
    assert cli.main(["import", "out"]) == 0
    drawn = []
    for run in ("run", "runs/out"):
        arguments = ["sample", run, "--steps", "2", "--count", "2", "--backend", "numpy", "--out", "x.png"]
        assert cli.main(arguments) == 0
        drawn.append((tmp_path / "x.png").read_bytes())
    assert drawn[0] == drawn[1]
    assert cli.main(["import", "out", "--output", "run/other.safetensors"]) == 2
    said = capsys.readouterr().err
    assert said == "tinydiff: output: run/autoencoder.safetensors, where its autoencoder is to be, already exists\n"
    assert not (tmp_path / "run" / "other.safetensors").exists()


def test_the_commands_of_an_autoencoder(vae, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    checkpoints.save("vae.safetensors", vae)
    for weights in ("average", "model"):
        assert cli.main(["export", "vae.safetensors", weights, "--weights", weights]) == 0
        assert cli.main(["import", weights, "--data", "strokes", "--output", f"{weights}.safetensors"]) == 0
        after = checkpoints.load(f"{weights}.safetensors", VAETrainConfig)
        assert after.step == 0 and after.config.data == "strokes" and after.config.model == vae.config.model
        assert same(after.parts["model"], vae.parts[weights]) and same(after.parts["average"], vae.parts[weights])
        assert np.allclose(after.scale.scale, vae.scale.scale) and not any(
            map(np.any, after.parts["adamw.mean"].values())
        )
    said = capsys.readouterr().out
    assert "autoencoder (8, 16), images of (8, 8, 1), latents of (4, 4, 2)" in said
    assert f"to train in its latents: {terminal.own_command('train', '--latent', 'model.safetensors')}" in said
    assert cli.main(["import", "model", "--schedule", "linear"]) == 2
    assert capsys.readouterr().err == "tinydiff: schedule goes with a U-Net, and model is of an autoencoder\n"
    assert cli.main(["import", "model"]) == 0
    assert cli.main(["train", "--latent", "runs/model"]) == 2
    said = capsys.readouterr().err
    assert said == "tinydiff: the checkpoint does not say what data it was trained on; --data names them\n"


def test_a_model_of_images_is_written_as_ever(tmp_path):
    export_folder(tiny.trainer().checkpoint(), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        WEIGHTS,
        "scheduler_config.json",
    ]
