"""An autoencoder in training: the same bits whatever interrupts or divides it, and a loss that is what it says."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.checks import backend_or_skip
from tests.train import tiny, tiny_vae
from tinydiff.data.dataset import Dataset, bytes_to_signed
from tinydiff.model.autoencoder import LatentScale
from tinydiff.train import NonFinite, TrainConfig, reconstructions, run
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.folder import read_metrics
from tinydiff.train.latents import measured_scale
from tinydiff.train.presets import VAE_PRESETS
from tinydiff.train.run_config import RunConfig
from tinydiff.train.vae_config import VAETrainConfig


def train(trainer, steps):
    return [trainer.train_step() for _ in range(steps)]


def left_behind(trainer, steps=6):
    return train(trainer, steps), tiny.state(trainer)


@pytest.mark.parametrize("config", [preset.config for preset in VAE_PRESETS.values()], ids=list(VAE_PRESETS))
def test_json_round_trip(config):
    assert VAETrainConfig(**json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "change, message",
    [
        ({"reconstruction": "l2"}, "reconstruction must be one of l1, mse, got 'l2'"),
        ({"kl_weight": -1.0}, r"kl_weight must lie in \[0, inf\], got -1.0"),
        ({"kl_weight": math.nan}, r"kl_weight must lie in \[0, inf\], got nan"),
        ({"feature_weight": -1.0}, r"feature_weight must lie in \[0, inf\], got -1.0"),
        ({"shapes": True, "data": "mnist"}, "shapes goes with data 'scenes', not 'mnist'"),
        ({"model": {"size": 9}}, "size must be divisible by 4"),
        ({"model": {"depth": 9}}, "depth"),
        ({"clip": 0}, "clip must be positive and finite, got 0"),
        ({"batch": 9, "parts": 2}, "batch must be a multiple of parts, 2, got 9"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        VAETrainConfig(**change)


@settings(max_examples=4)
@given(stop=st.integers(1, 7))
def test_stopped_anywhere_and_resumed_equals_never_stopped(stop):
    straight, first, second = tiny_vae.trainer(), tiny_vae.trainer(), tiny_vae.trainer()
    metrics = train(straight, 8)
    before = train(first, stop)
    second.restore(first.checkpoint())
    assert before + train(second, 8 - stop) == metrics
    assert tiny.state(second) == tiny.state(straight)


@pytest.mark.parametrize("reconstruction", ["l1", "mse"])
def test_what_is_reported_is_the_loss(reconstruction):
    """Written out from what the model gives: every random number again from its counters."""
    trainer = tiny_vae.trainer(reconstruction=reconstruction, kl_weight=0.5, seed=5)
    trainer.train_step()
    number, backend = np.array([2]), trainer.backend
    draw_batch, philox = backend.draw_batch.forward, backend.philox.forward
    index, _, _ = draw_batch(trainer.labels, number, batch=8, noise_steps=1, classes=0, dropout=0.0, seed=5)
    x = bytes_to_signed(trainer.dataset.images[index])
    eps = philox(5, "latent", np.arange(8), 2, (4, 4, 2), kind="normal")
    y, cache = trainer.model.forward(x, eps)
    mean, logvar = np.split(cache.moments.astype(np.float64), 2, axis=-1)
    error = np.abs(y - x) if reconstruction == "l1" else (y - x) ** 2
    kl = 0.5 * np.mean(mean**2 + np.exp(logvar) - 1 - logvar)
    metrics = trainer.train_step()
    assert metrics.reconstruction == pytest.approx(error.mean(), rel=1e-5)
    assert metrics.kl == pytest.approx(kl, rel=1e-5)
    assert metrics.loss == metrics.reconstruction + 0.5 * metrics.kl


@pytest.mark.parametrize("reconstruction", ["l1", "mse"])
def test_the_gradients_are_those_of_the_loss(reconstruction):
    """Along themselves the loss rises by their norm."""
    trainer = tiny_vae.trainer(reconstruction=reconstruction, kl_weight=0.5)
    trainer.optimizer.prepare(1, 0.0)
    values, grads = trainer.parameters.values, trainer.parameters.grads
    made = trainer.one_part()
    gradient = grads.copy()
    norm = np.linalg.norm(gradient)
    before, losses = values.copy(), []
    for sign in (1, -1):
        values[...] = before + sign * 1e-3 / norm * gradient
        losses.append(trainer._numbers(trainer.one_part())["loss"])
    slope = (losses[0] - losses[1]) / 2e-3
    assert slope == pytest.approx(norm, rel=0.01) and norm > 0.01
    assert set(made) == {"reconstruction", "kl", "moments", "y"}


def test_it_learns():
    metrics = train(tiny_vae.trainer(steps=80, learning_rate=5e-3), 80)
    errors = [each.reconstruction for each in metrics]
    assert np.mean(errors[-10:]) < 0.5 * np.mean(errors[:10])


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_are_the_whole_batch(parts):
    whole, in_parts = tiny_vae.trainer(kl_weight=0.1), tiny_vae.trainer(kl_weight=0.1, parts=parts)
    one, other = whole.train_step(), in_parts.train_step()
    for name in ("loss", "reconstruction", "kl"):
        assert math.isclose(getattr(one, name), getattr(other, name), rel_tol=1e-5)
    assert math.isclose(one.grad_norm, other.grad_norm, rel_tol=1e-4)
    scale = np.abs(whole.parameters.grads).max()
    np.testing.assert_allclose(in_parts.parameters.grads, whole.parameters.grads, atol=1e-4 * scale, rtol=0)


@pytest.mark.parametrize("parts", [1, 4])
def test_images_are_mirrored_on_request(parts):
    """The same ones however many parts: of eight of one image some are, and some are not."""
    images = tiny.dataset(1).images
    images[0, :, :4] = 0
    images[0, 2, 1] = 255  # whichever bar it was
    data = Dataset("bars", np.repeat(images, 8, axis=0), np.zeros(8, np.int64), 1)
    seen = []
    trainer = tiny_vae.trainer(data, parts=parts, flip=True)
    forward = trainer.model.forward
    trainer.model.forward = lambda x, eps: seen.append(x) or forward(x, eps)
    trainer.train_step()
    signed, mirrored = bytes_to_signed(images)[0], bytes_to_signed(images)[0, :, ::-1]
    found = ["as it is" if np.array_equal(x, signed) else "mirrored" for x in np.concatenate(seen)]
    assert all(np.array_equal(x, signed) or np.array_equal(x, mirrored) for x in np.concatenate(seen))
    numbers = np.arange(8)
    flips = trainer.backend.philox.forward(0, "flip", numbers, 1, (), kind="uniform") < 0.5
    assert [each == "mirrored" for each in found] == flips.tolist() and 0 < flips.sum() < 8


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("parts", [1, 4])
def test_a_captured_step_has_the_bits_of_its_pieces(precision, parts):
    backend = backend_or_skip("cpu", precision)
    captured, plain = (tiny_vae.trainer(backend=backend, parts=parts, captured=captured) for captured in (True, False))
    assert left_behind(captured) == left_behind(plain)
    assert captured.program and not plain.program


@pytest.mark.parametrize("name", ["cpu", "emulator"])
def test_every_backend_takes_the_same_step(name):
    here, there = tiny_vae.trainer(kl_weight=0.1), tiny_vae.trainer(kl_weight=0.1, backend=backend_or_skip(name))
    for one, other in zip(train(here, 2), train(there, 2)):
        assert np.allclose(one, other, rtol=1e-3)
    gradients = (each.backend.to_numpy(each.parameters.grads) for each in (here, there))
    assert np.allclose(*gradients, atol=1e-3 * np.abs(here.parameters.grads).max())


@pytest.mark.parametrize("parts", [1, 4])
def test_a_data_set_that_the_device_has_no_room_for(monkeypatch, parts):
    expected = left_behind(tiny_vae.trainer(parts=parts))
    monkeypatch.setattr(type(backend_or_skip("numpy")), "has_room_for", lambda self, nbytes: False)
    fed = tiny_vae.trainer(parts=parts)
    assert fed.feed and left_behind(fed) == expected


def test_what_is_not_finite_is_named_and_changes_nothing():
    trainer = tiny_vae.trainer()
    train(trainer, 2)
    for name, bad in (
        ("encoder.conv_out.weight", "the moments of the latents"),
        ("decoder.conv_out.bias", "the reconstruction"),
    ):
        value = trainer.parameters[name].value
        kept = value.copy()
        value[...] = np.nan
        before = tiny.state(trainer)
        with pytest.raises(NonFinite, match=f"training step 3: loss nan, .* not finite is {bad}"):
            trainer.train_step()
        assert tiny.state(trainer) == before and trainer.step == 2
        value[...] = kept


def test_data_that_do_not_fit():
    with pytest.raises(ValueError, match=r"bars has images of \(8, 8, 1\), the autoencoder takes \(16, 16, 1\)"):
        tiny_vae.trainer(model={"size": 16})
    with pytest.raises(ValueError, match=r"bars has images of \(8, 8, 1\), the autoencoder takes \(8, 8, 3\)"):
        tiny_vae.trainer(model={"image_channels": 3})


def test_what_a_run_leaves(tmp_path):
    trainer = tiny_vae.trainer(steps=7)
    picture_of = reconstructions.picture_of
    options = dict(checkpoint_every=2, sample_every=3, keep=2, progress=False)
    assert run(trainer, tmp_path, picture_of=picture_of, **options) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "samples",
    ]
    entries = read_metrics(tmp_path / "metrics.jsonl")
    assert [entry["step"] for entry in entries] == list(range(1, 8))
    assert set(entries[0]) == {"step", "loss", "reconstruction", "kl", "grad_norm", "learning_rate", "features"}
    first, second = (tmp_path / "samples" / f"step-000000{step}.png" for step in (3, 6))
    with Image.open(first) as one, Image.open(second) as other:
        side = 2 * (4 * (8 + 2) + 2)
        assert one.size == (2 * side + 12, side)
        left, right = ((0, 0, side, side), (side + 12, 0, 2 * side + 12, side))
        assert np.array_equal(one.crop(left), other.crop(left)), "the same images every time"
        assert not np.array_equal(one.crop(right), other.crop(right))
    other = tiny_vae.trainer(steps=7)
    other.restore(checkpoints.load(tmp_path, VAETrainConfig))
    assert tiny.state(other) == tiny.state(trainer)


def test_checkpoints_say_of_which_kind_they_are(tmp_path):
    vae, diffusion = tiny_vae.trainer(), tiny.trainer()
    for name, trainer in (("vae", vae), ("diffusion", diffusion)):
        checkpoints.save(tmp_path / name, trainer.checkpoint())
        assert checkpoints.load(tmp_path / name, RunConfig).config == trainer.config
    kinds = "autoencoder (tinydiff train-vae)", "diffusion (tinydiff train)"
    for name, asked, words in (("vae", TrainConfig, kinds), ("diffusion", VAETrainConfig, kinds[::-1])):
        with pytest.raises(ValueError) as error:
            checkpoints.load(tmp_path / name, asked)
        assert str(error.value) == f"{tmp_path / name} is of the kind {words[0]}, not {words[1]}"


def test_the_scale_is_kept_until_the_next_step(tmp_path):
    trainer = tiny_vae.trainer()
    trainer.train_step()
    assert trainer.checkpoint().scale is None
    trainer.scale = measured_scale(trainer.codec, trainer.dataset.images)
    checkpoints.save(tmp_path / "measured", trainer.checkpoint())
    loaded = checkpoints.load(tmp_path / "measured", VAETrainConfig)
    assert loaded.scale == trainer.scale and isinstance(loaded.scale, LatentScale)
    other = tiny_vae.trainer()
    other.restore(loaded)
    assert other.scale == trainer.scale
    other.train_step()
    assert other.scale is None and other.checkpoint().scale is None


def test_a_longer_run_has_the_scale_of_the_average_it_goes_on_from():
    trainer = tiny_vae.trainer(steps=4)
    train(trainer, 4)
    trainer.scale = measured_scale(trainer.codec, trainer.dataset.images)
    longer = tiny_vae.trainer(steps=9, restarts=(4,))
    longer.restore(trainer.checkpoint())
    assert longer.scale == measured_scale(longer.codec, longer.dataset.images)
