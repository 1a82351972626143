import json
import math

import pytest

from tinydiff.model.unet import UNetConfig
from tinydiff.train import TrainConfig
from tinydiff.train.averaging import decay_at
from tinydiff.train.presets import PRESETS


@pytest.mark.parametrize("config", [preset.config for preset in PRESETS.values()], ids=list(PRESETS))
def test_json_round_trip(config):
    assert TrainConfig(**json.loads(json.dumps(config.to_dict()))) == config


def test_the_learning_rate_rises_and_falls():
    config = TrainConfig(steps=100, warmup_steps=9, learning_rate=1.0)
    rates = [config.learning_rate_at(step) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.1) and max(rates) <= 1 and rates[-1] == pytest.approx(0, abs=1e-12)
    peak = rates.index(max(rates))
    assert peak in (8, 9, 10)
    assert all(a < b for a, b in zip(rates[:peak], rates[1:])) and all(
        a > b for a, b in zip(rates[peak:], rates[peak + 1 :])
    )
    constant = TrainConfig(steps=100, warmup_steps=9, learning_rate=1.0, decay="constant")
    assert constant.learning_rate_at(100) == 1


def test_the_average_warms_up():
    assert decay_at(1, 0.999) == 2 / 11
    assert decay_at(10**6, 0.999) == 0.999


@pytest.mark.parametrize(
    "change, message",
    [
        ({"schedule": "sine"}, "schedule must be one of linear, cosine, got 'sine'"),
        ({"prediction": "score"}, "prediction must be one of eps, x0, v"),
        ({"loss_weight": "p2"}, "loss_weight must be one of simple, min_snr"),
        ({"decay": "step"}, "decay must be one of cosine, constant"),
        ({"batch": 0}, r"batch must lie in \[1, inf\], got 0"),
        ({"steps": 0}, "steps must lie in"),
        ({"label_dropout": 1.5}, r"label_dropout must lie in \[0, 1\], got 1.5"),
        ({"learning_rate": math.nan}, "learning_rate must be positive and finite, got nan"),
        ({"step_power": 0}, "step_power must be positive and finite, got 0"),
        ({"clip": 0}, "clip must be positive and finite, got 0"),
        ({"average_decay": 1}, r"average_decay must lie in \[0, 1\), got 1"),
        ({"seed": -1}, "seed must lie in"),
        ({"weight_decay": -0.1}, "weight_decay must lie in"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(model=UNetConfig(), **change)
