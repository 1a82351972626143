"""Heun's second-order method on the probability-flow ODE (Karras et al., 2022, algorithm 1)."""

from __future__ import annotations

from tinydiff.noise.schedules import CLEAN
from tinydiff.samplers.trajectory import State, pairs


def heun(denoise, x, schedule, steps, *, noise=None):
    """Yield the states of Heun's method, in 2 len(steps) - 1 evaluations of the network.

    In z = x / signal_rate, where the noise level is sigma, the flow is dz/dsigma = (z - x0_hat) / sigma. Each
    step goes by Euler, evaluates again where it lands, and repeats with the mean of both slopes; the last,
    to sigma = 0, is Euler alone.

    denoise  (x, step) -> x0_hat, at fractional steps too
    x        (N, ...) of unit variance: the state at steps[0]
    steps    a falling grid of steps, best spaced "karras"
    noise    not used: the method is deterministic
    """
    for step, following in pairs(steps):
        x0_hat = denoise(x, step)
        yield State(step, x, x0_hat)
        (a, s), (a_next, s_next) = schedule.rates(step), schedule.rates(following)
        sigma, sigma_next = s / a, s_next / a_next
        z = x / a
        slope = (z - x0_hat) / sigma
        z_next = z + (sigma_next - sigma) * slope
        if following != CLEAN:
            x0_hat_next = denoise(a_next * z_next, following)
            slope_next = (z_next - x0_hat_next) / sigma_next
            z_next = z + (sigma_next - sigma) * 0.5 * (slope + slope_next)
        x = a_next * z_next
    yield State(CLEAN, x, x)
