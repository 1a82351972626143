"""DPM-Solver++ 2M: second order at one evaluation a step (Lu et al., 2022, algorithm 2)."""

from __future__ import annotations

import math

from tinydiff.noise.schedules import CLEAN
from tinydiff.samplers.trajectory import State, pairs


def dpm_solver_pp(denoise, x, schedule, steps, *, noise=None):
    """Yield the states of DPM-Solver++ 2M.

    With lambda = log(signal_rate / noise_rate) the flow is linear but for x0_hat(lambda), which each step
    extrapolates from the last two evaluations. The first step has only one, and the last, to lambda =
    infinity, uses only one for stability: both are first order.

    denoise  (x, step) -> x0_hat
    x        (N, ...) of unit variance: the state at steps[0]
    steps    a falling grid of steps
    noise    not used: the method is deterministic
    """
    before = None  # x0_hat and h of the step before
    for step, following in pairs(steps):
        x0_hat = denoise(x, step)
        yield State(step, x, x0_hat)
        (a, s), (a_next, s_next) = schedule.rates(step), schedule.rates(following)
        if following == CLEAN:
            x = x0_hat
            break
        h = math.log(a_next / s_next) - math.log(a / s)
        D = x0_hat
        if before:
            x0_hat_before, h_before = before
            r = h_before / h
            D = (1 + 1 / (2 * r)) * x0_hat - 1 / (2 * r) * x0_hat_before
        x = (s_next / s) * x - a_next * math.expm1(-h) * D
        before = x0_hat, h
    yield State(CLEAN, x, x)
