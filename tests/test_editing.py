"""Drawing that begins with an image: what strength and masks promise, of every sampler."""

import numpy as np
import pytest

from tests.checks import COMPILED, assert_close, backend_or_skip, normal
from tests.train import tiny
from tinydiff import backends
from tinydiff.editing import Editing
from tinydiff.generate import Trajectory
from tinydiff.model.unet import UNet, UNetConfig
from tinydiff.noise import schedules
from tinydiff.samplers import SAMPLERS

SCHEDULE = schedules.cosine(50)
IMAGE = np.clip(normal(0, 8, 8, 1), -1, 1).astype(np.float32)
KEEP = np.zeros((8, 8, 1), np.float32)
KEEP[:, :5] = 1
every = pytest.mark.parametrize("sampler", SAMPLERS)


def model(backend="numpy"):
    made = UNet(UNetConfig(**tiny.MODEL), backend if not isinstance(backend, str) else backends.get(backend))
    rng = np.random.default_rng(0)
    made.parameters.values[...] = made.backend.asarray(
        rng.standard_normal(made.parameters.count).astype(np.float32) / 6
    )
    made.parameters.refresh()
    return made


def draw(editing, sampler="ddim", steps=6, seed=3, network=None, **options):
    trajectory = Trajectory(network or model(), SCHEDULE, "v", 3, sampler=sampler, steps=steps, way=editing, **options)
    return np.array(trajectory.model.backend.to_numpy(trajectory.draw([0, 1, 2], seed=seed)))


@every
def test_strength_0_gives_the_image_back_and_1_none_of_it(sampler):
    assert np.array_equal(draw(Editing(IMAGE, strength=0.0), sampler), np.stack([IMAGE] * 3))
    other = -IMAGE
    assert_close(
        draw(Editing(IMAGE), sampler), draw(Editing(other), sampler), 0.1
    )  # of the last step hardly any is left
    near = np.abs(draw(Editing(IMAGE, strength=0.2), sampler) - IMAGE).mean()
    assert near < 0.6 * np.abs(draw(Editing(IMAGE, strength=0.9), sampler) - IMAGE).mean()


@every
@pytest.mark.parametrize("resample", [1, 3])
def test_what_the_mask_keeps_is_kept_to_the_bit(sampler, resample):
    drawn = draw(Editing(IMAGE, KEEP, resample=resample), sampler)
    assert np.array_equal(drawn[:, :, :5], np.stack([IMAGE] * 3)[:, :, :5])
    assert np.abs(drawn[:, :, 5:] - IMAGE[:, 5:]).max() > 0.1 and np.isfinite(drawn).all()
    assert np.abs(drawn[0] - drawn[1]).max() > 0.01  # each from noise of its own
    again = draw(Editing(IMAGE, KEEP, resample=resample), sampler)
    assert np.array_equal(drawn, again) and not np.array_equal(drawn, draw(Editing(IMAGE, KEEP), sampler, seed=4))


def test_a_mask_that_keeps_all_gives_the_image_and_one_that_keeps_nothing_changes_nothing():
    assert np.array_equal(draw(Editing(IMAGE, np.ones_like(KEEP))), np.stack([IMAGE] * 3))
    assert np.array_equal(draw(Editing(IMAGE, np.zeros_like(KEEP))), draw(Editing(IMAGE)))


def test_what_is_drawn_knows_what_is_kept():
    """The network's guess beside the edge is another where something else is kept."""
    one, other = draw(Editing(IMAGE, KEEP)), draw(Editing(-IMAGE, KEEP))
    assert np.abs(one[:, :, 5:] - other[:, :, 5:]).max() > 0.01


@pytest.mark.parametrize("resample, evaluations", [(1, 6), (2, 5 * 2 * 2 + 1), (3, 5 * 3 * 2 + 1)])
def test_how_often_the_network_is_asked(resample, evaluations):
    network, asked = model(), []
    predict = network.predict
    network.predict = lambda *arguments: asked.append(1) or predict(*arguments)
    draw(Editing(IMAGE, KEEP, resample=resample), network=network)
    assert len(asked) == evaluations


def test_noise_that_is_added_again_leaves_the_variance_of_the_step():
    """Of data that are one point, with a network that knows it, a step gone twice ends as one gone once."""
    n, image = 4000, np.zeros((1, 1, 1), np.float32)
    normals = iter(np.random.default_rng(0).standard_normal((100, n, 1, 1, 1)))
    editing = Editing(image, np.zeros((1, 1, 1), np.float32), resample=3)
    denoise_of = lambda labels: lambda x, step: 0 * x + 0.5
    ways = SAMPLERS["ddpm"].run, denoise_of, 0, None, lambda purpose, draw: next(normals), SCHEDULE
    for state in editing.states(*ways, SCHEDULE.grid(5), backends.get("numpy")):
        if state.step >= 0:
            a, s = SCHEDULE.rates(state.step)
            shift = 0.0 if state.step == 49 else 0.5 * a
            assert abs(state.x.mean() - shift) < 5 * s / n**0.5 + 1e-3 and abs(state.x.std() / s - 1) < 0.06


@pytest.mark.parametrize("name", COMPILED)
def test_on_compiled_backends(name):
    found = draw(Editing(IMAGE, KEEP, strength=0.7), network=model(backend_or_skip(name, "fp32")), steps=4)
    assert_close(found, draw(Editing(IMAGE, KEEP, strength=0.7), steps=4), 1e-3)


@pytest.mark.parametrize(
    "editing, message",
    [
        (Editing(IMAGE[:4]), r"init must be an image of shape \(8, 8, 1\), got \(4, 8, 1\)"),
        (Editing(IMAGE, KEEP[:, :4]), r"mask must be of shape \(8, 8, 1\), got \(8, 4, 1\)"),
        (Editing(IMAGE, strength=1.5), r"strength must lie in \[0, 1\], got 1.5"),
        (Editing(IMAGE, strength=float("nan")), r"strength must lie in \[0, 1\], got nan"),
        (Editing(IMAGE, KEEP, resample=0), "resample must be at least 1, got 0"),
    ],
)
def test_what_is_refused(editing, message):
    with pytest.raises(ValueError, match=message):
        draw(editing)
