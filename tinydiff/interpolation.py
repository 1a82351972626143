"""Drawing from one seed to another, and from one label, or text, to another: images between.

The noise of both seeds is turned into one another, cos(w pi / 2) eps_a + sin(w pi / 2) eps_b with w from 0 to 1, which is
as normal as either (a straight line's middle would have half the variance, and no sampler would know what to make of it).
Of two labels the network's guesses are mixed, (1 - w) x0_a + w x0_b, at every step: at the ends it is either alone.

Source: Song et al., "Denoising diffusion implicit models", 2021, section 5.3 and appendix D.5 (the noise).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Interpolation(NamedTuple):
    """``count`` images from one end to the other, all from the noise of sample 0. Those of a trajectory's labels are at w =
    0, with which the first of them is drawn."""

    count: int
    label: int | None = None  # at w = 1; None: the same
    seed: int | None = None  # likewise

    same_noise = True

    def expect_valid(self, shape):
        """Raise ``ValueError`` for a seed out of range."""
        if self.seed is not None and not 0 <= self.seed < 2**64:
            raise ValueError(f"to_seed must be an integer in [0, 2^64), got {self.seed}")

    def part_of(self, grid):
        """All steps of a grid are gone."""
        return grid

    def states(self, sampler, denoise_of, first, labels, normal, schedule, grid, backend, **options):
        """Yield the sampler's states.

        first       which of the images is the first of these
        denoise_of  labels (N,) -> (x, step) -> x0_hat
        normal      (purpose, draw, seed=None) -> standard normals (N, ...)
        """
        start, denoise = normal("start", 0), denoise_of(labels)
        w = np.linspace(0, 1, self.count)[first : first + len(start)]
        along = lambda values: backend.asarray(values.astype(np.float32)).reshape(-1, *[1] * (start.ndim - 1))
        if self.seed is not None:
            start = along(np.cos(np.pi / 2 * w)) * start + along(np.sin(np.pi / 2 * w)) * normal("start", 0, self.seed)
        of_one = denoise
        if self.label is not None:
            of_other, share = denoise_of(backend.zeros(len(start), np.int64) + self.label), along(w)
            of_one = lambda x, step: (1 - share) * denoise(x, step) + share * of_other(x, step)
        noise = lambda i: normal("sampler", i)
        return sampler(of_one, start, schedule, grid, noise=noise, **options)
