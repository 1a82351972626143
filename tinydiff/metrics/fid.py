"""Frechet inception distance, with the features of any network: do samples spread over the features as real data do?

Features of real data and of samples are each summarised as a normal distribution, of which the distance is

    d^2 = |mean_1 - mean_2|^2 + Tr(C_1 + C_2 - 2 (C_1^(1/2) C_2 C_1^(1/2))^(1/2))

The matrix in the last root is symmetric with eigenvalues of at least 0, so its root has the sum of their square roots as
its trace: two symmetric eigendecompositions, where the product C_1 C_2 of the paper would ask for the root of a matrix
that is not symmetric.

A value depends on the features, and on n: a covariance of few samples is off, which adds to the distance. So it is told
with both, and with its floor: the distance between the training data and as many real images that were held out. The
covariance of no more samples than features lacks whole directions, so of so few there is no value.

Source: Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", 2017, eq. 6.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import Callable, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from tinydiff.files import cache_dir, write_atomically
from tinydiff.metrics import SaysNothing
from tinydiff.ranks import alone

BATCH = 1000  # images at a time


class FeatureNet(NamedTuple):
    """Anything that makes features of images."""

    name: str
    fingerprint: str  # of its weights: what was cached of other weights is not used
    features: Callable  # images (N, H, W, C), as in the data set or float32 in [-1, 1] -> features (N, F)


class Statistics(NamedTuple):
    """What FID keeps of a set of features."""

    n: int
    mean: np.ndarray  # (F,) float64
    covariance: np.ndarray  # (F, F) float64


class FID(NamedTuple):
    """A distance and all it depends on."""

    value: float
    n: int  # samples
    floor: float | None  # the distance of held-out images to the training data; None without such images
    floor_n: int  # how many of them: n, or all there are
    real_n: int  # training images
    net: str

    def __str__(self):
        floor = "no floor, as no images were held out"
        if self.floor is not None:
            floor = f"floor {self.floor:.2f}, of {self.floor_n:,} test images"
        return f"{self.value:.2f} (n = {self.n:,} against {self.real_n:,} training images; {floor}; {self.net})"


def fid(samples, train, test, net, *, batch=BATCH, ranks=alone()):
    """The distance of samples to the training images, and of the first len(samples) test images, a ``FID``.

    Where ``test`` is None there is no floor. All are images (N, H, W, C), uint8 or float32 in [-1, 1]; ``net`` is a
    ``FeatureNet``. The statistics of the training images are kept in the user's cache, by the content of the images and
    the fingerprint of the net. Of several ranks, each with all images, each makes the features of some of them.

    Raises ``SaysNothing`` for no more images than features, on any side.
    """
    real = cached_statistics(train, net, batch=batch, ranks=ranks)
    sets = [("samples", len(samples)), ("training images", real.n)]
    if test is not None:
        test = test[: len(samples)]
        sets.append(("test images", len(test)))
    features = len(real.mean)
    for images, n in sets:
        if n <= features:
            raise SaysNothing(f"FID of {features} features needs more than {features} {images}, got {n}")
    distance = lambda images: frechet_distance(statistics(images, net, batch=batch, ranks=ranks), real)
    floor, floor_n = (None, 0) if test is None else (distance(test), len(test))
    return FID(distance(samples), len(samples), floor, floor_n, real.n, net.name)


def statistics(images, net, *, batch=BATCH, ranks=alone()):
    """The ``Statistics`` of the features of images (N, ...), the same bits for any ``ranks``, whose batches and their order
    are those of one. Raises ``SaysNothing`` for N under 2."""
    if len(images) < 2:
        raise SaysNothing(f"statistics of features need at least 2 images, got {len(images)}")
    firsts = range(0, len(images), batch)
    firsts = [firsts[i] for i in ranks.share(len(firsts))]
    made = ranks.gather([np.asarray(net.features(images[first : first + batch]), np.float64) for first in firsts])
    features = np.concatenate([features for of_rank in made for features in of_rank])
    if features.ndim != 2 or not np.isfinite(features).all():
        raise ValueError(f"{net.name} must give finite features (N, F), got shape {features.shape}")
    return Statistics(
        len(features), features.mean(axis=0), np.cov(features, rowvar=False).reshape(2 * features.shape[1:])
    )


def cached_statistics(images, net, *, batch=BATCH, ranks=alone()):
    """The same, from the cache where it holds them, and then put there."""
    content = hashlib.sha256(str((images.dtype, images.shape)).encode())
    for first in range(0, len(images), batch):
        content.update(images[first : first + batch].tobytes())
    path = cache_dir("statistics") / f"{net.fingerprint}-{content.hexdigest()[:16]}.safetensors"
    if kept := ranks.broadcast(_kept(path) if ranks.speaks else None):  # all find it, or none
        return kept
    made = statistics(images, net, batch=batch, ranks=ranks)
    if ranks.speaks:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, not the result
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, safetensors.numpy.save({**made._asdict(), "n": np.array([made.n])}))
    return made


def _kept(path):
    """The ``Statistics`` in a file of the cache; None if it is not there, or not whole."""
    try:
        kept = safetensors.numpy.load_file(path)
        return Statistics(int(kept["n"][0]), kept["mean"], kept["covariance"])
    except (OSError, KeyError, safetensors.SafetensorError):
        return None


def frechet_distance(a, b):
    """The d^2 above between two ``Statistics``. Raises ``ValueError`` if their features differ in number."""
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features must be as many on both sides, got {a.mean.shape} and {b.mean.shape}")
    root = _square_root(a.covariance)
    eigenvalues = np.linalg.eigvalsh(root @ b.covariance @ root)
    overlap = np.sqrt(eigenvalues.clip(0)).sum()  # rounding may leave a little less than 0 of an eigenvalue
    difference = a.mean - b.mean
    return float(difference @ difference + np.trace(a.covariance) + np.trace(b.covariance) - 2 * overlap)


def _square_root(matrix):
    """The symmetric square root of a covariance."""
    eigenvalues, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(eigenvalues.clip(0))) @ vectors.T
