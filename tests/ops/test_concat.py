import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_caught, check_op, normal, ones, seeds
from tinydiff.ops import concat


@given(
    N=st.integers(1, 2), H=st.integers(1, 3), W=st.integers(1, 3), C=st.integers(1, 3), B=st.integers(1, 3), seed=seeds
)
def test_gradient(N, H, W, C, B, seed):
    a, b = normal(seed, N, H, W, C), normal(seed + 1, N, H, W, B)
    check_op(concat, {"a": a, "b": b}, seed=seed)
    y, _ = concat.forward(a, b)
    assert np.array_equal(y[..., :C], a) and np.array_equal(y[..., C:], b)


def test_swapped_parts_are_caught():
    assert_caught(
        concat, {"a": normal(0, 1, 1, 2, 2), "b": normal(1, 1, 1, 2, 2)}, {}, "return da, db", "return db, da"
    )


def test_bad_shapes(backend):
    with pytest.raises(ValueError, match=r"b must have shape \(N, H, W, B\) with N = 1 from a, H = 2 from a"):
        backend.concat.forward(ones(1, 2, 2, 1), ones(1, 3, 2, 1))
