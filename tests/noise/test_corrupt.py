import numpy as np
import pytest

from tests.checks import assert_close, normal
from tinydiff import backends
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
        assert_close(target[i], {"eps": eps[i], "x0": x0[i], "v": a * eps[i] - s * x0[i]}[kind])
        assert weight[i] == weights[t]
