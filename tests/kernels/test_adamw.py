"""adamw works in place and over several steps, so it has a comparison of its own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_as_good, same_bits, seeds
from tests.kernels.comparison import assert_same, moved
from tests.kernels.rows import between_nans, floats
from tinydiff.ops import adamw
from tinydiff.precision import bfloat16

BUFFERS = ("params", "mean", "mean_square", "average")
EACH_STEP = {"learning_rate": 0.0625, "norm": 2.0, "average_decay": 0.75}  # exact in float32


def train(op, start, grads, options, place=lambda x: x):
    """The buffers after one step for each of grads; without average if ``start`` has none."""
    buffers = [place(x) for x in start]
    each_step = {name: place(np.array([value], start[0].dtype)) for name, value in EACH_STEP.items()}
    if len(start) < len(BUFFERS):
        del each_step["average_decay"]
    for number, g in enumerate(grads, 1):
        given = place(g)
        op.forward(buffers[0], given, *buffers[1:], step_number=np.array([number]), limit=1.0, **each_step, **options)
        assert np.array_equal(given, g), "adamw changed grads"
    return buffers


def check(kernels, P, averaged, decayed, weight_decay, seed, threads):
    rng = np.random.default_rng(seed)
    params, *grads = (floats(rng, P) for _ in range(4))
    start = [params, np.zeros_like(params), np.zeros_like(params), params][: 4 if averaged else 3]
    options = {"decayed": decayed, "weight_decay": weight_decay}

    truth = train(adamw, start, grads, options, lambda x: x.astype(np.float64))
    rivals = [train(adamw, start, [moved(rng, g) for g in grads], options, np.copy) for _ in range(8)]
    for way, n in kernels.each(threads):
        actual = train(kernels.backend.adamw, start, grads, options, between_nans)
        for name, a, t, *others in zip(BUFFERS, actual, truth, *rivals):
            assert_as_good(a, t, *others, name=f"adamw {way}: {name}")
            assert np.isnan(a.base).sum() == a.base.size - a.size, f"adamw {way}: wrote beyond {name}"
        if n == threads[0]:
            first = actual
        assert_same(actual, first, f"adamw {way}: {n} threads, not {threads[0]}, change")


@given(P=st.integers(1, 100), averaged=st.booleans(), data=st.data(), seed=seeds)
def test_three_steps(kernels, P, averaged, data, seed):
    decayed, weight_decay = data.draw(st.integers(0, P)), data.draw(st.sampled_from([0.0, 0.1]))
    check(kernels, P, averaged, decayed, weight_decay, seed, (1, data.draw(st.sampled_from(kernels.threads[1:]))))


def test_a_large_buffer(kernels):
    check(kernels, 200_003, True, 100_001, 0.1, 0, kernels.threads)


@pytest.mark.parametrize("P, decayed", [(1, 1), (37, 23), (37, 37), (37, 0), (20_003, 8_200)])
def test_the_copy_is_params_rounded(kernels, P, decayed):
    """To the bit, and so that it may begin anywhere and ends where it ends."""
    rng = np.random.default_rng(0)
    start, options = [floats(rng, P) for _ in range(3)], {"decayed": decayed, "weight_decay": 0.1}
    start[2] **= 2
    grads = [floats(rng, P) for _ in range(2)]
    for way, n in kernels.each(kernels.threads):
        copy = between_nans(np.full(decayed, np.nan), int(rng.integers(1, 16)), bfloat16())
        params = train(kernels.backend.adamw, start, grads, {**options, "copy": copy}, between_nans)[0]
        assert same_bits(copy, params[:decayed].astype(bfloat16())), f"{way}, {n} threads"
        assert np.isnan(copy.base.astype(np.float32)).sum() == copy.base.size - decayed, f"{way}: wrote beyond copy"
        plain = train(kernels.backend.adamw, start, grads, options, between_nans)[0]
        assert_same([params], [plain], f"adamw {way}: a copy changes")


@pytest.mark.parametrize("norm", [np.nan, np.inf])
def test_a_clip_that_is_not_positive_changes_nothing(kernels, norm):
    rng = np.random.default_rng(0)
    start, grads = [floats(rng, 37) for _ in BUFFERS], floats(rng, 37)
    each_step = {**EACH_STEP, "norm": norm}
    for way, n in kernels.each((1, 3)):
        buffers = [between_nans(x) for x in start]
        copy = between_nans(np.arange(23), 1, bfloat16())
        options = {name: np.array([value], np.float32) for name, value in each_step.items()}
        options.update(copy=copy, decayed=23, weight_decay=0.1, limit=1.0, step_number=np.array([1]))
        kernels.backend.adamw.forward(buffers[0], grads, *buffers[1:], **options)
        assert_same([*buffers, copy], [*start, np.arange(23).astype(bfloat16())], f"adamw {way}:")
