"""gelu: `y = x Phi(x)`, with Phi the distribution function of the unit normal, or what is commonly taken for it.

Forward
    y = x P,  where
    P = Phi(x) = (1 + erf(x / sqrt(2))) / 2                      ``form="exact"``
      = sigmoid(u),  u = 2 sqrt(2/pi) (x + 0.044715 x^3)         ``form="tanh"``, since `(1 + tanh(u/2)) / 2 = sigmoid(u)`
      = sigmoid(u),  u = 1.702 x                                 ``form="quick"``

Backward. By the product rule
    dy/dx = P + x P'(x) = P + through_P
    P'(x) = phi(x) = exp(-x^2/2) / sqrt(2 pi)                    exact: a distribution function's slope is its density
          = P (1 - P) u'(x)                                      else, by the sigmoid's own slope
    u'(x) = 2 sqrt(2/pi) (1 + 0.134145 x^2)                      tanh
          = 1.702                                                quick
    dx    = dy (P + through_P)

Only `x` is kept. Phi is taken as `erfc(-x / sqrt(2)) / 2`, which loses no digit on the left, where it is small beside 1.

Cost: one exponential, one division and about 25 FLOPs per element; memory-bound.
Source: Hendrycks and Gimpel, "Gaussian error linear units", 2016, section 2 (all three forms).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tinydiff.ops import contract
from tinydiff.ops.silu import sigmoid

FORMS = ("exact", "tanh", "quick")
CUBIC = 0.044715
TANH = 2 * math.sqrt(2 / math.pi)
QUICK = 1.702


class Cache(NamedTuple):
    x: np.ndarray  # the input itself: no copy
    form: str


def forward(x, *, form="exact"):
    """x of any shape -> y of the same shape, cache. Raises ``ValueError`` for an unknown form."""
    check(x, form)
    y = share(x, form)
    y *= x
    return y, Cache(x, form)


def backward(dy, cache):
    """dy -> dx, both of the shape of x."""
    x, form = cache
    contract.expect("gelu", "dy", dy, x.shape, x.dtype)
    dx = slope(x, form)
    dx *= dy
    return dx


def check(x, form):
    """Check the arguments of ``forward``."""
    contract.bind("gelu", x=(x, "..."))
    if form not in FORMS:
        raise ValueError(f"gelu: form must be one of {', '.join(FORMS)}, got {form!r}")


def share(x, form):
    """P of every x, in [0, 1]."""
    if form == "exact":
        return np.asanyarray(_distribution(x)).astype(x.dtype)
    return sigmoid(QUICK * x if form == "quick" else TANH * (x + CUBIC * x * x * x))


def slope(x, form):
    """dy/dx = P + x P'(x) at x."""
    P = share(x, form)
    if form == "exact":
        density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    else:
        density = P * (1 - P) * (QUICK if form == "quick" else TANH * (1 + 3 * CUBIC * x * x))
    through_P = x * density
    return P + through_P


def _of_one(x):
    z = x * -math.sqrt(0.5)
    return 0.5 * (z.erfc() if hasattr(z, "erfc") else math.erfc(z))


_distribution = np.frompyfunc(_of_one, 1, 1)
