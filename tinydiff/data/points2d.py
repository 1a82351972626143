"""Points in the plane: small enough to train on in a minute, and the mixture's noisy density is known exactly.

Every set lies about [-1, 1] x [-1, 1], as images do, and every point is a function of (seed, index) alone: a set is
deterministic, and a longer one begins with the shorter.

    mixture       normals of unequal weight, tangential to a circle; class = component
    ring          a circle with a little thickness; class = quadrant
    two_moons     two half circles, each reaching into the other; class = moon
    checkerboard  the dark squares of a board of 4 x 4; class = square
    spiral        two arms, one the other turned by half a turn; class = arm
    pinwheel      five blades, sheared by their distance from the centre; class = blade
"""

from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np

from tinydiff.data.dataset import Dataset
from tinydiff.ops import philox


class Mixture:
    """A mixture of normals, and what becomes of it when it is noised to x = a x0 + s eps.

    Letters: n points, K components, D dimensions; a signal rate, s noise rate (``Schedule.rates``); a = 1, s = 0 is
    the mixture itself. A noised normal is a normal,

        x ~ N(a mean_k, V_k),   V_k = a^2 C_k + s^2 I,

    so density, score and denoiser are those of K normals, weighed by how likely each component is given x:

        p(k | x)       = w_k N(x; a mean_k, V_k) / p(x)
        score(x)       = -sum_k p(k | x) V_k^-1 (x - a mean_k)                          gradient of log p(x)
        E[x0 | x]      =  sum_k p(k | x) (mean_k + a C_k V_k^-1 (x - a mean_k))

    The last two are one: a E[x0 | x] = x + s^2 score(x) (Tweedie's formula; Efron, 2011).

    Raises ``ValueError`` for shapes that do not fit, weights that are not positive or covariances that are not
    positive definite.
    """

    def __init__(self, weights, means, covariances):
        weights = np.asarray(weights, np.float64)
        self.means = np.asarray(means, np.float64)  # (K, D)
        self.covariances = np.asarray(covariances, np.float64)  # (K, D, D)
        if self.means.ndim != 2:
            raise ValueError(f"means must have shape (K, D), got {self.means.shape}")
        K, D = self.means.shape
        if weights.shape != (K,) or not (weights > 0).all():
            raise ValueError(f"weights must be {K} positive numbers, one for each mean, got {weights}")
        if self.covariances.shape != (K, D, D):
            raise ValueError(f"covariances must have shape {(K, D, D)}, got {self.covariances.shape}")
        symmetric = np.allclose(self.covariances, self.covariances.transpose(0, 2, 1))
        if not symmetric or np.linalg.eigvalsh(self.covariances).min() <= 0:
            raise ValueError("covariances must be symmetric and positive definite")
        self.weights = weights / weights.sum()  # (K,)

    def component(self, k):
        """Component k alone: the data of class k."""
        return Mixture([1.0], self.means[k : k + 1], self.covariances[k : k + 1])

    def draw(self, uniform, normal):
        """Points (n, D) and their components (n,), from (n, 1) uniform and (n, D) normal numbers."""
        label = np.searchsorted(np.cumsum(self.weights)[:-1], uniform[:, 0])
        root = np.linalg.cholesky(self.covariances)[label]
        return self.means[label] + np.einsum("nij,nj->ni", root, normal), label

    def log_density(self, x, a=1.0, s=0.0):
        """log p(x) of x (n, D) -> (n,)."""
        log_joint, _ = self._components(x, a, s)
        top = log_joint.max(axis=1)
        return top + np.log(np.exp(log_joint - top[:, None]).sum(axis=1))

    def density(self, x, a=1.0, s=0.0):
        """p(x) of x (n, D) -> (n,)."""
        return np.exp(self.log_density(x, a, s))

    def score(self, x, a=1.0, s=0.0):
        """The gradient of log p at x (n, D) -> (n, D)."""
        log_joint, pull = self._components(x, a, s)
        return -np.einsum("nk,nkd->nd", _softmax(log_joint), pull)

    def denoise(self, x, a, s):
        """E[x0 | x] of x (n, D) -> (n, D): the best that any network can do."""
        log_joint, pull = self._components(x, a, s)
        each = self.means + a * np.einsum("kij,nkj->nki", self.covariances, pull)
        return np.einsum("nk,nkd->nd", _softmax(log_joint), each)

    def _components(self, x, a, s):
        """log w_k N(x; a mean_k, V_k), (n, K), and V_k^-1 (x - a mean_k), (n, K, D)."""
        V = a**2 * self.covariances + s**2 * np.eye(self.means.shape[1])
        from_mean = np.asarray(x, np.float64)[:, None] - a * self.means
        pull = np.einsum("kij,nkj->nki", np.linalg.inv(V), from_mean)
        _, log_determinant = np.linalg.slogdet(2 * np.pi * V)
        square = np.einsum("nkd,nkd->nk", from_mean, pull)
        return np.log(self.weights) - 0.5 * (log_determinant + square), pull


