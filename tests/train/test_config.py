import dataclasses
import json
import math

import numpy as np
import pytest

from tinydiff import backends
from tinydiff.model.unet import UNet, UNetConfig
from tinydiff.train import TrainConfig
from tinydiff.train.averaging import decay_at
from tinydiff.train.presets import PRESETS


@pytest.mark.parametrize("config", [preset.config for preset in PRESETS.values()], ids=list(PRESETS))
def test_json_round_trip(config):
    assert TrainConfig(**json.loads(json.dumps(config.to_dict()))) == config


def test_the_network_of_cifar10_is_as_large_as_the_published_one():
    model = dataclasses.replace(PRESETS["cifar10"].config.model, classes=0)
    assert UNet(model, backends.get("numpy")).parameters.count == 35_746_307  # Ho et al., 2020, section 4: 35.7 million


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


def test_a_longer_run_on_a_cosine_begins_its_learning_rate_anew():
    short = TrainConfig(steps=100, warmup_steps=9, learning_rate=1.0)
    longer = short.lengthened(160, at=100)
    assert (longer.steps, longer.restarts) == (160, (100,))
    assert all(longer.learning_rate_at(step) == short.learning_rate_at(step) for step in range(1, 101))
    second = TrainConfig(steps=60, warmup_steps=9, learning_rate=1.0)
    assert all(longer.learning_rate_at(100 + step) == second.learning_rate_at(step) for step in range(1, 61))
    assert longer.lengthened(200, at=160).restarts == (100, 160)
    assert TrainConfig(**json.loads(json.dumps(longer.to_dict()))) == longer
    with pytest.raises(ValueError, match="can be made longer when it is finished; this one is at step 99 of 100"):
        short.lengthened(160, at=99)
    with pytest.raises(ValueError, match="steps must be more than the 100 of the run, got 100"):
        short.lengthened(100, at=100)


def test_a_longer_run_at_a_constant_learning_rate_goes_on():
    constant = TrainConfig(steps=100, decay="constant")
    assert constant.lengthened(160, at=30) == TrainConfig(steps=160, decay="constant")


def test_the_average_warms_up():
    assert decay_at(1, 0.999) == 2 / 11
    assert decay_at(10**6, 0.999) == 0.999


@pytest.mark.parametrize(
    "change, message",
    [
        ({"schedule": "sine"}, "schedule must be one of linear, cosine, flow, scaled_linear, got 'sine'"),
        ({"prediction": "score"}, "prediction must be one of eps, x0, v, flow"),
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
        ({"steps": 10**12}, r"steps must lie in \[1, 1000000000\]"),
        ({"noise_steps": 10**12}, r"noise_steps must lie in \[1, 1000000\]"),
        ({"restarts": (1000,)}, r"restarts must be rising steps in \(0, 1000\), got \(1000,\)"),
        ({"restarts": (5, 5)}, "restarts must be rising steps"),
        ({"steps": 3.0}, "steps must be an integer, got 3.0"),
        ({"steps": True}, "steps must be an integer, got True"),
        ({"learning_rate": "1e-3"}, "learning_rate must be a number, got '1e-3'"),
        ({"schedule": None}, "schedule must be text, got None"),
        ({"restarts": ("a",)}, r"restarts must be a list, each an integer, got \('a',\)"),
        ({"model": None}, "model must be UNetConfig, got None"),
        ({"model": {"channels": 8}}, "channels must be a list, each an integer, got 8"),
        ({"model": {"channels": "88"}}, "channels must be a list, each an integer, got '88'"),
        ({"restarts": None}, "restarts must be a list, each an integer, got None"),
        ({"model": {"size": 8.0}}, "size must be an integer, got 8.0"),
        ({"model": {"film": 1}}, "film must be true or false, got 1"),
        ({"model": {"dropout": 1}}, r"dropout must lie in \[0, 1\), got 1"),
        ({"model": {"dropout": "0.1"}}, "dropout must be a number, got '0.1'"),
        ({"flip": 1}, "flip must be true or false, got 1"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{"model": UNetConfig(), **change})


def test_numbers_of_numpy_are_numbers():
    config = TrainConfig(steps=np.int64(5), learning_rate=np.float32(0.5), model=UNetConfig(size=np.int32(28)))
    assert config.steps == 5 and config.model.size == 28
