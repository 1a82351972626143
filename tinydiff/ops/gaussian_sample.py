"""gaussian_sample: a value of each of many normal distributions, given by mean and logarithm of the variance.

Letters: N batch, Z channels of a sample, over whatever axes between them. ``moments`` has twice as many channels: the
means, then the logarithms of the variances.

Forward
    mean, logvar = moments           its two halves
    v    = clip(logvar, -30, 20)     beyond that no network means what it says, and exp would overflow
    std  = exp(v / 2)
    y    = mean + std eps            `eps` standard normal: the network's part and chance are kept apart, so that the
                                     sample has a gradient in the moments

Backward, the forward's lines in reverse.
    y = mean + std eps  ->  dmean = dy,   dstd = dy eps,   deps = dy std
    std = exp(v / 2)    ->  dv = dstd std / 2
    v = clip(logvar)    ->  dlogvar = dv   where `v = logvar`, and 0 where it was cut off

Only the inputs are kept: `std` costs one exponential to make again.

Cost: memory-bound; 4 FLOPs and one exponential a value forward, twice that backward.
Source: Kingma and Welling, "Auto-encoding variational Bayes", 2014, section 2.4; the bounds are those of Rombach et al.,
"High-resolution image synthesis with latent diffusion models", 2022, and of diffusers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.ops import contract

LOW, HIGH = -30.0, 20.0  # of the logarithm of a variance


class Cache(NamedTuple):
    moments: np.ndarray  # (N, ..., 2 Z), the input itself: no copy
    eps: np.ndarray  # (N, ..., Z)


def forward(moments, eps):
    """moments (N, ..., 2 Z), eps (N, ..., Z) -> y (N, ..., Z), cache."""
    check(moments, eps)
    mean, logvar = halves(moments)
    std = np.exp(clipped(logvar) / 2)
    return mean + std * eps, Cache(moments, eps)


def backward(dy, cache, *, moments_only=False):
    """dy (N, ..., Z) -> dmoments (N, ..., 2 Z), deps (N, ..., Z).

    ``moments_only`` leaves out, as None, the gradient of the noise, which training has no use for.
    """
    moments, eps = cache
    contract.expect("gaussian_sample", "dy", dy, eps.shape, eps.dtype)
    _, logvar = halves(moments)
    v = clipped(logvar)
    std = np.exp(v / 2)

    # y = mean + std eps, reversed
    dmean = dy
    dstd = dy * eps
    deps = None if moments_only else dy * std

    # std = exp(v / 2), v = clip(logvar), reversed
    dv = dstd * std / 2
    dlogvar = dv * (v == logvar)
    return np.concatenate([dmean, dlogvar], axis=-1), deps


def check(moments, eps):
    """Check the arguments of ``forward``."""
    contract.bind("gaussian_sample", moments=(moments, "..."), eps=(eps, "..."))
    expect_halves("gaussian_sample", moments)
    expected = (*moments.shape[:-1], moments.shape[-1] // 2)
    contract.expect("gaussian_sample", "eps", eps, expected, moments.dtype)


def expect_halves(op, moments):
    """Raise ``ValueError`` unless the last axis of moments has two halves."""
    if moments.ndim < 2 or moments.shape[-1] % 2:
        raise ValueError(f"{op}: moments must have shape (N, ..., 2 Z), got {tuple(moments.shape)}")


def halves(moments):
    """moments (N, ..., 2 Z) -> mean, logvar (N, ..., Z), views."""
    Z = moments.shape[-1] // 2
    return moments[..., :Z], moments[..., Z:]


def clipped(logvar):
    """The logarithms of the variances that are computed with; NaN stays NaN."""
    return np.minimum(np.maximum(logvar, LOW), HIGH)
