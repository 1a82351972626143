"""The forward process: images lose signal and gain noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.noise import predictions


class Corrupted(NamedTuple):
    x: np.ndarray  # (N, ...), the noisy input
    target: np.ndarray  # (N, ...), what the network should predict of it
    weight: np.ndarray  # (N,), the weight of each sample's loss


class Corruptor:
    """q(x | x0) of a schedule, with its table kept where the images are.

    Source: Ho et al., 2020, eq. 4.
    """

    def __init__(self, schedule, kind, weighting, backend, dtype=np.float32):
        a, s = schedule.signal_rate, schedule.noise_rate
        weights = predictions.loss_weights(schedule, kind, weighting)
        # the target is as linear in x0 and eps as x is
        of_x0, of_eps = predictions.join(kind, 1.0, 0.0, a, s), predictions.join(kind, 0.0, 1.0, a, s)
        columns = np.broadcast_arrays(a, s, of_x0, of_eps, weights)
        self.backend = backend
        self.table = backend.asarray(np.stack(columns, axis=1), dtype)

    def __call__(self, x0, eps, step):
        """x0 (N, ...), eps (N, ...) of unit variance, step (N,) integers in [0, T) -> Corrupted."""
        a, s, p, q, _ = (self.table[step, i].reshape(-1, *[1] * (x0.ndim - 1)) for i in range(5))
        return Corrupted(a * x0 + s * eps, p * x0 + q * eps, self.table[step, 4])

    def draw(self, images, index, step, number, slot=None, *, seed, flip=False):
        """The same of images[index], images (n, ...) bytes, with the noise of a training step, number (1,), for these
        places in its batch, slot (N,), or from the first on. With ``flip`` half of them, images (n, H, W, C), are
        mirrored."""
        options = dict(seed=seed, flip=flip)
        return Corrupted(*self.backend.corrupt.forward(images, index, step, self.table, number, slot, **options))
