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
    film=st.booleans(),
    fused=st.booleans(),
    mean=st.sampled_from([0.0, 0.0, 30.0]),
    seed=seeds,
)
@example(1, 1, 1, 2, 2, True, True, 0.0, 0)  # one pixel
@example(2, 2, 2, 1, 1, False, False, 0.0, 0)  # one channel, one group
def test_gradient(N, H, W, groups, width, film, fused, mean, seed):
    C = groups * width
    inputs = {"x": normal(seed, N, H, W, C) + mean, "gamma": normal(seed + 1, C), "beta": normal(seed + 2, C)}
    inputs |= {"scale": normal(seed + 3, N, C) if film else None, "shift": normal(seed + 4, N, C) if film else None}
    # a large eps where a group has few values: their variance may otherwise be close to 0, where the
    # function bends too sharply for finite differences
    options = {"groups": groups, "silu": fused, "eps": 1e-5 if H * W * width > 4 else 0.1}
    check_op(group_norm, inputs, options, seed=seed)

    split = inputs["x"].reshape(N, H, W, groups, width)
    centred = split - split.mean(axis=(1, 2, 4), keepdims=True)
    expected = centred / np.sqrt(np.mean(centred**2, axis=(1, 2, 4), keepdims=True) + options["eps"])
    expected = expected.reshape(N, H, W, C) * inputs["gamma"] + inputs["beta"]
    if film:
        expected = expected * (1 + inputs["scale"])[:, None, None] + inputs["shift"][:, None, None]
    if fused:
        expected = silu.forward(expected)[0]
    assert_close(group_norm.forward(*inputs.values(), **options)[0], expected)


@pytest.mark.parametrize(
    "line, replacement",
    [
        ("    dx -= through_mean\n", ""),
        ("    dx -= xhat\n", ""),
        ("    dx *= rstd_NC\n", ""),
        ("dxhat = dh * gamma", "dxhat = dh.copy()"),
        ("dy * silu_op.slope(_affine(xhat.copy(), cache))", "dy"),
        ("dh_xhat.sum(axis=0)", "dh_xhat[0]"),
        ("dh_sum.sum(axis=0)", "dh_sum[0]"),
        ("gamma * du_xhat + beta * du_sum", "gamma * du_xhat"),
        ("dshift = du_sum", "dshift = 2 * du_sum"),
        ("dh = du * (1 + scale)[:, None, None]", "dh = du"),
        ("(1 + scale) * du_xhat, (1 + scale) * du_sum", "du_xhat, du_sum"),
    ],
)
def test_a_dropped_term_is_caught(line, replacement):
    inputs = {"x": normal(0, 2, 3, 3, 4), "gamma": normal(1, 4), "beta": normal(2, 4)}
    inputs |= {"scale": normal(3, 2, 4), "shift": normal(4, 2, 4)}
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


def test_scale_and_shift_come_together(backend):
    x, gamma = ones(1, 2, 2, 4), ones(4)
    with pytest.raises(ValueError, match="scale and shift must be given together"):
        backend.group_norm.forward(x, gamma, gamma, ones(1, 4), groups=1)
    with pytest.raises(
        ValueError, match=r"shift must have shape \(N, C\) with N = 1 from x, C = 4 from x, got \(2, 4\)"
    ):
        backend.group_norm.forward(x, gamma, gamma, ones(1, 4), ones(2, 4), groups=1)


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
