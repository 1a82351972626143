"""silu: `y = x sigmoid(x)`.

Forward
    s = 1 / (1 + exp(-x)),   y = x s

Backward. The sigmoid has `ds/dx = s (1 - s)`, so by the product rule
    dy/dx = s + x s (1 - s)
    dx    = dy s (1 + x (1 - s))

Only `x` is kept: `s` costs one exponential to recompute and as much memory as `x` to keep.

Cost: about 4 FLOPs and one exponential per element; memory-bound.
Source: Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units", 2017.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.ops import contract


class Cache(NamedTuple):
    x: np.ndarray  # the input itself: no copy


def forward(x):
    """x of any shape -> y of the same shape, cache."""
    check(x)
    y = sigmoid(x)
    y *= x
    return y, Cache(x)


def backward(dy, cache):
    """dy -> dx, both of the shape of x."""
    (x,) = cache
    contract.expect("silu", "dy", dy, x.shape, x.dtype)
    dx = slope(x)
    dx *= dy
    return dx


def check(x):
    """Check the arguments of ``forward``."""
    contract.bind("silu", x=(x, "..."))


def sigmoid(x):
    """1 / (1 + exp(-x)) without overflow for any finite x: exp(-x) = inf gives 0, its exact limit."""
    with np.errstate(over="ignore"):
        s = np.exp(-x)
    s += 1
    return np.divide(1, s, out=s)


def slope(x):
    """dy/dx = s (1 + x (1 - s)) at x."""
    s = sigmoid(x)
    through_s = 1 - s
    through_s *= x
    slope = through_s
    slope += 1
    slope *= s
    return slope
