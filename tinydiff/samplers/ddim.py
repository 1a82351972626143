"""DDIM: the same marginals as DDPM with as little noise as one likes (Song et al., 2021, eq. 12)."""

from __future__ import annotations

import math

from tinydiff.noise.schedules import CLEAN
from tinydiff.samplers.trajectory import State, pairs


def ddim(denoise, x, schedule, steps, *, noise=None, eta=0.0):
    """Yield the states of DDIM.

    denoise  (x, step) -> x0_hat
    x        (N, ...) of unit variance: the state at steps[0]
    steps    a falling grid of steps
    noise    (i) -> standard normal array like x, for the i-th step; not needed for eta = 0
    eta      0 is deterministic, first-order accurate; 1 is DDPM with the posterior variance
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], got {eta}")
    if eta > 0 and noise is None:
        raise ValueError("noise must be given for eta > 0")
    for i, (step, following) in enumerate(pairs(steps)):
        x0_hat = denoise(x, step)
        yield State(step, x, x0_hat)
        (a, s), (a_next, s_next) = schedule.rates(step), schedule.rates(following)
        eps_hat = (x - a * x0_hat) / s
        fresh = eta * s_next / s * math.sqrt(1 - (a / a_next) ** 2)  # eq. 16, the paper's sigma
        x = a_next * x0_hat + math.sqrt(s_next**2 - fresh**2) * eps_hat
        if fresh > 0:
            x = x + fresh * noise(i)
    yield State(CLEAN, x, x)
