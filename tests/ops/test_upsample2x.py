import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_caught, check_op, normal, ones, seeds
from tinydiff.ops import upsample2x


@given(N=st.integers(1, 2), H=st.integers(1, 4), W=st.integers(1, 4), C=st.integers(1, 3), seed=seeds)
def test_gradient(N, H, W, C, seed):
    x = normal(seed, N, H, W, C)
    check_op(upsample2x, {"x": x}, seed=seed)
    assert np.array_equal(upsample2x.forward(x)[0], np.kron(x, np.ones((1, 2, 2, 1))))


def test_a_dropped_term_is_caught():
    assert_caught(upsample2x, {"x": normal(0, 1, 2, 2, 1)}, {}, "    dx += bottom[:, :, 1::2]\n")


def test_bad_input(backend):
    with pytest.raises(ValueError, match="x must have shape"):
        backend.upsample2x.forward(ones(2, 2, 2))
