"""linear: `y = x w + b`.

Letters: C features in, O features out; x may have any leading axes, M is their product.

Forward
    y[m, o] = sum_c x[m, c] w[c, o] + b[o]

Backward. With `dy = dL/dy`, each input gathers over every `y` it touched:
    dx[m, c] = sum_o dy[m, o] w[c, o]          dx = dy w^T
    dw[c, o] = sum_m x[m, c] dy[m, o]          dw = x^T dy
    db[o]    = sum_m dy[m, o]

Cost: `2 M C O` FLOPs forward, twice that backward; reads `x`, `w` and writes `y` once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.ops import contract


class Cache(NamedTuple):
    x: np.ndarray  # (..., C), the input itself: no copy
    w: np.ndarray  # (C, O)
    has_b: bool


def forward(x, w, b=None):
    """x (..., C), w (C, O), b (O) or None -> y (..., O), cache.

    Raises ``ValueError`` for shapes or dtypes that do not fit together.
    """
    check(x, w, b)
    y = x @ w
    if b is not None:
        y += b
    return y, Cache(x, w, b is not None)


def backward(dy, cache, into=(None, None)):
    """dy (..., O) -> dx (..., C), dw (C, O), db (O) or None; dw and db are written ``into`` arrays given for them."""
    x, w, has_b = cache
    C, O = w.shape
    contract.expect("linear", "dy", dy, (*x.shape[:-1], O), x.dtype)
    x_MC, dy_MO = x.reshape(-1, C), dy.reshape(-1, O)

    dx = dy @ w.T
    dw = x_MC.T @ dy_MO
    db = dy_MO.sum(axis=0) if has_b else None
    return dx, contract.place("linear", "dw", dw, into[0]), contract.place("linear", "db", db, into[1])


def check(x, w, b):
    """Check the arguments of ``forward``."""
    contract.bind("linear", x=(x, "... C"), w=(w, "C O"), b=(b, "O"))
