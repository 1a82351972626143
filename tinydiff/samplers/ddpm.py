"""DDPM: walk the reverse Markov chain, drawing noise at every step (Ho et al., 2020, algorithm 2)."""

from __future__ import annotations

import math

from tinydiff.noise.schedules import CLEAN, posterior_from_alpha_bars
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
        (a, _), (a_next, _) = schedule.rates(step), schedule.rates(following)
        x0_coefficient, x_coefficient, posterior_variance = posterior_from_alpha_bars(a**2, a_next**2)
        x = x0_coefficient * x0_hat + x_coefficient * x
        if following != CLEAN:
            x = x + math.sqrt(posterior_variance if variance == "posterior" else 1 - (a / a_next) ** 2) * noise(i)
    yield State(CLEAN, x, x)
