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
    """q(x | x0) of a schedule, with its tables kept where the images are.

    Source: Ho et al., 2020, eq. 4.
    """

    def __init__(self, schedule, kind, weighting, backend, dtype=np.float32):
        weights = predictions.loss_weights(schedule, kind, weighting)
        self.kind = kind
        self.signal_rate = backend.asarray(schedule.signal_rate, dtype)
        self.noise_rate = backend.asarray(schedule.noise_rate, dtype)
        self.weights = backend.asarray(weights, dtype)

    def __call__(self, x0, eps, step):
        """x0 (N, ...), eps (N, ...) of unit variance, step (N,) integers in [0, T) -> Corrupted."""
        per_sample = (-1, *[1] * (x0.ndim - 1))
        a = self.signal_rate[step].reshape(per_sample)
        s = self.noise_rate[step].reshape(per_sample)
        return Corrupted(a * x0 + s * eps, predictions.join(self.kind, x0, eps, a, s), self.weights[step])
