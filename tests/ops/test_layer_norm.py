import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.checks import assert_caught, assert_close, check_op, normal, ones, seeds
from tinydiff.ops import layer_norm


@given(
    leading=st.lists(st.integers(1, 4), max_size=3),
    C=st.integers(1, 6),
    mean=st.sampled_from([0.0, 0.0, 30.0]),
    seed=seeds,
)
@example([1], 1, 0.0, 0)  # one channel
def test_gradient(leading, C, mean, seed):
    inputs = {"x": normal(seed, *leading, C) + mean, "gamma": normal(seed + 1, C), "beta": normal(seed + 2, C)}
    # a large eps where a token has few values: their variance may otherwise be close to 0, where the function bends too
    # sharply for finite differences
    options = {"eps": 1e-5 if C > 4 else 0.1}
    check_op(layer_norm, inputs, options, seed=seed)
    x = inputs["x"]
    xhat = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + options["eps"])
    assert_close(layer_norm.forward(*inputs.values(), **options)[0], xhat * inputs["gamma"] + inputs["beta"])


@pytest.mark.parametrize(
    "line, replacement",
    [
        (" - through_mean", ""),
        (" - xhat * through_var", ""),
        ("dx = rstd[:, None] * ", "dx = "),
        ("dxhat = dy_MC * gamma", "dxhat = dy_MC.copy()"),
        ("(dy_MC * xhat).sum(axis=0)", "(dy_MC * xhat)[0]"),
        ("dy_MC.sum(axis=0)", "dy_MC[0]"),
    ],
)
def test_a_dropped_term_is_caught(line, replacement):
    inputs = {"x": normal(0, 2, 3, 5), "gamma": normal(1, 5), "beta": normal(2, 5)}
    assert_caught(layer_norm, inputs, {}, line, replacement)


def test_a_large_mean_costs_no_more_digits_than_float32_has(backend):
    moved = (normal(0, 20, 64) + 1000).astype(np.float32)
    truth, _ = layer_norm.forward(moved.astype(np.float64), np.ones(64), np.zeros(64))
    y, _ = backend.layer_norm.forward(moved, ones(64), 0 * ones(64))
    # the mean of values near 1000 is off by about one part in 2^24; mean(x^2) - mean^2 would be off by 10 %
    assert_close(y, truth, 1e-3)


def test_what_is_added_is_added_to_dx(backend):
    x, dy, add = (normal(seed, 2, 3, 5).astype(np.float32) for seed in range(3))
    _, cache = backend.layer_norm.forward(x, ones(5), ones(5))
    alone, together = backend.layer_norm.backward(dy, cache), backend.layer_norm.backward(dy, cache, add)
    assert_close(together[0], alone[0] + add, 1e-6)
    assert all(np.array_equal(a, b) for a, b in zip(together[1:], alone[1:]))
    with pytest.raises(ValueError, match=r"add must have shape \(2, 3, 5\), got \(2, 3, 1\)"):
        backend.layer_norm.backward(dy, cache, np.ascontiguousarray(add[..., :1]))


def test_gradients_are_written_where_they_are_wanted(backend):
    x, dy = normal(0, 3, 4).astype(np.float32), normal(1, 3, 4).astype(np.float32)
    _, cache = backend.layer_norm.forward(x, ones(4), ones(4))
    into = np.empty(4, np.float32), np.empty(4, np.float32)
    _, dgamma, dbeta = backend.layer_norm.backward(dy, cache, into=into)
    assert dgamma is into[0] and dbeta is into[1] and np.allclose(dbeta, dy.sum(axis=0))


def test_bad_arguments(backend):
    with pytest.raises(ValueError, match="eps must be positive, got 0.0"):
        backend.layer_norm.forward(ones(2, 4), ones(4), ones(4), eps=0.0)
    with pytest.raises(ValueError, match=r"gamma must have shape \(C\) with C = 4 from x, got \(3,\)"):
        backend.layer_norm.forward(ones(2, 4), ones(3), ones(4))
