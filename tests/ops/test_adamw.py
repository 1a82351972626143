import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_close, normal, ones, seeds
from tinydiff.ops import adamw


def step(buffers, number=1, clip=1.0, learning_rate=0.1, average_decay=0.9, op=adamw, **options):
    def one(value):
        return np.array([value], buffers[0].dtype)

    op.forward(
        *buffers,
        learning_rate=one(learning_rate),
        step_number=np.array([number]),
        clip=one(clip),
        average_decay=one(average_decay) if len(buffers) == 5 else None,
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
        step(buffers, number, clip=0.5, weight_decay=weight_decay, decayed=decayed)
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


@pytest.mark.parametrize("clip", [0.0, float("nan")])
def test_a_clip_that_marks_bad_gradients_changes_nothing(backend, clip):
    buffers = [ones(2), np.nan * ones(2), ones(2), ones(2), ones(2)]
    step(buffers, clip=clip, op=backend.adamw)
    for i in (0, 2, 3, 4):
        assert np.array_equal(buffers[i], ones(2))


def test_bad_input(backend):
    buffers, op = [ones(2) for _ in range(4)], backend.adamw
    with pytest.raises(ValueError, match=r"grads must have shape \(P\) with P = 2 from params, got \(3,\)"):
        step([buffers[0], ones(3), *buffers[2:]], op=op)
    with pytest.raises(ValueError, match=r"decayed must lie in \[0, 2\], got 3"):
        step(buffers, decayed=3, op=op)
    with pytest.raises(ValueError, match="average and average_decay must be given together"):
        op.forward(*buffers, ones(2), learning_rate=ones(1), step_number=np.array([1]), clip=ones(1))
