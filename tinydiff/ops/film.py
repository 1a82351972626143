"""film: feature-wise linear modulation; each channel of each sample is scaled and shifted.

Forward
    y[n,h,w,c] = x[n,h,w,c] (1 + scale[n,c]) + shift[n,c]

Backward
    dx[n,h,w,c] = dy[n,h,w,c] (1 + scale[n,c])
    dscale[n,c] = sum_{h,w} dy[n,h,w,c] x[n,h,w,c]
    dshift[n,c] = sum_{h,w} dy[n,h,w,c]

Cost: memory-bound; 2 FLOPs per element forward, 4 backward.
Source: Perez et al., "FiLM", 2018, eq. 2; with 1 + scale as in Dhariwal and Nichol, "Diffusion models beat
GANs on image synthesis", 2021 ("adaptive group normalization").
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.ops import contract


class Cache(NamedTuple):
    x: np.ndarray  # (N, H, W, C), the input itself: no copy
    scale: np.ndarray  # (N, C)


def forward(x, scale, shift):
    """x (N,H,W,C), scale (N,C), shift (N,C) -> y (N,H,W,C), cache."""
    contract.bind("film", x=(x, "N H W C"), scale=(scale, "N C"), shift=(shift, "N C"))
    y = x * (1 + scale)[:, None, None]
    y += shift[:, None, None]
    return y, Cache(x, scale)


def backward(dy, cache):
    """dy (N,H,W,C) -> dx (N,H,W,C), dscale (N,C), dshift (N,C)."""
    x, scale = cache
    contract.expect("film", "dy", dy, x.shape, x.dtype)
    dx = dy * (1 + scale)[:, None, None]
    dscale = np.einsum("nhwc,nhwc->nc", dy, x)
    dshift = np.einsum("nhwc->nc", dy)
    return dx, dscale, dshift
