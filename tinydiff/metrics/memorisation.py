"""Does a model draw new images, or those it was trained on?

Each sample is held against its nearest training image. A distance alone says nothing (a plain 1 is always near another
1), so the same is done with images that were held out: samples of a model that learned the distribution are about as
far from the training images as those are; samples that repeat them are nearer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.data.dataset import bytes_to_signed
from tinydiff.metrics import SaysNothing

QUANTILE = 0.01  # of held-out images are nearer than what counts as near
BATCH = 250  # samples at a time
TRAIN_BATCH = 2000  # training images at a time: all of them, as floats, may be more than memory holds


class Memorisation(NamedTuple):
    """Distances to the nearest training image: root mean squares over the pixels, which lie in [-1, 1]."""

    distance: float  # the median over the samples
    baseline: float  # the median over held-out images
    near: float  # the share of samples nearer than all but ``QUANTILE`` of the held-out images
    n: int  # samples
    baseline_n: int
    held_out: str  # what the baseline is of

    def __str__(self):
        return (
            f"{self.near:.1%} of {self.n:,} samples lie nearer to a training image than all but {QUANTILE:.0%} of "
            f"{self.baseline_n:,} {self.held_out} do; median distance {self.distance:.3f}, of those {self.baseline:.3f}"
        )


def memorisation(samples, train, test=None, *, batch=BATCH):
    """Compare samples with the training images, a ``Memorisation``; all are images, uint8 or float32 in [-1, 1].

    The baseline is that of the first len(samples) test images; without a test set that of as many training images,
    each against all others. Raises ``SaysNothing`` where there are none.
    """
    if test is None and len(train) < 2:
        raise SaysNothing("memorisation without test images needs at least 2 training images, got 1")
    distance, _ = nearest(samples, train, batch=batch)
    if test is not None:
        held_out = "test images"
        baseline, _ = nearest(test[: len(samples)], train, batch=batch)
    else:
        held_out = "training images (to another)"
        baseline, _ = nearest(train[: len(samples)], train, skip_itself=True, batch=batch)
    near = float((distance < np.quantile(baseline, QUANTILE)).mean())
    medians = float(np.median(distance)), float(np.median(baseline))
    return Memorisation(*medians, near, len(distance), len(baseline), held_out)


def nearest(images, train, *, skip_itself=False, batch=BATCH):
    """The distance of each image (n, ...) to its nearest training image (m, ...), and which that is: (n,), (n,).

    skip_itself  image i is training image i, which does not count. Needs m of at least 2.

    Raises ``ValueError`` for images of different shapes.
    """
    if images.shape[1:] != train.shape[1:] or len(train) < 1 + skip_itself:
        raise ValueError(f"images of shape {images.shape} cannot be held against training images {train.shape}")
    x = _rows(images)
    highest, index = np.full(len(x), -np.inf, np.float32), np.zeros(len(x), np.int64)
    for start in range(0, len(train), TRAIN_BATCH):
        y = _rows(train[start : start + TRAIN_BATCH])
        squares = np.einsum("md,md->m", y, y)
        for first in range(0, len(x), batch):
            rows = slice(first, first + batch)
            closeness = x[rows] @ y.T - squares / 2  # |x - y|^2 less |x|^2, the same for all y, and times -1 / 2
            if skip_itself:
                np.fill_diagonal(closeness[max(0, start - first) :, max(0, first - start) :], -np.inf)
            best = closeness.argmax(axis=1)
            reached = closeness[np.arange(len(best)), best]
            nearer = reached > highest[rows]
            highest[rows][nearer], index[rows][nearer] = reached[nearer], start + best[nearer]
    # from the difference itself: an image that was copied lies at 0, not where rounding leaves it
    return np.sqrt(np.mean((x - _rows(train[index])) ** 2, axis=1)), index


def _rows(images):
    return bytes_to_signed(images).reshape(len(images), -1)
