import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.checks import assert_caught, assert_close, check_op, normal, ones, seeds
from tinydiff.ops import attention


@given(
    N=st.integers(1, 2), L=st.integers(1, 5), M=st.integers(1, 5), A=st.integers(1, 3), D=st.integers(1, 4), seed=seeds
)
@example(1, 1, 1, 1, 1, 0)
def test_gradient(N, L, M, A, D, seed):
    q, k, v = normal(seed, N, L, A, D), normal(seed + 1, N, M, A, D), normal(seed + 2, N, M, A, D)
    check_op(attention, {"q": q, "k": k, "v": v}, seed=seed)
    p = np.exp(np.einsum("nlad,nmad->nalm", q, k) / np.sqrt(D))
    p /= p.sum(axis=-1, keepdims=True)
    assert_close(attention.forward(q, k, v)[0], np.einsum("nalm,nmad->nlad", p, v))


@pytest.mark.parametrize(
    "line, replacement",
    [
        ("(dp - row_dot)", "dp"),
        ("    ds *= _scale(q)\n", ""),
        ("p.swapaxes(2, 3) @ dy_NALD", "dy_NALD"),
        ("ds = p *", "ds ="),
    ],
)
def test_a_dropped_term_is_caught(line, replacement):
    inputs = {name: normal(i, 2, 3, 2, 2) for i, name in enumerate("qkv")}
    assert_caught(attention, inputs, {}, line, replacement)


def test_scores_too_large_for_an_exponential(backend):
    q = 100 * ones(1, 2, 1, 4)
    y, cache = backend.attention.forward(q, q, q)
    assert_close(y, q)
    assert all(np.isfinite(gradient).all() for gradient in backend.attention.backward(q, cache))


def test_bad_shapes(backend):
    with pytest.raises(ValueError, match=r"v must have shape \(N, M, A, D\) with N = 1 from q, M = 3 from k"):
        backend.attention.forward(ones(1, 2, 1, 4), ones(1, 3, 1, 4), ones(1, 2, 1, 4))
