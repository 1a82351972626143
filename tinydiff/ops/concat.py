"""concat: two activations side by side along their channels, as a U-Net joins its skips.

Forward
    y[..., :C] = a,   y[..., C:] = b

Backward. Every element was copied once, so each input takes its own part back:
    da = dy[..., :C],   db = dy[..., C:]

Cost: memory-bound, no arithmetic.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.ops import contract


class Cache(NamedTuple):
    a_shape: tuple[int, ...]  # (N, H, W, C): the gradient needs no values
    b_shape: tuple[int, ...]  # (N, H, W, B)
    dtype: np.dtype


def forward(a, b):
    """a (N,H,W,C), b (N,H,W,B) -> y (N,H,W,C+B), cache."""
    check(a, b)
    return np.concatenate([a, b], axis=-1), Cache(a.shape, b.shape, a.dtype)


def backward(dy, cache):
    """dy (N,H,W,C+B) -> da (N,H,W,C), db (N,H,W,B), both contiguous."""
    a_shape, b_shape, dtype = cache
    C = a_shape[-1]
    contract.expect("concat", "dy", dy, (*a_shape[:-1], C + b_shape[-1]), dtype)
    da = dy[..., :C].copy()
    db = dy[..., C:].copy()
    return da, db


def check(a, b):
    """Check the arguments of ``forward``."""
    contract.bind("concat", a=(a, "N H W C"), b=(b, "N H W B"))
