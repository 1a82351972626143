"""attention: `y = softmax(q k^T / sqrt(D)) v`, for self- and cross-attention.

Letters: N batch, L query tokens, M key tokens, A heads, D head width. Every line below is for one sample
and one head.

Forward
    s[l, m] = sum_d q[l, d] k[m, d] / sqrt(D)            -inf where query l does not look at key m
    lse[l]  = log sum_m exp(s[l, m])
    p[l, m] = exp(s[l, m] - lse[l])                      each row of `p` sums to 1
    y[l, d] = sum_m p[l, m] v[m, d]

Backward, the lines in reverse.
    y = p v          ->  dv = p^T dy,   dp = dy v^T
    p = softmax(s)   ->  `p[l, m]` moves by `p[l, m] (delta_mj - p[l, j])` as `s[l, j]` moves, so
        ds[l, j]   = p[l, j] (dp[l, j] - row_dot[l])
        row_dot[l] = sum_m p[l, m] dp[l, m] = sum_d dy[l, d] sum_m p[l, m] v[m, d] = sum_d dy[l, d] y[l, d]
    s = q k^T / sqrt(D)  ->  dq = ds k / sqrt(D),   dk = ds^T q / sqrt(D)

A key that a query does not look at has `p = 0`, and so `ds = 0`: the lines hold as they stand. There are two reasons for
not looking: of a sample shorter than others in its batch the keys after the first `length[n]` are padding, and with
``causal=True`` token `l` sees those up to itself alone.

The last form of `row_dot` needs `y`, not the `L M` numbers of the matrix.

`p` is recomputed from `q`, `k` and `lse`: `(N, L, A)` numbers are kept instead of `(N, A, L, M)`.

Cost: `4 N A L M D` FLOPs forward, `10 N A L M D` backward (of which 2 recompute `s`).
Source: Vaswani et al., "Attention is all you need", 2017, eq. 1; the `row_dot` form is from
Dao et al., "FlashAttention", 2022, appendix B.2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.ops import contract


class Cache(NamedTuple):
    q: np.ndarray  # (N, L, A, D), the input itself: no copy
    k: np.ndarray  # (N, M, A, D)
    v: np.ndarray  # (N, M, A, D)
    y: np.ndarray  # (N, L, A, D)
    lse: np.ndarray  # (N, A, L, 1), the log of each row's sum of exponentials
    length: np.ndarray  # (N,) or None
    causal: bool


def forward(q, k, v, length=None, *, causal=False):
    """q (N,L,A,D), k (N,M,A,D), v (N,M,A,D), length (N) integers or None -> y (N,L,A,D), cache.

    length  how many of a sample's keys are looked at, the first ones, 1 .. M; None: all of them
    causal  each token looks at those up to itself alone; needs L = M

    Raises ``ValueError`` for shapes or dtypes that do not fit, a length out of range, and causal where L is not M.
    """
    check(q, k, v, length, causal)
    check_values(k, length)
    s = scores(q, k, length, causal)
    largest = s.max(axis=-1, keepdims=True)  # so that no exponential overflows
    p = np.exp(s - largest)
    total = p.sum(axis=-1, keepdims=True)
    p /= total
    y = _heads_inside(p @ _heads_outside(v))
    return y, Cache(q, k, v, y, largest + np.log(total), length, causal)


def backward(dy, cache):
    """dy (N,L,A,D) -> dq (N,L,A,D), dk (N,M,A,D), dv (N,M,A,D), None."""
    q, k, v, y, lse, length, causal = cache
    contract.expect("attention", "dy", dy, q.shape, q.dtype)
    p = np.exp(scores(q, k, length, causal) - lse)
    dy_NALD = _heads_outside(dy)

    # y = p v, reversed
    dv = p.swapaxes(2, 3) @ dy_NALD
    dp = dy_NALD @ _heads_outside(v).swapaxes(2, 3)

    # p = softmax(s), reversed
    row_dot = np.einsum("nlad,nlad->nal", dy, y)[..., None]
    ds = p * (dp - row_dot)

    # s = q k^T scale, reversed
    ds *= _scale(q)
    dq = ds @ _heads_outside(k)
    dk = ds.swapaxes(2, 3) @ _heads_outside(q)
    return _heads_inside(dq), _heads_inside(dk), _heads_inside(dv), None


def check(q, k, v, length, causal):
    """Check the arguments of ``forward``, but for values."""
    sizes = contract.bind("attention", q=(q, "N L A D"), k=(k, "N M A D"), v=(v, "N M A D"))
    if length is not None:
        contract.expect_integers("attention", "length", length)
        if len(length) != sizes["N"]:
            raise ValueError(f"attention: length must have shape ({sizes['N']},), got ({len(length)},)")
    if causal and sizes["L"] != sizes["M"]:
        raise ValueError(f"attention: causal needs as many queries as keys, got {sizes['L']} and {sizes['M']}")


def check_values(k, length):
    """Check what ``check`` does not look at."""
    if length is not None and (length.min() < 1 or length.max() > k.shape[1]):
        low, high = length.min(), length.max()
        raise ValueError(f"attention: length must lie in 1 .. {k.shape[1]}, got {low} .. {high}")


def scores(q, k, length, causal):
    """s (N, A, L, M) = q k^T / sqrt(D), -inf where a query does not look at a key."""
    s = _heads_outside(q) @ _heads_outside(k).swapaxes(2, 3)
    s *= _scale(q)
    key = np.arange(s.shape[3])
    if length is not None:
        s = np.where(key < length[:, None, None, None], s, -np.inf).astype(s.dtype, copy=False)
    if causal:
        s = np.where(key <= key[:, None], s, -np.inf).astype(s.dtype, copy=False)
    return s


def _scale(q):
    return q.dtype.type(q.shape[-1] ** -0.5)


def _heads_outside(x):
    """(N, L, A, D) -> (N, A, L, D), a view."""
    return x.transpose(0, 2, 1, 3)


def _heads_inside(x):
    """(N, A, L, D) -> (N, L, A, D), contiguous."""
    return np.ascontiguousarray(x.transpose(0, 2, 1, 3))
