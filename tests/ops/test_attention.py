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
    check_op(attention, {"q": q, "k": k, "v": v, "length": None}, seed=seed)
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
    inputs = {**{name: normal(i, 2, 3, 2, 2) for i, name in enumerate("qkv")}, "length": None}
    assert_caught(attention, inputs, {}, line, replacement)


def test_scores_too_large_for_an_exponential(backend):
    q = 100 * ones(1, 2, 1, 4)
    y, cache = backend.attention.forward(q, q, q)
    assert_close(y, q)
    assert all(np.isfinite(gradient).all() for gradient in backend.attention.backward(q, cache)[:3])


def test_bad_shapes(backend):
    with pytest.raises(ValueError, match=r"v must have shape \(N, M, A, D\) with N = 1 from q, M = 3 from k"):
        backend.attention.forward(ones(1, 2, 1, 4), ones(1, 3, 1, 4), ones(1, 2, 1, 4))


@given(
    N=st.integers(1, 3),
    L=st.integers(1, 5),
    M=st.integers(1, 5),
    causal=st.booleans(),
    padded=st.booleans(),
    seed=seeds,
)
def test_gradient_where_not_all_keys_are_looked_at(N, L, M, causal, padded, seed):
    M = L if causal else M
    length = np.random.default_rng(seed).integers(1, M + 1, N) if padded else None
    inputs = {"q": normal(seed, N, L, 2, 3), "k": normal(seed + 1, N, M, 2, 3), "v": normal(seed + 2, N, M, 2, 3)}
    check_op(attention, inputs | {"length": length}, {"causal": causal}, seed=seed)


def test_padding_is_as_if_it_were_not_there(backend):
    q, k, v, dy = (normal(seed, 2, 6, 2, 4).astype(np.float32) for seed in range(4))
    length = np.array([6, 2])
    y, cache = backend.attention.forward(q, k, v, length)
    _, dk, dv, _ = backend.attention.backward(dy, cache)
    for n, end in enumerate(length):
        some = slice(n, n + 1), slice(end)
        alone, alone_cache = backend.attention.forward(q[n : n + 1], *(np.ascontiguousarray(x[some]) for x in (k, v)))
        assert_close(y[n : n + 1], alone, 1e-5)
        for found, wanted in zip((dk, dv), backend.attention.backward(dy[n : n + 1], alone_cache)[1:]):
            assert_close(found[some], wanted, 1e-5)
    assert not dk[1, 2:].any() and not dv[1, 2:].any()


def test_a_causal_token_does_not_see_what_comes_after_it(backend):
    q, k, v = (normal(seed, 1, 7, 2, 4).astype(np.float32) for seed in range(3))
    y, cache = backend.attention.forward(q, k, v, causal=True)
    k[:, 5:], v[:, 5:] = 9, -9
    after, _ = backend.attention.forward(q, k, v, causal=True)
    assert np.array_equal(y[:, :5], after[:, :5]) and np.abs(y[:, 5:] - after[:, 5:]).min() > 0.1
    assert_close(y[:, 0], normal(2, 1, 7, 2, 4)[:, 0], 1e-6)  # the first sees itself alone
    dy = np.zeros_like(y)
    dy[:, 2] = 1
    _, dk, dv, _ = backend.attention.backward(dy, cache)
    assert not dk[:, 3:].any() and not dv[:, 3:].any() and dv[:, :3].all()


@pytest.mark.parametrize(
    "length, message",
    [
        (np.array([1, 4]), r"attention: length must lie in 1 .. 3, got 1 .. 4"),
        (np.array([0, 3]), r"attention: length must lie in 1 .. 3, got 0 .. 3"),
        (np.array([1, 2, 3]), r"attention: length must have shape \(2,\), got \(3,\)"),
        (np.array([1.0, 2.0]), "attention: length must be a non-empty integer array"),
    ],
)
def test_bad_lengths(backend, length, message):
    with pytest.raises(ValueError, match=message):
        backend.attention.forward(ones(2, 2, 1, 4), ones(2, 3, 1, 4), ones(2, 3, 1, 4), length)


def test_causal_needs_as_many_queries_as_keys(backend):
    with pytest.raises(ValueError, match="attention: causal needs as many queries as keys, got 2 and 3"):
        backend.attention.forward(ones(1, 2, 1, 4), ones(1, 3, 1, 4), ones(1, 3, 1, 4), causal=True)
