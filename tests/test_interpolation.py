"""Images between two seeds and two labels."""

import numpy as np
import pytest
from PIL import Image

from tests.checks import assert_close
from tests.test_cli import failure
from tests.test_editing import SCHEDULE, model
from tests.test_evaluate import save
from tests.train import tiny
from tinydiff import cli, generate
from tinydiff.generate import Trajectory
from tinydiff.interpolation import Interpolation
from tinydiff.samplers import SAMPLERS

every = pytest.mark.parametrize("sampler", SAMPLERS)


def draw(way, labels=(0,) * 5, seed=3, sampler="ddim", guidance=1.5):
    options = dict(sampler=sampler, steps=5, guidance=guidance)
    trajectory = Trajectory(model(), SCHEDULE, "v", len(labels), way=way, **options)
    return np.array(trajectory.draw(list(labels), seed=seed))


@every
def test_the_ends_are_what_is_drawn_there_alone(sampler):
    between = draw(Interpolation(5, 1, 8), sampler=sampler)
    if sampler != "ddpm":  # whose own noise is the first seed's all the way
        assert_close(between[4], draw(None, [1], seed=8, sampler=sampler)[0], 1e-4)
    assert_close(between[0], draw(None, [0], sampler=sampler)[0], 1e-4)
    steps = np.abs(np.diff(between, axis=0)).mean(axis=(1, 2, 3))
    assert steps.min() > 0 and np.abs(between[4] - between[0]).mean() > steps.max()


def test_labels_alone_and_seeds_alone():
    of_labels, of_seeds = draw(Interpolation(5, label=1)), draw(Interpolation(5, seed=8))
    assert_close(of_labels[4], draw(None, [1])[0], 1e-4)
    assert_close(of_seeds[4], draw(None, [0], seed=8)[0], 1e-4)
    assert_close(of_labels[0], of_seeds[0], 1e-5)


def test_the_noise_between_is_as_large_as_that_of_either():
    made = []

    def sampler(denoise, start, *others, **options):
        made.append(start)

    network = model()
    trajectory = Trajectory(network, SCHEDULE, "v", 5, way=Interpolation(5, seed=8))
    trajectory._take([0] * 5, 3, 0)
    trajectory._sampler = sampler
    trajectory._states()
    assert np.abs(made[0].std(axis=(1, 2, 3)) - 1).max() < 0.35  # of 64 numbers; a straight line's middle has 0.71


def test_in_batches_they_are_the_same(monkeypatch):
    whole = draw(Interpolation(5, 1, 8))
    monkeypatch.setattr(generate, "PIXELS_AT_ONCE", 2 * 64)
    way = lambda count: Trajectory(model(), SCHEDULE, "v", count, steps=5, guidance=1.5, way=Interpolation(5, 1, 8))
    assert_close(generate.draw(way, np.zeros(5, int), (8, 8, 1), seed=3), whole, 1e-4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save(folder / "model.safetensors", tiny.dataset())
    return folder / "model.safetensors"


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_a_strip_and_a_film(run, tmp_path, ending):
    out = tmp_path / f"out.{ending}"
    arguments = ["--label", "0", "--label", "1", "--between", "4", "--to-seed", "5", "--steps", "2", "--out", str(out)]
    assert cli.main(["sample", str(run), *arguments]) == 0
    with Image.open(out) as picture:
        if ending == "gif":
            assert picture.n_frames == 4
        assert picture.size == ((4 if ending == "png" else 1) * 20 + 4, 24)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--label", "0", "--between", "4"], "between needs two labels or prompts, or to_seed, got 1"),
        (["--label", "0"] * 3 + ["--between", "4"], "between needs two labels or prompts, or to_seed, got 3"),
        (["--to-seed", "4"], "to_seed goes with between"),
        (["--label", "0", "--between", "4", "--to-seed", "-1"], "to_seed must be an integer in [0, 2^64), got -1"),
        (["--between", "4", "--to-seed", "1", "--init", "x.png"], "init does not go with between"),
    ],
)
def test_what_is_refused(run, tmp_path, capsys, arguments, message):
    assert message in failure(["sample", str(run), *arguments, "--out", str(tmp_path / "out.png")], capsys)
