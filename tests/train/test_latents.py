"""Latents: of mean 0 and variance 1, encoded once, sampled anew each time, and trained on like images."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checks import backend_or_skip
from tests.train import tiny, tiny_vae
from tests.train.test_run import quiet_run
from tinydiff import backends
from tinydiff.data.dataset import Dataset
from tinydiff.generate import draw
from tinydiff.model.autoencoder import LatentScale
from tinydiff.noise import schedules
from tinydiff.samplers import finish
from tinydiff.train import Trainer, latents
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.codec import Codec
from tinydiff.train.latents import LatentCorruptor, codec_of

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def autoencoder():
    return tiny_vae.measured(tiny.dataset(400), steps=40)


@pytest.fixture(scope="module")
def data(autoencoder):
    return tiny_vae.encoded(autoencoder)


def train(trainer, steps):
    return [trainer.train_step() for _ in range(steps)]


def left_behind(trainer, steps=6):
    return train(trainer, steps), tiny.state(trainer)


def samples(encoded, seed=0):
    """A sample of the latents of each image."""
    mean, logvar = np.split(encoded.images, 2, axis=-1)
    return mean + np.exp(logvar / 2) * np.random.default_rng(seed).standard_normal(mean.shape)


def test_latents_have_mean_0_and_deviation_1(autoencoder):
    """Of images that they were measured on, and of others."""
    assert np.abs(1 / np.array(autoencoder.scale.scale) - 1).max() > 0.1, "before they had not"
    for seed in (0, 1):
        z = samples(tiny_vae.encoded(autoencoder, tiny.dataset(400, seed)))
        assert np.abs(z.mean(axis=(0, 1, 2))).max() < 0.05
        assert np.abs(z.std(axis=(0, 1, 2)) - 1).max() < 0.05


def test_a_share_of_a_large_data_set_is_measured(monkeypatch):
    trained, encoded = tiny_vae.trainer(), []
    whole = latents.measured_scale(trained.codec, trained.dataset.images)
    encode = trained.codec.encode
    monkeypatch.setattr(trained.codec, "encode", lambda images: encoded.append(len(images)) or encode(images))
    monkeypatch.setattr(latents, "MEASURED", 10)
    share = latents.measured_scale(trained.codec, trained.dataset.images)
    assert sum(encoded) == 10 and share != whole
    assert np.allclose(share.shift, whole.shift, atol=0.5)


def test_a_channel_that_says_nothing_has_a_scale():
    class Constant:
        def encode(self, images):
            moments = np.full((len(images), 2, 2, 4), -30.0, np.float32)
            moments[..., :2] = 1000.1, 0.3
            return moments

    scale = latents.measured_scale(Constant(), tiny.dataset().images)
    assert np.allclose(scale.shift, [1000.1, 0.3], rtol=1e-6)
    assert scale.scale[1] == pytest.approx(np.exp(15), rel=0.1) and 0 < scale.scale[0] < np.inf


def test_decoding_undoes_the_scale(autoencoder, data):
    backend = backends.get("numpy")
    scaled = codec_of(autoencoder, backend)
    plain = Codec(scaled.model)
    images = tiny.dataset().images
    mean = plain.encode(images)[..., :2]
    assert np.allclose(scaled.decode(data.images[..., :2]), plain.decode(mean), atol=1e-4)
    shift, scale = np.array(autoencoder.scale.shift), np.array(autoencoder.scale.scale)
    assert np.allclose(data.images[..., :2], (mean - shift) * scale, atol=1e-5)
    variance = np.exp(plain.encode(images)[..., 2:].astype(np.float64))
    assert np.allclose(np.exp(data.images[..., 2:].astype(np.float64)), variance * scale**2, rtol=1e-4)
    assert np.abs(scaled.decode(100 * data.images[..., :2])).max() <= 1


def test_a_codec_takes_any_number_in_batches(autoencoder, monkeypatch):
    codec = codec_of(autoencoder, backends.get("numpy"))
    images = tiny.dataset(23).images
    whole = codec.encode(images)
    monkeypatch.setattr("tinydiff.generate.PIXELS_AT_ONCE", 5 * 64)
    assert np.allclose(codec.encode(images), whole, atol=1e-5) and len(whole) == 23
    assert {count for _, count in codec._captured} >= {5, 3}


def test_what_is_not_finite_ends_in_an_error(autoencoder):
    codec = codec_of(autoencoder, backends.get("numpy"))
    codec.model.parameters["decoder.conv_out.bias"].value[...] = np.nan
    with pytest.raises(ValueError, match="what the autoencoder makes of items 0 to 2 is not finite"):
        codec.decode(np.zeros((3, 4, 4, 2), np.float32))


def test_encoded_once(autoencoder, data, monkeypatch, own_cache):
    kept = tiny_vae.encoded(autoencoder, cache=True)
    assert np.array_equal(kept.images, data.images) and isinstance(kept.images.base, np.memmap)
    assert len(list(own_cache.iterdir())) == 1
    encoded, encode = [], Codec.encode
    monkeypatch.setattr(Codec, "encode", lambda self, images: encoded.append(len(images)) or encode(self, images))
    again = tiny_vae.encoded(autoencoder, cache=True)
    assert np.array_equal(again.images, data.images) and not encoded

    others = (  # the first is measured, too
        tiny_vae.encoded(tiny_vae.measured(steps=1), cache=True),
        tiny_vae.encoded(autoencoder._replace(scale=LatentScale((0.0, 0.0), (1.0, 1.0))), cache=True),
    )
    assert sum(encoded) == 120 and not any(np.array_equal(found.images, data.images) for found in others)
    assert len(list(own_cache.iterdir())) == 1, "of a data set the newest"
    encoded.clear()
    named = dataclasses.replace(tiny.dataset(), files_digest="another")
    found = tiny_vae.encoded(autoencoder, named, cache=True)
    assert sum(encoded) == 40 and np.array_equal(found.images, data.images)
    assert len(list(own_cache.iterdir())) == 2


def test_where_nothing_can_be_kept_they_are_in_memory(autoencoder, data, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TINYDIFF_DATA", str(tmp_path / "file"))
    said = []
    found = tiny_vae.encoded(autoencoder, cache=True, say=said.append)
    assert np.array_equal(found.images, data.images)
    assert len(said) == 1 and said[0].startswith("bars: encoded into memory, as latents cannot be kept (")


def test_each_time_another_sample(data, autoencoder):
    """Of the distribution that the moments are of, from the counters of the training step and the place in the batch."""
    backend, index, step = backends.get("numpy"), np.arange(8), np.zeros(8, np.int64)
    schedule = schedules.cosine(50)
    corrupt = LatentCorruptor(schedule, "x0", "simple", backend, count=8)
    first = corrupt.draw(data.images, index, step, np.array([1]), seed=3)
    second = corrupt.draw(data.images, index, step, np.array([2]), seed=3)
    assert not np.array_equal(first.target, second.target)  # x0 itself is another
    eps = backend.philox.forward(3, "latent", index, 2, (4, 4, 2), kind="normal")
    mean, logvar = np.split(data.images[:8], 2, axis=-1)
    assert np.allclose(second.target, mean + np.exp(logvar / 2) * eps, atol=1e-6)
    half = LatentCorruptor(schedule, "x0", "simple", backend, count=4)
    part = half.draw(data.images, index[4:], step[4:], np.array([2]), np.arange(4, 8), seed=3)
    assert np.array_equal(part.target, second.target[4:]) and np.array_equal(part.x, second.x[4:])


@settings(max_examples=3)
@given(stop=st.integers(1, 7))
def test_stopped_anywhere_and_resumed_equals_never_stopped(data, stop):
    straight, first, second = (tiny_vae.latent_trainer(data) for _ in range(3))
    metrics = train(straight, 8)
    before = train(first, stop)
    second.restore(first.checkpoint())
    assert before + train(second, 8 - stop) == metrics
    assert tiny.state(second) == tiny.state(straight)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("parts", [1, 4])
def test_a_captured_step_has_the_bits_of_its_pieces(data, precision, parts):
    backend = backend_or_skip("cpu", precision)
    captured, plain = (
        tiny_vae.latent_trainer(data, backend, parts=parts, captured=captured) for captured in (True, False)
    )
    assert left_behind(captured) == left_behind(plain)


@pytest.mark.parametrize("name", ["cpu", "emulator"])
def test_every_backend_takes_the_same_step(data, name):
    here, there = tiny_vae.latent_trainer(data), tiny_vae.latent_trainer(data, backend_or_skip(name))
    for one, other in zip(train(here, 2), train(there, 2)):
        assert np.allclose(one, other, rtol=1e-3)


@pytest.mark.parametrize("parts", [1, 4])
def test_latents_that_the_device_has_no_room_for(data, monkeypatch, parts):
    expected = left_behind(tiny_vae.latent_trainer(data, parts=parts))
    monkeypatch.setattr(type(backend_or_skip("numpy")), "has_room_for", lambda self, nbytes: False)
    fed = tiny_vae.latent_trainer(data, parts=parts)
    assert fed.feed and left_behind(fed) == expected


def test_it_learns(data):
    losses = [each.loss for each in train(tiny_vae.latent_trainer(data, steps=100, learning_rate=5e-3), 100)]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


def test_what_is_drawn_is_decoded_and_latents_are_not_clipped(data, autoencoder):
    trainer = tiny_vae.latent_trainer(data)
    labels = np.array([0, 1, 0])
    z = trainer.backend.to_numpy(finish(trainer.sample(labels, steps=4)))
    assert z.shape == (3, 4, 4, 2) and np.abs(z).max() > 1
    images = draw(lambda count: trainer.trajectory(count, steps=4), labels, trainer.image_shape, decode=trainer.decode)
    assert images.shape == (3, 8, 8, 1) and np.abs(images).max() <= 1
    assert np.allclose(images, codec_of(autoencoder, trainer.backend).decode(z), atol=1e-6)


def test_a_run_is_complete(data, autoencoder, tmp_path):
    """Its folder holds the autoencoder; without it, or with another, nothing is read."""
    trainer = tiny_vae.latent_trainer(data, steps=3)
    quiet_run(trainer, tmp_path / "run", checkpoint_every=1)
    loaded = checkpoints.load(tmp_path / "run")
    assert loaded.image_shape == (8, 8, 1) and loaded.autoencoder.scale == autoencoder.scale
    for name, array in autoencoder.parts["average"].items():
        assert np.array_equal(loaded.autoencoder.parts["average"][name], array)
    file = tmp_path / "run" / "checkpoints" / "step-0000002.safetensors"
    assert checkpoints.load(file).autoencoder.config == autoencoder.config

    path = tmp_path / "run" / "autoencoder.safetensors"
    checkpoints.save(path, tiny_vae.measured())
    with pytest.raises(ValueError, match=f"{path} is not the autoencoder in whose latents {file} works"):
        checkpoints.load(file)
    checkpoints.save(path, trainer.checkpoint())
    with pytest.raises(ValueError, match=f"{path} is of the kind diffusion"):
        checkpoints.load(file)
    path.unlink()
    with pytest.raises(ValueError, match=f"{path} is missing: the autoencoder in whose latents {file} works"):
        checkpoints.load(file)


def test_an_autoencoder_without_a_scale(autoencoder):
    with pytest.raises(
        ValueError,
        match="runs/vae is at step 40 of 40 and was stopped before its latents were measured; .* --resume runs/vae",
    ):
        latents.for_latents(autoencoder._replace(scale=None), "runs/vae")


def test_data_that_do_not_fit(data):
    config = tiny_vae.latent_trainer(data).config
    with pytest.raises(ValueError, match=r"bars has images of \(8, 8, 1\), the model takes \(4, 4, 2\)"):
        Trainer(config, tiny.dataset(), backends.get("numpy"))
    images = tiny.dataset()
    three = Dataset("bars", images.images, images.labels, 3)
    with pytest.raises(ValueError, match="bars has 3 classes, the model 2"):
        Trainer(config, dataclasses.replace(data, of=three), backends.get("numpy"))


def test_with_flips_latents_of_mirrored_images_follow(autoencoder, data):
    """And not latents that are mirrored, which are others."""
    both, images = tiny_vae.encoded(autoencoder, flip=True), tiny.dataset()
    mirrored = tiny_vae.encoded(autoencoder, dataclasses.replace(images, images=images.images[:, :, ::-1]))
    assert np.array_equal(both.images, np.concatenate([data.images, mirrored.images]))
    assert not np.allclose(mirrored.images, data.images[:, :, ::-1], atol=0.1)
    assert both.labels.tolist() == 2 * data.labels.tolist() and len(both) == 2 * len(data)


def test_with_flips_training_is_that_on_twice_as_many(autoencoder):
    both, images = tiny_vae.encoded(autoencoder, flip=True), tiny.dataset()
    twice = np.concatenate([images.images, images.images[:, :, ::-1]]), np.tile(images.labels, 2)
    twice = tiny_vae.encoded(autoencoder, Dataset(images.name, *twice, images.classes))
    flipped, plain = tiny_vae.latent_trainer(both, flip=True), tiny_vae.latent_trainer(twice)
    assert left_behind(flipped)[0] == left_behind(plain)[0]


def test_latents_that_are_kept_are_not_taken_for_those_with_flips(autoencoder, data, own_cache):
    for flip in (False, True, False):
        assert len(tiny_vae.encoded(autoencoder, flip=flip, cache=True)) == (1 + flip) * len(data)


def test_flips_of_a_run_are_those_of_its_latents(data):
    with pytest.raises(ValueError, match="flip of the run is True, of the latents that it is trained on False"):
        tiny_vae.latent_trainer(data, flip=True)
