"""mse_loss: the mean squared error, each sample weighted.

Letters: N batch; M values per sample, over whatever axes they lie.

Forward
    loss = 1 / (N M) sum_n weight[n] sum_m (p[n, m] - y[n, m])^2

Backward. With `dloss` the gradient of whatever the loss feeds (1 in training):
    dp[n, m]   = dloss 2 weight[n] (p[n, m] - y[n, m]) / (N M)
    dy         = -dp
    dweight[n] = dloss sum_m (p[n, m] - y[n, m])^2 / (N M)

Cost: memory-bound; 3 FLOPs per element forward, 3 backward.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.ops import contract


class Cache(NamedTuple):
    prediction: np.ndarray  # (N, ...), the input itself: no copy
    target: np.ndarray  # (N, ...)
    weight: np.ndarray | None  # (N,)


def forward(prediction, target, weight=None):
    """prediction (N, ...), target (N, ...), weight (N,) or None for ones -> loss (), cache."""
    check(prediction, target, weight)
    squares = _sum_of_squares(prediction - target)
    if weight is not None:
        squares *= weight
    loss = squares.sum() / prediction.dtype.type(prediction.size)
    return loss, Cache(prediction, target, weight)


def backward(dloss, cache, *, prediction_only=False):
    """dloss (a number or a 0-d array) -> dprediction (N, ...), dtarget (N, ...), dweight (N,) or None.

    ``prediction_only`` leaves out, as None, the two gradients that training has no use for.
    """
    prediction, target, weight = cache
    error = prediction - target
    mean = prediction.dtype.type(dloss) / prediction.dtype.type(prediction.size)
    dweight = None if weight is None or prediction_only else mean * _sum_of_squares(error)
    if weight is not None:
        error *= weight.reshape(-1, *[1] * (error.ndim - 1))
    dprediction = error
    dprediction *= 2 * mean
    return (dprediction, None, None) if prediction_only else (dprediction, -dprediction, dweight)


def check(prediction, target, weight):
    """Check the arguments of ``forward``."""
    contract.expect_errors("mse_loss", prediction, target, weight)


def _sum_of_squares(error):
    """(N, ...) -> (N,)."""
    rows = error.reshape(error.shape[0], -1)
    return np.einsum("nm,nm->n", rows, rows)
