"""class_embedding: one learned row per class; the last row is the null label of classifier-free guidance.

Letters: N batch, K rows (classes + 1), E embedding width.

Forward
    y[n, e] = table[labels[n], e]

Backward. A row gathers from every sample that looked it up:
    dtable[k, e] = sum_{n: labels[n] = k} dy[n, e]

which is `onehot^T dy`, where `onehot[n, k]` is 1 if `labels[n] = k`, else 0: a fixed order of summation, where adding
row by row would depend on who comes first once threads do it.

Cost: memory-bound forward; `2 N K E` FLOPs backward.
Source: Ho and Salimans, "Classifier-free diffusion guidance", 2022, section 3.1, for the null label.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.ops import contract


class Cache(NamedTuple):
    labels: np.ndarray  # (N,) integers
    table_shape: tuple[int, int]  # (K, E)
    dtype: np.dtype


def forward(table, labels):
    """table (K, E), labels (N,) integers in [0, K) -> y (N, E), cache.

    Raises ``ValueError`` for a label outside the table (a negative one would silently count from the end).
    """
    check(table, labels)
    check_labels(labels, len(table))
    return table[labels], Cache(labels, table.shape, table.dtype)


def backward(dy, cache, into=(None,)):
    """dy (N, E) -> dtable (K, E), None (labels are integers and have no gradient).

    dtable is written ``into`` an array given for it.
    """
    labels, (K, E), dtype = cache
    contract.expect("class_embedding", "dy", dy, (labels.shape[0], E), dtype)
    onehot = (labels[:, None] == np.arange(K)).astype(dtype)
    dtable = onehot.T @ dy
    return contract.place("class_embedding", "dtable", dtable, into[0]), None


def check(table, labels):
    """Check the arguments of ``forward``, but for the labels' values."""
    contract.bind("class_embedding", table=(table, "K E"))
    contract.expect_integers("class_embedding", "labels", labels)


def check_labels(labels, K):
    """Check that every label is a row of the table."""
    contract.expect_within("class_embedding", "labels", labels, K)
