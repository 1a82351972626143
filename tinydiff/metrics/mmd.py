"""Maximum mean discrepancy: do two sets of points come from one distribution?

With a kernel k, and points x of one set (n) and y of the other (m),

    MMD^2 = mean k(x, x') over x != x'  +  mean k(y, y') over y != y'  -  2 mean k(x, y),

which is unbiased: of two sets from one distribution its expectation is 0, and half of the time it is below. So a value
says nothing without its floor: what two sets of real data of the same size give, and how far that spreads.

The kernel is the mean of three RBF kernels exp(-d^2 / 2 h^2), h = (0.5, 1, 2) x the median distance of the real data;
it depends on the real data alone, so values of different samples compare.

Source: Gretton et al., "A kernel two-sample test", 2012, eq. 3 (the estimate) and section 8.1 (the median).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.metrics import SaysNothing

FACTORS = (0.5, 1.0, 2.0)  # bandwidths, in median distances
MEDIAN_POINTS = 1000  # the median distance is that of so many points at most, the first
BATCH = 1000  # rows of the kernel matrix at a time
SPLITS = 200  # of the real data into two halves, for the floor
BAND = (0.025, 0.975)  # quantiles
FEWEST = 5  # points in each set: 2 x 4 points have 35 splits into halves, too few for quantiles of one in 40


class Discrepancy(NamedTuple):
    """An MMD^2 and the one that real data have among themselves."""

    value: float
    floor: float  # the mean over splits of the real data into two sets of the same size
    band: tuple[float, float]  # which holds 95 % of those splits
    n: int  # points in each set

    def __str__(self):
        low, high = self.band
        return (
            f"{self.value:.2e} (n = {self.n:,} in each set; two such sets of real data: {self.floor:.0e}, "
            f"95 % of them {low:.1e} to {high:.1e})"
        )


def mmd(samples, real, *, seed=0, batch=BATCH):
    """The MMD^2 between samples (n, ...) and real data (m, ...), with its floor and band.

    Compared are n = min(len(samples), len(real) // 2) points of each, the first; the floor is that of random halves
    of the first 2 n real points. The result does not depend on ``batch`` but for rounding.

    Raises ``SaysNothing`` for n under ``FEWEST`` and for real points that are mostly the same, ``ValueError`` for
    points of different shapes.
    """
    samples, real = _rows("samples", samples), _rows("real", real)
    n = min(len(samples), len(real) // 2)
    if n < FEWEST:
        raise SaysNothing(
            f"MMD needs at least {FEWEST} samples and {2 * FEWEST} real points, got {len(samples)} and {len(real)}"
        )
    bandwidths = median_bandwidths(real)
    value = squared_mmd(samples[:n], real[:n], bandwidths, batch=batch)
    splits = _splits(real[: 2 * n], bandwidths, np.random.default_rng(seed), batch)
    low, high = np.quantile(splits, BAND)
    return Discrepancy(value, float(splits.mean()), (float(low), float(high)), n)


def squared_mmd(x, y, bandwidths, *, batch=BATCH):
    """The unbiased estimate of MMD^2 between x (n, ...) and y (m, ...)."""
    x, y = _rows("x", x), _rows("y", y)
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(f"both sets must hold at least 2 points of one shape, got {x.shape} and {y.shape}")
    n, m = len(x), len(y)
    within_x = (_kernel_sum(x, x, bandwidths, batch) - n) / (n * (n - 1))  # less the diagonal, k(x, x) = 1
    within_y = (_kernel_sum(y, y, bandwidths, batch) - m) / (m * (m - 1))
    return within_x + within_y - 2 * _kernel_sum(x, y, bandwidths, batch) / (n * m)


def median_bandwidths(real):
    """``FACTORS`` times the median distance between two of the first ``MEDIAN_POINTS`` points.

    Raises ``SaysNothing`` where that is 0: most points are the same.
    """
    x = _rows("real", real)[:MEDIAN_POINTS]
    median = np.sqrt(np.median(_squared_distances(x, x)[np.triu_indices(len(x), 1)]))
    if not median > 0:
        raise SaysNothing("MMD needs real data that differ: the median distance between two of them is 0")
    return [factor * float(median) for factor in FACTORS]


def _splits(real, bandwidths, rng, batch):
    """MMD^2 between random halves of 2 n points, (SPLITS,).

    With e a vector of n ones (first half) and n minus ones, and K the kernel matrix without its diagonal, the three
    sums are two quadratic forms, for all splits at once:  sum within halves - sum between = e^T K e.
    """
    n = len(real) // 2
    half = np.concatenate([np.ones(n), -np.ones(n)])
    e = np.stack([rng.permutation(half) for _ in range(SPLITS)], axis=1)  # (2 n, SPLITS)
    within_less_between, total = np.zeros(SPLITS), 0.0
    for first in range(0, len(real), batch):
        rows = slice(first, first + batch)
        K = _kernel(real[rows], real, bandwidths)
        within_less_between += np.einsum("is,is->s", e[rows], K @ e)
        total += K.sum()
    within_less_between -= 2 * n  # the diagonal, which lies within
    total -= 2 * n
    within, between = (total + within_less_between) / 2, (total - within_less_between) / 2
    return within / (n * (n - 1)) - between / n**2


def _kernel_sum(x, y, bandwidths, batch):
    return sum(float(_kernel(x[i : i + batch], y, bandwidths).sum()) for i in range(0, len(x), batch))


def _kernel(x, y, bandwidths):
    """x (n, M), y (m, M) -> the mean of the RBF kernels, (n, m)."""
    squares = _squared_distances(x, y)
    return sum(np.exp(squares / (-2 * h * h)) for h in bandwidths) / len(bandwidths)


def _squared_distances(x, y):
    """x (n, M), y (m, M) -> |x - y|^2, (n, m)."""
    squares = np.einsum("nd,nd->n", x, x)[:, None] + np.einsum("md,md->m", y, y) - 2 * x @ y.T
    return squares.clip(0)  # cancellation may leave a little less than 0 of it


def _rows(name, points):
    """(n, ...) as float64 rows (n, M)."""
    points = np.asarray(points, np.float64)
    if points.ndim < 2 or not np.isfinite(points).all():
        raise ValueError(f"{name} must be finite points of shape (n, ...), got shape {points.shape}")
    return points.reshape(len(points), -1)
