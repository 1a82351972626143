"""DDPM: walk the reverse Markov chain, drawing noise at every step (Ho et al., 2020, algorithm 2)."""

from __future__ import annotations

import math

from tinydiff.noise.schedules import CLEAN
from tinydiff.samplers.trajectory import State, pairs

VARIANCES = ("posterior", "beta")


def ddpm(denoise, x, schedule, steps, *, noise, variance="posterior"):
    """Yield the states of ancestral sampling.

    denoise   (x, step) -> x0_hat
    x         (N, ...) of unit variance: the state at steps[0]
    steps     a falling grid of steps; all T of them is the paper's sampler, fewer stride over it
    noise     (i) -> standard normal array like x, for the i-th step
    variance  "posterior": the smaller of the two in print, exact if the data were one point;
              "beta": the larger, exact if the data were standard normal (Ho et al., section 3.2)
    """
    if variance not in VARIANCES:
        raise ValueError(f"variance must be one of {', '.join(VARIANCES)}, got {variance!r}")
    for i, (step, following) in enumerate(pairs(steps)):
        x0_hat = denoise(x, step)
        yield State(step, x, x0_hat)
        # a, s -> sqrt(alpha_bar), sqrt(1 - alpha_bar), here and at the following step; beta of the stride
        (a, s), (a_next, s_next) = schedule.rates(step), schedule.rates(following)
        beta = 1 - (a / a_next) ** 2
        mean = (a_next * beta / s**2) * x0_hat + (a / a_next * s_next**2 / s**2) * x  # eq. 7
        if following == CLEAN:
            x = mean
        else:
            x = mean + math.sqrt(beta if variance == "beta" else beta * s_next**2 / s**2) * noise(i)
    yield State(CLEAN, x, x)