def _softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _tangential(weights, *, radius, along, across):
    """A mixture whose components lie on a circle, stretched along it."""
    angle = 2 * np.pi * np.arange(len(weights)) / len(weights)
    outward = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    tangent = np.stack([-np.sin(angle), np.cos(angle)], axis=1)
    covariances = along**2 * _outer(tangent) + across**2 * _outer(outward)
    return Mixture(weights, radius * outward, covariances)


def _outer(vectors):
    return np.einsum("ki,kj->kij", vectors, vectors)


MIXTURE = _tangential((1, 2, 3, 1, 2, 3), radius=0.75, along=0.15, across=0.05)


def _ring(uniform, normal):
    turn = uniform[:, 0]
    return _polar(0.8 + 0.05 * normal[:, 0], turn), (4 * turn).astype(int)


def _two_moons(uniform, normal):
    label = (2 * uniform[:, 0]).astype(int)
    upper = _polar(1.0, uniform[:, 1] / 2) - [0.5, 0.25]
    points = np.where(label[:, None] == 0, upper, -upper)  # the lower moon is the upper one turned by half a turn
    return 0.6 * points + 0.04 * normal, label


def _checkerboard(uniform, normal):
    label = (8 * uniform[:, 0]).astype(int)
    row = label // 2
    column = 2 * (label % 2) + row % 2
    corner = np.stack([column, row], axis=1) / 2 - 1
    return corner + uniform[:, 1:] / 2, label


def _spiral(uniform, normal):
    label = (2 * uniform[:, 0]).astype(int)
    along = np.sqrt(uniform[:, 1])  # the arc length grows with the radius: equally many points on each piece
    return _polar(0.95 * along, 1.25 * along + label / 2) + 0.03 * normal, label


def _pinwheel(uniform, normal):
    label = (5 * uniform[:, 0]).astype(int)
    x, y = 0.55 + 0.2 * normal[:, 0], 0.04 * normal[:, 1]  # a blade that points to the right
    radius = np.hypot(x, y)
    return _polar(radius, np.arctan2(y, x) / (2 * np.pi) + label / 5 + 0.2 * (radius - 0.55)), label


def _polar(radius, turn):
    """Radius and turns -> points (n, 2)."""
    angle = 2 * np.pi * turn
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


class Shape(NamedTuple):
    """How to draw points (n, 2) and labels (n,) from (n, 3) uniform and (n, 2) normal numbers."""

    draw: Callable
    classes: int


SHAPES = {
    "mixture": Shape(MIXTURE.draw, len(MIXTURE.weights)),
    "ring": Shape(_ring, 4),
    "two_moons": Shape(_two_moons, 2),
    "checkerboard": Shape(_checkerboard, 8),
    "spiral": Shape(_spiral, 2),
    "pinwheel": Shape(_pinwheel, 5),
}


def load(name="mixture", count=10_000, *, seed=0, first=0):
    """Points ``first`` .. ``first + count - 1`` of that set, as a ``Dataset`` of float32 (count, 2).

    Raises ``ValueError`` for an unknown name or a count below 1.
    """
    if name not in SHAPES:
        raise ValueError(f"points must be one of {', '.join(SHAPES)}, got {name!r}")
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    index = np.arange(first, first + count)
    uniform = philox.forward(seed, "data", index, 0, (3,), kind="uniform", dtype=np.float64)
    normal = philox.forward(seed, "data", index, 1, (2,), kind="normal", dtype=np.float64)
    points, labels = SHAPES[name].draw(uniform, normal)
    return Dataset(name, points.astype(np.float32), labels.astype(np.int32), SHAPES[name].classes)
