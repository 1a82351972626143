"""upsample2x: nearest-neighbour upsampling; every pixel becomes a 2x2 block of itself.

Forward
    y[n, 2h + i, 2w + j, c] = x[n, h, w, c]      for `i, j in {0, 1}`

Backward. `x[n, h, w, c]` was copied four times, so it gathers four gradients:
    dx[n, h, w, c] = sum_{i,j} dy[n, 2h + i, 2w + j, c]

Cost: memory-bound, no arithmetic forward, 3 additions per input element backward.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.ops import contract


class Cache(NamedTuple):
    x_shape: tuple[int, ...]  # (N, H, W, C): the gradient needs no values
    dtype: np.dtype


def forward(x):
    """x (N,H,W,C) -> y (N,2H,2W,C), cache."""
    check(x)
    y = x.repeat(2, axis=1).repeat(2, axis=2)
    return y, Cache(x.shape, x.dtype)


def backward(dy, cache):
    """dy (N,2H,2W,C) -> dx (N,H,W,C)."""
    (N, H, W, C), dtype = cache
    contract.expect("upsample2x", "dy", dy, (N, 2 * H, 2 * W, C), dtype)
    top, bottom = dy[:, ::2], dy[:, 1::2]
    dx = top[:, :, ::2] + top[:, :, 1::2]
    dx += bottom[:, :, ::2]
    dx += bottom[:, :, 1::2]
    return dx


def check(x):
    """Check the arguments of ``forward``."""
    contract.bind("upsample2x", x=(x, "N H W C"))
