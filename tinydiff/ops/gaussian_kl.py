"""gaussian_kl: how far normal distributions are from the unit one, their mean Kullback-Leibler divergence in nats.

Letters: N batch, Z channels, K values in all, over whatever axes. ``moments`` as in ``gaussian_sample``: the means, then
the logarithms of the variances.

Forward
    mean, logvar = moments           its two halves
    v    = clip(logvar, -30, 20)     as in the sample
    kl   = 1 / (2 K) sum (mean^2 + exp(v) - 1 - v)

It is the divergence of one value, whatever the size of image and batch, as the losses of images are the error of one
value. Where others add up the divergences of an image, and its errors, a weight of theirs is here that weight times
latent values over image values: the 1e-6 of Rombach et al. is 6e-8 for 16x16x3 latents of 64x64x3 images.

Backward. With `dkl` the gradient of whatever the divergence feeds, its weight in the loss:
    dmean   = dkl mean / K
    dv      = dkl (exp(v) - 1) / (2 K)
    dlogvar = dv                     where `v = logvar`, and 0 where it was cut off

Cost: memory-bound; 6 FLOPs and one exponential a value forward, as many backward.
Source: Kingma and Welling, "Auto-encoding variational Bayes", 2014, appendix B.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.ops import contract
from tinydiff.ops.gaussian_sample import clipped, expect_halves, halves


class Cache(NamedTuple):
    moments: np.ndarray  # (N, ..., 2 Z), the input itself: no copy


def forward(moments):
    """moments (N, ..., 2 Z) -> kl (), cache."""
    check(moments)
    mean, logvar = halves(moments)
    v = clipped(logvar)
    total = (mean * mean + (np.exp(v) - 1 - v)).sum()
    return total / moments.dtype.type(moments.size), Cache(moments)


def backward(dkl, cache):
    """dkl (a number or a 0-d array) -> dmoments (N, ..., 2 Z)."""
    (moments,) = cache
    mean, logvar = halves(moments)
    v = clipped(logvar)
    half = moments.dtype.type(dkl) / moments.dtype.type(moments.size)  # of 2 K values
    dmean = 2 * half * mean
    dv = half * (np.exp(v) - 1)
    dlogvar = dv * (v == logvar)
    return np.concatenate([dmean, dlogvar], axis=-1)


def check(moments):
    """Check the arguments of ``forward``."""
    contract.bind("gaussian_kl", moments=(moments, "..."))
    expect_halves("gaussian_kl", moments)
