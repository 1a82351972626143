"""layer_norm: normalise each token over its channels, then scale and shift.

Letters: C channels; x may have any leading axes, M is their product, the tokens. ``mean(.)`` below runs over the channels
of one token.

Forward
    mean = mean(x)
    rstd = 1 / sqrt(mean((x - mean)^2) + eps)
    xhat = (x - mean) rstd
    y    = gamma[c] xhat + beta[c]

Backward, the lines in reverse.
    y = gamma xhat + beta  ->  dgamma = sum_m dy xhat,  dbeta = sum_m dy,  dxhat = dy gamma
    xhat = (x - mean) rstd ->  as in group_norm.py, with the channels of a token as the group:
    dx = rstd (dxhat - mean(dxhat) - xhat mean(dxhat xhat))
       = rstd (dxhat - through_mean - xhat through_var)

The variance is taken from deviations in a second pass over the token, which is in cache. Only `mean` and `rstd`, `(M,)`,
are kept.

Cost: memory-bound; about 7 FLOPs per element forward, 12 backward.
Source: Ba, Kiros and Hinton, "Layer normalization", 2016, eq. 3 and 4.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.ops import contract


class Cache(NamedTuple):
    x: np.ndarray  # (..., C), the input itself: no copy
    gamma: np.ndarray  # (C,)
    mean: np.ndarray  # (M,)
    rstd: np.ndarray  # (M,)


def forward(x, gamma, beta, *, eps=1e-5):
    """x (..., C), gamma (C), beta (C) -> y (..., C), cache.

    Raises ``ValueError`` for shapes or dtypes that do not fit, or eps <= 0.
    """
    check(x, gamma, beta, eps)
    mean = x.mean(axis=-1, keepdims=True)
    xhat = x - mean
    var = np.mean(xhat * xhat, axis=-1, keepdims=True)
    rstd = 1 / np.sqrt(var + x.dtype.type(eps))
    xhat *= rstd
    y = xhat
    y *= gamma
    y += beta
    return y, Cache(x, gamma, mean.reshape(-1), rstd.reshape(-1))


def backward(dy, cache, add=None, into=(None, None)):
    """dy (..., C) -> dx (..., C), dgamma (C), dbeta (C).

    ``add`` (..., C) or None is added to dx: what reaches x by other ways, as around a residual block.
    dgamma and dbeta are written ``into`` arrays given for them.
    """
    x, gamma, mean, rstd = cache
    contract.expect("layer_norm", "dy", dy, x.shape, x.dtype)
    if add is not None:
        contract.expect("layer_norm", "add", add, x.shape, x.dtype)
    x_MC, dy_MC = x.reshape(-1, len(gamma)), dy.reshape(-1, len(gamma))
    xhat = (x_MC - mean[:, None]) * rstd[:, None]

    # y = gamma xhat + beta, reversed
    dgamma = (dy_MC * xhat).sum(axis=0)
    dbeta = dy_MC.sum(axis=0)
    dxhat = dy_MC * gamma

    # xhat = (x - mean) rstd, reversed
    through_mean = dxhat.mean(axis=1, keepdims=True)
    through_var = np.mean(dxhat * xhat, axis=1, keepdims=True)
    dx = rstd[:, None] * (dxhat - through_mean - xhat * through_var)
    dx = dx.reshape(x.shape)
    if add is not None:
        dx += add
    dgamma = contract.place("layer_norm", "dgamma", dgamma, into[0])
    dbeta = contract.place("layer_norm", "dbeta", dbeta, into[1])
    return dx, dgamma, dbeta


def check(x, gamma, beta, eps):
    """Check the arguments of ``forward``."""
    contract.bind("layer_norm", x=(x, "... C"), gamma=(gamma, "C"), beta=(beta, "C"))
    if not eps > 0:
        raise ValueError(f"layer_norm: eps must be positive, got {eps!r}")
