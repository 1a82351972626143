"""l1_loss: the mean absolute error, each sample weighted.

Letters: N batch; M values per sample, over whatever axes they lie.

Forward
    loss = 1 / (N M) sum_n weight[n] sum_m abs(p[n, m] - y[n, m])

Backward. Between errors of either sign the slope of ``abs`` jumps from -1 to 1; where there is no error it is taken as 0,
as ``sign`` has it. With `dloss` the gradient of whatever the loss feeds (1 in training):
    dp[n, m]   = dloss weight[n] sign(p[n, m] - y[n, m]) / (N M)
    dy         = -dp
    dweight[n] = dloss sum_m abs(p[n, m] - y[n, m]) / (N M)

A large error pulls no harder than a small one, so what is predicted where several images are as likely is one of them,
their median, rather than their mean, which is blurred.

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
    sums = _sum_of_sizes(prediction - target)
    if weight is not None:
        sums *= weight
    loss = sums.sum() / prediction.dtype.type(prediction.size)
    return loss, Cache(prediction, target, weight)


def backward(dloss, cache, *, prediction_only=False):
    """dloss (a number or a 0-d array) -> dprediction (N, ...), dtarget (N, ...), dweight (N,) or None.

    ``prediction_only`` leaves out, as None, the two gradients that training has no use for.
    """
    prediction, target, weight = cache
    error = prediction - target
    mean = prediction.dtype.type(dloss) / prediction.dtype.type(prediction.size)
    dweight = None if weight is None or prediction_only else mean * _sum_of_sizes(error)
    slope = np.sign(error)
    if weight is not None:
        slope *= weight.reshape(-1, *[1] * (error.ndim - 1))
    dprediction = slope
    dprediction *= mean
    return (dprediction, None, None) if prediction_only else (dprediction, -dprediction, dweight)


def check(prediction, target, weight):
    """Check the arguments of ``forward``."""
    contract.expect_errors("l1_loss", prediction, target, weight)


def _sum_of_sizes(error):
    """(N, ...) -> (N,)."""
    return np.abs(error).reshape(error.shape[0], -1).sum(axis=1)
