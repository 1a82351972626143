"""attention: `y = softmax(q k^T / sqrt(D)) v`, for self- and cross-attention.

Letters: N batch, L query tokens, M key tokens, A heads, D head width. Every line below is for one sample
and one head.

Forward
    s[l, m] = sum_d q[l, d] k[m, d] / sqrt(D)
    lse[l]  = log sum_m exp(s[l, m])
    p[l, m] = exp(s[l, m] - lse[l])                      each row of `p` sums to 1
    y[l, d] = sum_m p[l, m] v[m, d]

Backward, the lines in reverse.
    y = p v          ->  dv = p^T dy,   dp = dy v^T
    p = softmax(s)   ->  `p[l, m]` moves by `p[l, m] (delta_mj - p[l, j])` as `s[l, j]` moves, so
        ds[l, j]   = p[l, j] (dp[l, j] - row_dot[l])
        row_dot[l] = sum_m p[l, m] dp[l, m] = sum_d dy[l, d] sum_m p[l, m] v[m, d] = sum_d dy[l, d] y[l, d]
    s = q k^T / sqrt(D)  ->  dq = ds k / sqrt(D),   dk = ds^T q / sqrt(D)

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


def forward(q, k, v):
    """q (N,L,A,D), k (N,M,A,D), v (N,M,A,D) -> y (N,L,A,D), cache."""
    check(q, k, v)
    s = _scores(q, k)
    largest = s.max(axis=-1, keepdims=True)  # so that no exponential overflows
    p = np.exp(s - largest)
    total = p.sum(axis=-1, keepdims=True)
    p /= total
    y = _heads_inside(p @ _heads_outside(v))
    return y, Cache(q, k, v, y, largest + np.log(total))


def backward(dy, cache):
    """dy (N,L,A,D) -> dq (N,L,A,D), dk (N,M,A,D), dv (N,M,A,D)."""
    q, k, v, y, lse = cache
    contract.expect("attention", "dy", dy, q.shape, q.dtype)
    p = np.exp(_scores(q, k) - lse)
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
    return _heads_inside(dq), _heads_inside(dk), _heads_inside(dv)


def check(q, k, v):
    """Check the arguments of ``forward``."""
    contract.bind("attention", q=(q, "N L A D"), k=(k, "N M A D"), v=(v, "N M A D"))


def _scores(q, k):
    """s (N, A, L, M) = q k^T / sqrt(D)."""
    s = _heads_outside(q) @ _heads_outside(k).swapaxes(2, 3)
    s *= _scale(q)
    return s


def _scale(q):
    return q.dtype.type(q.shape[-1] ** -0.5)


def _heads_outside(x):
    """(N, L, A, D) -> (N, A, L, D), a view."""
    return x.transpose(0, 2, 1, 3)


def _heads_inside(x):
    """(N, A, L, D) -> (N, L, A, D), contiguous."""
    return np.ascontiguousarray(x.transpose(0, 2, 1, 3))
