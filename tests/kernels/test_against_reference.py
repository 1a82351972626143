"""Every op of every compiled backend, in every way and precision it can compute, is as good as the reference in float32
(whose results are rounded where those of the backend are); and no number of threads changes a bit."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checks import seeds
from tests.kernels.comparison import assert_same, compare, expect, outputs
from tests.kernels.conftest import IN_BOTH_PRECISIONS, in_use
from tests.kernels.rows import ROWS, WITHOUT_A_ROW
from tinydiff.ops import OPS


@pytest.fixture(scope="module", params=IN_BOTH_PRECISIONS)
def kernels(request):
    yield from in_use(*request.param)


def test_every_op_has_a_row():
    assert {*ROWS, *WITHOUT_A_ROW} == set(OPS)


def check(kernels, op, sizes, seed, threads):
    """Against the reference with the first number of threads, and bit by bit against it with the others."""
    expected = expect(op, sizes, seed, getattr(kernels.backend, op))
    for way, n in kernels.each(threads, op):
        actual = outputs(kernels.backend, expected)
        if n == threads[0]:
            compare(actual, expected, way)
            first = actual
        else:
            assert_same(actual, first, f"{op} {way}: {n} threads, not {threads[0]}, change")


@pytest.mark.parametrize("op", ROWS)
def test_at_drawn_sizes(kernels, op):
    @settings(max_examples=kernels.examples)
    @given(sizes=ROWS[op].sizes, threads=st.sampled_from(kernels.threads[1:]), seed=seeds)
    def at(sizes, threads, seed):
        check(kernels, op, sizes, seed, (1, threads))

    at()


@pytest.mark.parametrize(
    "op, sizes",
    [
        pytest.param(op, sizes, id=f"{op}-{' '.join(f'{name}={size}' for name, size in sizes.items())}")
        for op, row in ROWS.items()
        for sizes in row.always
    ],
)
def test_at_these_sizes(kernels, op, sizes):
    check(kernels, op, sizes, 0, kernels.threads)


def test_few_elements_at_many_seeds(kernels):
    """Where the largest error of the rivals may by chance be a small one."""
    for seed in range(kernels.examples // 5):
        check(kernels, "linear", dict(leading=[3], C=1000, O=7), seed, (1,))
        check(kernels, "attention", dict(N=1, L=1, M=7, A=1, D=1), seed, (1,))
