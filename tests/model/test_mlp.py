import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import normal, seeds
from tests.model.checks import OnlyX, assert_caught, check, randomise
from tinydiff import backends
from tinydiff.model.mlp import MLP, MLPConfig


def build(seed=0, **config):
    model = MLP(MLPConfig(width=6, **config), backends.get("numpy"), np.float64)
    randomise(model.parameters, seed)
    return model


@given(N=st.integers(1, 3), layers=st.integers(1, 2), classes=st.integers(0, 2), seed=seeds)
def test_gradient(N, layers, classes, seed):
    model, x = build(seed, layers=layers, classes=classes), normal(seed, N, 2)
    check(OnlyX(model, x, seed), model.parameters, {"x": x}, seed=seed)


@pytest.mark.parametrize(
    "line, replacement",
    [
        ("dh = dh + dshift", "dh = dshift"),
        ("functools.reduce(operator.add, dtimes)", "dtimes[-1]"),
        ("dembedding = silu.backward(dtime, cache.time_silu)", "dembedding = dtime"),
    ],
)
def test_a_dropped_term_is_caught(monkeypatch, line, replacement):
    model, x = build(classes=2, layers=2), normal(0, 3, 2)
    assert_caught(monkeypatch, OnlyX(model, x), model.parameters, {"x": x}, line, replacement)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"width": 7}, "width must be even, got 7"),
        ({"classes": -1}, "classes must be at least 0, got -1"),
    ],
)
def test_bad_config(config, message):
    with pytest.raises(ValueError, match=message):
        MLPConfig(**config)
