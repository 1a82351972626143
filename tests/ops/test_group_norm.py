import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.checks import assert_caught, assert_close, check_op, normal, ones, seeds
from tinydiff.ops import group_norm, silu


@given(
    N=st.integers(1, 3),
    H=st.integers(1, 4),
    W=st.integers(1, 4),
    groups=st.integers(1, 3),
    width=st.integers(1, 3),
    fused=st.booleans(),
    mean=st.sampled_from([0.0, 0.0, 30.0]),
    seed=seeds,
)
@example(1, 1, 1, 2, 2, True, 0.0, 0)  # one pixel
@example(2, 2, 2, 1, 1, False, 0.0, 0)  # one channel, one group
def test_gradient(N, H, W, groups, width, fused, mean, seed):
    C = groups * width
    x, gamma, beta = normal(seed, N, H, W, C) + mean, normal(seed + 1, C), normal(seed + 2, C)
    # a large eps where a group has few values: their variance may otherwise be close to 0, where the
    # function bends too sharply for finite differences
    options = {"groups": groups, "silu": fused, "eps": 1e-5 if H * W * width > 4 else 0.1}
    check_op(group_norm, {"x": x, "gamma": gamma, "beta": beta}, options, seed=seed)

    split = x.reshape(N, H, W, groups, width)
    centred = split - split.mean(axis=(1, 2, 4), keepdims=True)
    expected = centred / np.sqrt(np.mean(centred**2, axis=(1, 2, 4), keepdims=True) + options["eps"])
    expected = expected.reshape(x.shape) * gamma + beta
    if fused:
        expected = silu.forward(expected)[0]
    assert_close(group_norm.forward(x, gamma, beta, **options)[0], expected)


@pytest.mark.parametrize(
    "line, replacement",
    [
        ("    dx -= through_mean\n", ""),
        ("    dx -= xhat\n", ""),
        ("    dx *= rstd_NC\n", ""),
        ("dxhat = du * gamma", "dxhat = du.copy()"),
        ("dy * silu_op.slope(gamma * xhat + beta)", "dy"),
        ("du_xhat.sum(axis=0)", "du_xhat[0]"),
        ("du_sum.sum(axis=0)", "du_sum[0]"),
    ],
)
def test_a_dropped_term_is_caught(line, replacement):
    inputs = {"x": normal(0, 2, 3, 3, 4), "gamma": normal(1, 4), "beta": normal(2, 4)}
    assert_caught(group_norm, inputs, {"groups": 2, "silu": True}, line, replacement)


def test_a_large_mean_costs_no_more_digits_than_float32_has():
    x = normal(0, 2, 8, 8, 4)
    moved = (x + 1000).astype(np.float32)
    one, zero = np.ones(4), np.zeros(4)
    truth, _ = group_norm.forward(moved.astype(np.float64), one, zero, groups=2)
    y, _ = group_norm.forward(moved, one.astype(np.float32), zero.astype(np.float32), groups=2)
    # the mean of values near 1000 is off by about one part in 2^24; mean(x^2) - mean^2 would be off by 10 %
    assert_close(y, truth, 1e-3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"groups": 3}, "groups must divide the 4 channels of x, got 3"),
        ({"groups": 0}, "groups must divide"),
        ({"groups": 2, "eps": 0.0}, "eps must be positive"),
    ],
)
def test_bad_options(backend, options, message):
    with pytest.raises(ValueError, match=message):
        backend.group_norm.forward(ones(1, 2, 2, 4), ones(4), ones(4), **options)


def test_bad_shapes(backend):
    with pytest.raises(ValueError, match=r"gamma must have shape \(C\) with C = 4 from x, got \(3,\)"):
        backend.group_norm.forward(ones(1, 2, 2, 4), ones(3), ones(4), groups=1)


def test_what_is_added_is_added_to_dx():
    x, dy, add = (normal(seed, 2, 3, 3, 4) for seed in range(3))
    _, cache = group_norm.forward(x, np.ones(4), np.ones(4), groups=2)
    alone, together = group_norm.backward(dy, cache), group_norm.backward(dy, cache, add)
    assert_close(together[0], alone[0] + add)
    assert all(np.array_equal(a, b) for a, b in zip(together[1:], alone[1:]))
    with pytest.raises(ValueError, match=r"add must have shape \(2, 3, 3, 4\), got \(2, 3, 3, 1\)"):
        group_norm.backward(dy, cache, add[..., :1])
