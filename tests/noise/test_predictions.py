import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_close, normal, seeds
from tinydiff.noise import predictions, schedules


@given(angle=st.floats(0.05, 1.5), seed=seeds)
@pytest.mark.parametrize("kind, other", list(itertools.product(predictions.KINDS, repeat=2)))
def test_conversions_round_trip(kind, other, angle, seed):
    a, s = np.cos(angle), np.sin(angle)
    x0, eps = normal(seed, 2, 3), normal(seed + 1, 2, 3)
    x = a * x0 + s * eps
    prediction = predictions.join(kind, x0, eps, a, s)
    for actual, expected in zip(predictions.split(kind, prediction, x, a, s), (x0, eps)):
        assert_close(actual, expected, 1e-9)
    there = predictions.convert(kind, other, prediction, x, a, s)
    assert_close(there, predictions.join(other, x0, eps, a, s), 1e-9)
    assert_close(predictions.convert(other, kind, there, x, a, s), prediction, 1e-9)


@pytest.mark.parametrize("weighting", ["min_snr", "truncated_snr"])
def test_the_error_of_x0_is_weighed_alike_whatever_is_predicted(weighting):
    schedule = schedules.cosine(100)
    snr = schedule.alpha_bar / (1 - schedule.alpha_bar)
    # an error e of x0 is an error -a/s e of eps, -e/s of v and -(a + s)/s e of flow
    on_x0 = {
        "x0": predictions.loss_weights(schedule, "x0", weighting),
        "eps": predictions.loss_weights(schedule, "eps", weighting) * snr,
        "v": predictions.loss_weights(schedule, "v", weighting) / schedule.noise_rate**2,
        "flow": predictions.loss_weights(schedule, "flow", weighting)
        * (schedule.signal_rate / schedule.noise_rate + 1) ** 2,
    }
    for weights in on_x0.values():
        assert_close(weights, np.minimum(snr, 5) if weighting == "min_snr" else np.maximum(snr, 1), 1e-9)
    assert np.all(predictions.loss_weights(schedule, "v", "simple") == 1)


def test_denoiser_clips_to_the_range_of_the_data():
    schedule = schedules.linear(10)
    x = np.array([[3.0, -0.2]])
    predict = lambda x, step: np.array([[2.0, 0.5]])
    assert_close(predictions.denoiser(predict, schedule, "x0", clip=(-1, 1))(x, 4), [[1, 0.5]])
    a, s = schedule.rates(4)
    assert_close(predictions.denoiser(predict, schedule, "eps")(x, 4), (x - s * np.array([[2, 0.5]])) / a)


def test_bad_names():
    with pytest.raises(ValueError, match="prediction must be one of eps, x0, v, flow, got 'score'"):
        predictions.join("score", 0, 0, 1, 0)
    with pytest.raises(ValueError, match="loss_weight must be one of simple, min_snr, truncated_snr, got 'p2'"):
        predictions.loss_weights(schedules.linear(10), "v", "p2")
