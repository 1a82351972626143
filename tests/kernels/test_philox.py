"""philox takes no arrays but sample, and its numbers are the same on every backend: bits exactly."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tinydiff.ops import philox

ULPS = 4


@given(
    samples=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5),
    shape=st.lists(st.integers(1, 7), max_size=3),
    kind=st.sampled_from(philox.KINDS),
    purpose=st.sampled_from(list(philox.PURPOSES)),
    seed=st.integers(0, 2**64 - 1),
    draw=st.integers(0, 2**32 - 1),
)
@example([0, 2**32 - 1, 7], (101, 103), "bits", "noise", 2**64 - 1, 2**32 - 1)
@example([0, 2**32 - 1, 7], (101, 103), "uniform", "noise", 2**64 - 1, 2**32 - 1)
@example([0, 2**32 - 1, 7], (401, 403), "normal", "noise", 2**64 - 1, 2**32 - 1)
@example(list(range(1000)), (), "uniform", "step", 0, 1)  # one number for each sample
@example([1], (0,), "normal", "noise", 0, 0)  # none
def test_the_numbers(kernels, samples, shape, kind, purpose, seed, draw):
    sample = np.array(samples)
    expected = philox.forward(seed, purpose, sample, draw, shape, kind=kind)
    for way, n in kernels.each(kernels.threads):
        actual = kernels.backend.philox.forward(seed, purpose, sample, draw, shape, kind=kind)
        what = f"{kind} {way}, {n} threads"
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), what
        if n == kernels.threads[0]:
            first = actual
        assert np.array_equal(actual, first), what
        if kind == "normal":
            # near 0 a normal is a cosine near 0: there the last place of 1/16 will do
            ulp = np.spacing(np.maximum(np.abs(expected), np.float32(1 / 16)))
            assert np.all(np.abs(actual - expected.astype(np.float64)) <= ULPS * ulp), what
        else:
            assert np.array_equal(actual, expected), what


def test_seed_and_draw_may_be_arrays(kernels):
    arguments = np.array([5]), "noise", np.array([3, 1]), np.array([2])
    actual = kernels.backend.philox.forward(*arguments, (3,), kind="bits")
    assert np.array_equal(actual, philox.forward(*arguments, (3,), kind="bits"))


def test_float64_is_refused(kernels):
    with pytest.raises(ValueError, match="philox: dtype must be float32"):
        kernels.backend.philox.forward(0, "noise", np.array([0]), 0, (2,), kind="normal", dtype=np.float64)
