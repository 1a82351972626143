"""Softmax cross-entropy: how surprised a classifier is by the labels, and the gradient of that.

Letters: N batch, K classes; z logits, p probabilities.

Forward
    p[n, k] = exp(z[n, k]) / sum_j exp(z[n, j])
    loss    = -1/N sum_n log p[n, label[n]]
            =  1/N sum_n (log sum_j exp(z[n, j]) - z[n, label[n]])

Backward. The logarithm of the sum has the softmax as its gradient,
    d/dz[n, k] log sum_j exp(z[n, j]) = exp(z[n, k]) / sum_j exp(z[n, j]) = p[n, k],
and -z[n, label] has -1 at the label, so
    dz[n, k] = dloss (p[n, k] - [k = label[n]]) / N
Labels have no gradient. Each row of dz sums to zero: adding a number to all logits of a sample changes nothing, which is
also why the largest may be taken off before exp, so that nothing overflows.

It is NumPy alone: N x K numbers, ten a sample, are nothing beside the network before them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Cache(NamedTuple):
    probability: np.ndarray  # (N, K)
    labels: np.ndarray  # (N,)


def forward(logits, labels):
    """logits (N, K) floats, labels (N,) integers in [0, K) -> loss (), cache.

    Raises ``ValueError`` for shapes that do not fit or a label out of range.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"logits must be (N, K) and labels (N,), got {logits.shape} and {labels.shape}")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels must lie in [0, {logits.shape[1]}), got {labels.min()} .. {labels.max()}")
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=1)
    loss = np.mean(np.log(total) - shifted[np.arange(len(labels)), labels])
    return loss, Cache(exponentials / total[:, None], labels)


def backward(dloss, cache):
    """dloss a number -> dlogits (N, K), None."""
    dlogits = cache.probability.copy()
    dlogits[np.arange(len(cache.labels)), cache.labels] -= 1
    dlogits *= dlogits.dtype.type(dloss / len(cache.labels))
    return dlogits, None
