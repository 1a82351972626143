"""geglu: `y = a gelu(g)`, a linear unit whose gate is a GELU.

Letters: x has 2 C channels, of which the first C are `a` and the others the gate `g`.

Forward
    y[..., c] = a[..., c] gelu(g[..., c])

where gelu is exact, `gelu(g) = g Phi(g)`.

Backward. Each is the other's factor:
    da = dy gelu(g)
    dg = dy a gelu'(g)
    dx = [da, dg]

The slope `gelu'` is that of gelu.py.

Only `x` is kept.

Cost: as gelu's, for each of the C channels; memory-bound.
Source: Shazeer, "GLU variants improve transformer", 2020, eq. 6; which half is the gate as in diffusers' ``GEGLU``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.ops import contract, gelu


class Cache(NamedTuple):
    x: np.ndarray  # (..., 2 C), the input itself: no copy


def forward(x):
    """x (..., 2 C) -> y (..., C), cache. Raises ``ValueError`` where the channels cannot be halved."""
    check(x)
    a, g = np.split(x, 2, axis=-1)
    return a * (g * gelu.share(g, "exact")), Cache(x)


def backward(dy, cache):
    """dy (..., C) -> dx (..., 2 C)."""
    (x,) = cache
    contract.expect("geglu", "dy", dy, (*x.shape[:-1], x.shape[-1] // 2), x.dtype)
    a, g = np.split(x, 2, axis=-1)
    da = dy * (g * gelu.share(g, "exact"))
    dg = dy * a * gelu.slope(g, "exact")
    return np.concatenate([da, dg], axis=-1)


def check(x):
    """Check the arguments of ``forward``."""
    contract.bind("geglu", x=(x, "... C"))
    if x.shape[-1] % 2:
        raise ValueError(f"geglu: x must have an even number of channels, got {x.shape[-1]}")
