"""group_norm: normalise each sample's groups of channels, then scale and shift; optionally SiLU.

Letters: N batch, H W image, C channels, G groups of C/G neighbouring channels. A group holds
M = H W C/G values; mean(.) and var(.) below run over one group of one sample.

Forward
    mean = mean(x)
    rstd = 1 / sqrt(mean((x - mean)^2) + eps)
    xhat = (x - mean) rstd
    u    = gamma[c] xhat + beta[c]
    y    = u, or silu(u) with silu=True

Backward, the forward's lines in reverse.
    y = silu(u)               ->  du = dy silu'(u), else du = dy
    u = gamma xhat + beta     ->  dgamma = sum_{n,h,w} du xhat,  dbeta = sum_{n,h,w} du,  dxhat = du gamma
    xhat = (x - mean) rstd    ->  xhat depends on x directly and through mean and rstd, in which every x of
                                  the group takes part. Directly: dxhat rstd. Through the mean, since
                                  dmean/dx = 1/M:  -rstd mean(dxhat). Through rstd, since
                                  drstd/dx = -rstd^3 (x - mean)/M = -rstd^2 xhat/M:
                                  -rstd xhat mean(dxhat xhat). (The variance's own dependence on the mean
                                  drops out, because the deviations sum to zero.) Together
    dx = rstd (dxhat - mean(dxhat) - xhat mean(dxhat xhat))
       = rstd (dxhat - through_mean - xhat through_var)

The variance is taken from deviations in a second pass, never as mean(x^2) - mean^2, which loses every
digit when the mean is large. Only mean and rstd (N, G) are kept; xhat and u are recomputed from x.

Cost: memory-bound; about 8 FLOPs per element forward, 16 backward.
Source: Wu and He, "Group normalization", 2018, eq. 7.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.ops import contract
from tinydiff.ops import silu as silu_op


class Cache(NamedTuple):
    x: np.ndarray  # (N, H, W, C), the input itself: no copy
    gamma: np.ndarray  # (C,)
    beta: np.ndarray  # (C,), only used with silu, to recompute u
    mean: np.ndarray  # (N, G)
    rstd: np.ndarray  # (N, G)
    silu: bool


def forward(x, gamma, beta, *, groups, eps=1e-5, silu=False):
    """x (N,H,W,C), gamma (C), beta (C) -> y (N,H,W,C), cache.

    Raises ``ValueError`` for shapes or dtypes that do not fit, groups that do not divide C, or eps <= 0.
    """
    sizes = contract.bind("group_norm", x=(x, "N H W C"), gamma=(gamma, "C"), beta=(beta, "C"))
    if not isinstance(groups, int) or groups < 1 or sizes["C"] % groups:
        raise ValueError(f"group_norm: groups must divide the {sizes['C']} channels of x, got {groups!r}")
    if not eps > 0:
        raise ValueError(f"group_norm: eps must be positive, got {eps!r}")

    mean = _group_mean(np.einsum("nhwc->nc", x), x, groups)
    xhat = x - _per_channel(mean, x)
    var = _group_mean(np.einsum("nhwc,nhwc->nc", xhat, xhat), x, groups)
    rstd = 1 / np.sqrt(var + x.dtype.type(eps))
    xhat *= _per_channel(rstd, x)

    y = xhat
    y *= gamma
    y += beta
    if silu:
        y *= silu_op.sigmoid(y)
    return y, Cache(x, gamma, beta, mean, rstd, silu)


def backward(dy, cache, add=None, into=(None, None)):
    """dy (N,H,W,C) -> dx (N,H,W,C), dgamma (C), dbeta (C).

    ``add`` (N,H,W,C) or None is added to dx: what reaches x by other ways, as around a residual block.
    dgamma and dbeta are written ``into`` arrays given for them.
    """
    x, gamma, beta, mean, rstd, silu = cache
    contract.expect("group_norm", "dy", dy, x.shape, x.dtype)
    if add is not None:
        contract.expect("group_norm", "add", add, x.shape, x.dtype)
    groups = mean.shape[1]
    rstd_NC = _per_channel(rstd, x)
    xhat = x - _per_channel(mean, x)
    xhat *= rstd_NC

    # y = silu(u), reversed
    du = dy * silu_op.slope(gamma * xhat + beta) if silu else dy

    # u = gamma xhat + beta, reversed. Sums over the pixels of each sample serve dgamma and dbeta, and
    # weighted by gamma also the two group means below.
    du_xhat = np.einsum("nhwc,nhwc->nc", du, xhat)
    du_sum = np.einsum("nhwc->nc", du)
    dgamma = du_xhat.sum(axis=0)
    dbeta = du_sum.sum(axis=0)
    dxhat = du * gamma

    # xhat = (x - mean) rstd, reversed
    through_mean = _per_channel(_group_mean(gamma * du_sum, x, groups), x)
    through_var = _per_channel(_group_mean(gamma * du_xhat, x, groups), x)
    dx = dxhat
    dx -= through_mean
    xhat *= through_var
    dx -= xhat
    dx *= rstd_NC
    if add is not None:
        dx += add
    dgamma = contract.place("group_norm", "dgamma", dgamma, into[0])
    return dx, dgamma, contract.place("group_norm", "dbeta", dbeta, into[1])


def _group_mean(sums_NC, x, groups):
    """Sums over pixels (N, C) -> means over groups (N, G)."""
    N, H, W, C = x.shape
    return sums_NC.reshape(N, groups, C // groups).sum(axis=2) / x.dtype.type(H * W * (C // groups))


def _per_channel(values_NG, x):
    """One value per group (N, G) -> one per channel, shaped (N, 1, 1, C) to stand against x."""
    N, _, _, C = x.shape
    return np.repeat(values_NG, C // values_NG.shape[1], axis=1).reshape(N, 1, 1, C)
