import numpy as np
import pytest

from tests.checks import COMPILED, assert_close, backend_or_skip, normal
from tinydiff import backends
from tinydiff.data.dataset import bytes_to_signed
from tinydiff.noise import predictions, schedules
from tinydiff.noise.corrupt import Corruptor


@pytest.mark.parametrize("kind", predictions.KINDS)
def test_each_sample_has_its_own_step(kind):
    schedule = schedules.cosine(50)
    corrupt = Corruptor(schedule, kind, "min_snr", backends.get("numpy"), np.float64)
    x0, eps, step = normal(0, 3, 4, 4, 1), normal(1, 3, 4, 4, 1), np.array([0, 17, 49])
    x, target, weight = corrupt(x0, eps, step)
    weights = predictions.loss_weights(schedule, kind, "min_snr")
    for i, t in enumerate(step):
        a, s = schedule.signal_rate[t], schedule.noise_rate[t]
        assert_close(x[i], a * x0[i] + s * eps[i])
        assert_close(target[i], {"eps": eps[i], "x0": x0[i], "v": a * eps[i] - s * x0[i], "flow": eps[i] - x0[i]}[kind])
        assert weight[i] == weights[t]


@pytest.mark.parametrize("kind", predictions.KINDS)
@pytest.mark.parametrize("images", [np.uint8, np.float32])
@pytest.mark.parametrize("name", ["numpy", *COMPILED])
def test_drawn_in_one_pass_it_is_the_same(name, kind, images):
    backend = backend_or_skip(name)
    corrupt = Corruptor(schedules.linear(50), kind, "min_snr", backend)
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1)).astype(images)
    index, step, number = np.array([4, 0, 4]), np.array([0, 17, 49]), np.array([7])
    eps = backend.philox.forward(3, "noise", np.arange(3), 7, (4, 4, 1), kind="normal")
    for drawn, given in zip(
        corrupt.draw(images, index, step, number, seed=3), corrupt(bytes_to_signed(images[index]), eps, step)
    ):
        assert_close(drawn, given, 1e-6)
