"""Euler's and Heun's methods on the straight paths of flow matching.

With t = s / (a + s) and y = x / (a + s), of a signal rate a and a noise rate s, y = (1 - t) x0 + t eps: from an image to
its noise y goes a straight way, at the speed u = eps - x0 (``predictions``: "flow"). The flow is dy/dt = u_hat(y, t), of
which a good model leaves nearly straight lines, so few steps do.

Source: Liu, Gong and Liu, "Flow straight and fast", 2023; Lipman et al., "Flow matching for generative modeling", 2023.
"""

from __future__ import annotations

from tinydiff.noise import predictions
from tinydiff.noise.schedules import CLEAN
from tinydiff.samplers.trajectory import State, pairs


def euler(denoise, x, schedule, steps, *, noise=None):
    """Yield the states of Euler's method, in len(steps) evaluations of the network. A step goes straight for what it knows
    of x0 and eps, so each is that of ``ddim`` with eta = 0.

    denoise  (x, step) -> x0_hat
    x        (N, ...) of unit variance: the state at steps[0]
    steps    a falling grid of steps
    noise    not used: the method is deterministic
    """
    for step, following in pairs(steps):
        x0_hat = denoise(x, step)
        yield State(step, x, x0_hat)
        x = _moved(x, _speed(x, x0_hat, schedule, step), schedule, step, following)
    yield State(CLEAN, x, x)


def flow_heun(denoise, x, schedule, steps, *, noise=None):
    """Yield the states of Heun's method, in 2 len(steps) - 1 evaluations: each step goes by Euler, evaluates again where it
    lands, and repeats at the mean of both speeds; the last, to the clean image, is Euler alone. Arguments as of
    ``euler``."""
    for step, following in pairs(steps):
        x0_hat = denoise(x, step)
        yield State(step, x, x0_hat)
        speed = _speed(x, x0_hat, schedule, step)
        if following != CLEAN:
            landed = _moved(x, speed, schedule, step, following)
            speed = 0.5 * (speed + _speed(landed, denoise(landed, following), schedule, following))
        x = _moved(x, speed, schedule, step, following)
    yield State(CLEAN, x, x)


def _speed(x, x0_hat, schedule, step):
    """u_hat, which is the same whatever the scale of x."""
    return predictions.convert("x0", "flow", x0_hat, x, *schedule.rates(step))


def _moved(x, speed, schedule, step, following):
    """x after a step along t at that speed."""
    (a, s), (a_next, s_next) = schedule.rates(step), schedule.rates(following)
    t, t_next = s / (a + s), s_next / (a_next + s_next)
    return (a_next + s_next) * (x / (a + s) + (t_next - t) * speed)
