import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_close, normal, seeds
from tinydiff.ops import global_norm


@given(P=st.integers(1, 100), seed=seeds)
def test_it_is_the_length_of_the_vector(P, seed):
    grads = normal(seed, P)
    norm = global_norm.forward(grads)
    assert norm.shape == (1,)
    assert_close(norm, [sum(g * g for g in grads) ** 0.5])


@pytest.mark.parametrize("bad", [np.inf, np.nan, 1e30])
def test_a_bad_gradient_is_not_lost(bad):
    with np.errstate(over="ignore"):
        assert not np.isfinite(global_norm.forward(np.array([1, bad, 2], np.float32)))[0]


def test_bad_input():
    with pytest.raises(ValueError, match=r"global_norm: grads must have shape \(P\), got \(2, 2\)"):
        global_norm.forward(np.ones((2, 2)))
