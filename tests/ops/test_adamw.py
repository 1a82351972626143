import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_close, normal, ones, seeds
from tinydiff.ops import adamw


def step(buffers, number=1, norm=1.0, limit=1.0, learning_rate=0.1, average_decay=0.9, op=adamw, **options):
    def one(value):
        return np.array([value], buffers[0].dtype)

    op.forward(
        *buffers,
        learning_rate=one(learning_rate),
        step_number=np.array([number]),
        norm=one(norm),
        limit=limit,
        average_decay=None if average_decay is None or len(buffers) < 5 else one(average_decay),
        **options,
    )


@given(P=st.integers(1, 6), data=st.data(), weight_decay=st.floats(0, 1), seed=seeds)
def test_three_steps_by_the_formulas_one_value_at_a_time(P, data, weight_decay, seed):
    decayed = data.draw(st.integers(0, P))
    params = normal(seed, P)
    buffers = [params.copy(), None, np.zeros(P), np.zeros(P), params.copy()]
    p, m, v, a = list(params), [0.0] * P, [0.0] * P, list(params)
    for number in (1, 2, 3):
        g = normal(seed + number, P)
        buffers[1] = g.copy()
        step(buffers, number, norm=2.0, limit=1.0, weight_decay=weight_decay, decayed=decayed)
        assert np.array_equal(buffers[1], g)  # gradients are only read
        for i in range(P):
            m[i] = 0.9 * m[i] + 0.1 * 0.5 * g[i]
            v[i] = 0.999 * v[i] + 0.001 * (0.5 * g[i]) ** 2
            update = (m[i] / (1 - 0.9**number)) / (np.sqrt(v[i] / (1 - 0.999**number)) + 1e-8)
            p[i] -= 0.1 * (update + (weight_decay * p[i] if i < decayed else 0))
            a[i] += 0.1 * (p[i] - a[i])
    for actual, expected in zip((buffers[0], buffers[2], buffers[3], buffers[4]), (p, m, v, a)):
        assert_close(actual, expected)


def test_the_first_step_is_the_learning_rate_in_the_direction_of_the_sign():
    params, grads = np.zeros(3), np.array([5.0, -0.01, 0.0])
    step([params, grads, np.zeros(3), np.zeros(3)])
    assert_close(params, [-0.1, 0.1, 0], 1e-6)


@pytest.mark.parametrize("norm, limit, factor", [(0.0, 1.0, 1), (0.5, 2.0, 1), (4.0, 2.0, 0.5)])
def test_a_norm_above_the_limit_is_brought_down_to_it(backend, norm, limit, factor):
    buffers, by_hand = [[ones(3), ones(3), np.zeros(3, np.float32), np.zeros(3, np.float32)] for _ in range(2)]
    by_hand[1] *= np.float32(factor)
    step(buffers, norm=norm, limit=limit, average_decay=None, op=backend.adamw)
    step(by_hand, average_decay=None, op=backend.adamw)
    assert all(map(np.array_equal, buffers[2:], by_hand[2:]))


def test_without_a_norm_nothing_is_clipped(backend):
    buffers = [ones(2), 5 * ones(2), np.zeros(2, np.float32), np.zeros(2, np.float32)]
    backend.adamw.forward(*buffers, learning_rate=ones(1), step_number=np.array([1]))
    assert_close(buffers[2], [0.5, 0.5], 1e-6)


@pytest.mark.parametrize("norm", [float("inf"), float("nan")])
def test_a_norm_that_is_not_finite_changes_nothing(backend, norm):
    buffers = [ones(2), np.nan * ones(2), ones(2), ones(2), ones(2)]
    step(buffers, norm=norm, op=backend.adamw)
    for i in (0, 2, 3, 4):
        assert np.array_equal(buffers[i], ones(2))


@pytest.mark.parametrize("decayed", [0, 1, 6, 9])
def test_the_copy_is_the_decayed_parameters_rounded(backend, decayed):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    buffers = [normal(i, 9, dtype=np.float32) for i in range(2)] + [np.zeros(9, np.float32) for _ in range(2)]
    copy = np.full(decayed, np.nan, bfloat16)
    step([*buffers, None, copy], decayed=decayed, average_decay=None, op=backend.adamw)
    assert np.array_equal(copy.view(np.uint16), buffers[0][:decayed].astype(bfloat16).view(np.uint16))
    with pytest.raises(ValueError, match=rf"copy must be bfloat16 of shape \({decayed},\), got float32 \(9,\)"):
        step([*buffers, None, ones(9)], decayed=decayed, average_decay=None, op=backend.adamw)


def test_bad_input(backend):
    buffers, op = [ones(2) for _ in range(4)], backend.adamw
    with pytest.raises(ValueError, match=r"grads must have shape \(P\) with P = 2 from params, got \(3,\)"):
        step([buffers[0], ones(3), *buffers[2:]], op=op)
    with pytest.raises(ValueError, match=r"decayed must lie in \[0, 2\], got 3"):
        step(buffers, decayed=3, op=op)
    with pytest.raises(ValueError, match="average and average_decay must be given together"):
        op.forward(*buffers, ones(2), learning_rate=ones(1), step_number=np.array([1]))
    for limit in ({}, {"limit": 0.0}):
        with pytest.raises(ValueError, match="norm and a limit above 0 must be given together"):
            op.forward(*buffers, learning_rate=ones(1), step_number=np.array([1]), norm=ones(1), **limit)
