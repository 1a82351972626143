"""Drawing that begins with an image: to vary it, or to draw anew what a mask does not keep.

Any sampler goes its way from the noise step that ``strength`` names, where the image is as noisy as any image there; so
much of the way is gone as the strength says, 1 all of it, 0 none. With a mask the network's guess of the clean image is
replaced by the image wherever that is kept: each sampler then leads there by itself, and elsewhere to what fits in. What
the mask keeps is the image's own, to the bit.

With ``resample`` each step is gone so many times: between, noise is added again, so that what is drawn can fit itself to
what is kept, at the price of as many evaluations each time, and one more.

Source: Meng et al., "SDEdit", 2022 (strength); Lugmayr et al., "RePaint", 2022, algorithm 1 (resampling).
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from tinydiff.noise.schedules import CLEAN
from tinydiff.samplers import State


class Editing(NamedTuple):
    """An image that drawing begins with, arrays of NumPy. Raises ``ValueError`` by ``expect_valid``."""

    image: Any  # (H, W, C) float32, as a model takes it
    keep: Any = None  # (H, W, 1) float32, 1 where the image is kept and 0 where it is drawn anew; None: everywhere anew
    strength: float = 1.0
    resample: int = 1

    def expect_valid(self, shape):
        """Raise ``ValueError`` for an image of another shape than the model's, and for numbers out of range."""
        if tuple(self.image.shape) != tuple(shape):
            raise ValueError(f"init must be an image of shape {tuple(shape)}, got {tuple(self.image.shape)}")
        if self.keep is not None and tuple(self.keep.shape) != (*shape[:2], 1):
            raise ValueError(f"mask must be of shape {(*shape[:2], 1)}, got {tuple(self.keep.shape)}")
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must lie in [0, 1], got {self.strength:g}")
        if self.resample < 1:
            raise ValueError(f"resample must be at least 1, got {self.resample}")

    def part_of(self, grid):
        """The steps of a falling grid that are gone."""
        return grid[len(grid) - round(self.strength * len(grid)) :]

    def states(self, sampler, denoise_of, first, labels, normal, schedule, grid, backend, **options):
        """Yield the sampler's states along ``grid``, ``part_of`` the whole one.

        denoise_of  labels (N,) -> (x, step) -> x0_hat
        normal      (purpose, draw) -> standard normals (N, H, W, C)
        """
        denoise = denoise_of(labels)
        eps = normal("start", 0)
        image = backend.repeat(backend.asarray(self.image)[None], len(eps))
        keep = None if self.keep is None else backend.asarray(self.keep)[None]
        kept_in = lambda x0: x0 if keep is None else keep * image + (1 - keep) * x0
        if len(grid) == 0:
            yield State(CLEAN, image, image)
            return
        a, s = schedule.rates(grid[0])
        x, draws = a * image + s * eps, itertools.count()
        run = lambda x, steps: sampler(
            lambda x, step: kept_in(denoise(x, step)),
            x,
            schedule,
            steps,
            noise=lambda _: normal("sampler", next(draws)),
            **options,
        )
        for step, following in zip(grid[:-1], grid[1:]) if self.resample > 1 and keep is not None else ():
            for again in range(self.resample):
                state, landed = itertools.islice(run(x, [step, following]), 2)
                if again + 1 < self.resample:
                    x = _noisier(
                        landed.x, schedule.rates(following), schedule.rates(step), normal("sampler", next(draws))
                    )
            yield state
            x, grid = landed.x, grid[1:]
        for state in run(x, grid):
            yield State(CLEAN, kept_in(state.x), kept_in(state.x)) if state.step == CLEAN else state


def _noisier(x, rates, wanted, eps):
    """x of some rates as it is at a noisier step: with less signal, and as much noise more."""
    (a, s), (a_wanted, s_wanted) = rates, wanted
    less = a_wanted / a
    return less * x + (s_wanted**2 - (less * s) ** 2) ** 0.5 * eps
