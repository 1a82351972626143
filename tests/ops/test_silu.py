import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_caught, assert_close, check_op, normal, seeds
from tinydiff.ops import silu


@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=seeds)
def test_gradient(shape, seed):
    check_op(silu, {"x": 3 * normal(seed, *shape)}, seed=seed)


def test_values():
    x = np.array([0.0, 1.0, -1.0])
    assert_close(silu.forward(x)[0], x / (1 + np.exp(-x)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_ends(dtype):
    far_ends(silu, dtype)


def test_far_ends_on_every_backend(backend):
    far_ends(backend.silu, np.float32)


def far_ends(op, dtype):
    x = np.array([-1e4, -100, 100, 1e4], dtype)
    y, cache = op.forward(x)
    assert_close(y, [0, 0, 100, 1e4])
    assert_close(op.backward(np.ones_like(x), cache), [0, 0, 1, 1])


def test_a_wrong_slope_is_caught(monkeypatch):
    assert_caught(silu, {"x": normal(0, 7)}, {}, "slope(x)", "sigmoid(x)")
