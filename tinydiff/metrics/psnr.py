"""PSNR: how near images are to those that they are to be, in decibels: 10 log10(peak^2 / mean squared error).

The peak is the whole range of values, so 20 dB is a root mean square error of a tenth of it, 30 dB of a thirtieth, 40
dB of a hundredth. It is of each image, and its mean over images is told: one that is all wrong counts once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tinydiff.data.dataset import bytes_to_signed

PEAK = 2.0  # from black, -1, to white, 1
LEAST = 1e-10  # of a mean squared error in parts of the peak's square: 100 dB, as what is the same counts


class PSNR(NamedTuple):
    """The mean over ``n`` images, in dB, and its standard error."""

    value: float
    error: float
    n: int

    def __str__(self):
        return f"{self.value:.2f} dB (mean of {self.n:,}, standard error {self.error:.2f})"


def psnr(images, originals):
    """images (n, H, W, C) and what they are to be, each uint8 or float32 in [-1, 1] -> ``PSNR``.

    Raises ``ValueError`` for none, or for sets of two shapes.
    """
    if images.shape != originals.shape or len(images) == 0:
        raise ValueError(f"images of shape {images.shape} cannot be held against originals of shape {originals.shape}")
    squared = [
        np.square(bytes_to_signed(image) - bytes_to_signed(original), dtype=np.float64).mean() / PEAK**2
        for image, original in zip(images, originals)
    ]
    decibels = -10 * np.log10(np.maximum(squared, LEAST))
    return PSNR(float(decibels.mean()), float(decibels.std() / math.sqrt(len(decibels))), len(decibels))
