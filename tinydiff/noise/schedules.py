"""Noise schedules: how much signal is left at each noise step.

A schedule is T numbers beta[step] in (0, 1), step = 0 .. T-1. Step 0 already carries noise (the papers' t is
step + 1). Everything else follows from them, as float64 tables of length T:

    alpha_bar[step] = prod_{i <= step} (1 - beta[i])         remaining signal power
    x = signal_rate x0 + noise_rate eps,                     signal_rate^2 = alpha_bar, noise_rate^2 = 1 - alpha_bar
    sigma   = noise_rate / signal_rate                       noise level when the signal is scaled to 1
    log_snr = log(alpha_bar / (1 - alpha_bar)) = -2 log sigma
    snr_db  = 10 log10(alpha_bar / (1 - alpha_bar))

and the posterior q(x_{step-1} | x_step, x0) = N(x0_coefficient x0 + x_coefficient x, variance).

Source: Ho et al., "Denoising diffusion probabilistic models", 2020, eqs. 4, 6 and 7; Nichol and Dhariwal,
"Improved denoising diffusion probabilistic models", 2021, eq. 17 (cosine).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

LARGEST_BETA = 0.999  # Nichol and Dhariwal, 2021: keeps the last step of the cosine schedule finite
CLEAN = -1  # the step of an image without noise: alpha_bar = 1
SPACINGS = ("trailing", "linspace", "karras", "leading")


class Schedule:
    """A noise schedule from its betas, (T,) numbers in (0, 1)."""

    def __init__(self, name, beta):
        beta = np.asarray(beta, np.float64)
        if beta.ndim != 1 or len(beta) < 1 or not np.all((beta > 0) & (beta < 1)):
            raise ValueError("schedule: beta must be a one-dimensional array of numbers in (0, 1)")
        self.name = name
        self.beta = beta
        self.end = CLEAN

    def ending_at(self, step):
        """The same to a sampler, but that its way ends with the noise of this step: ``rates(CLEAN)`` are those."""
        other = Schedule(self.name, self.beta)
        other.end = step
        return other

    @property
    def T(self):
        """Number of noise steps."""
        return len(self.beta)

    @cached_property
    def log_alpha_bar(self):
        return np.cumsum(np.log1p(-self.beta))

    @cached_property
    def alpha_bar(self):
        return np.exp(self.log_alpha_bar)

    @cached_property
    def signal_rate(self):
        return np.exp(0.5 * self.log_alpha_bar)

    @cached_property
    def noise_rate(self):
        return np.sqrt(-np.expm1(self.log_alpha_bar))  # expm1: 1 - alpha_bar without cancellation at step 0

    @cached_property
    def sigma(self):
        return self.noise_rate / self.signal_rate

    @cached_property
    def log_snr(self):
        return -2 * np.log(self.sigma)

    @cached_property
    def snr_db(self):
        return 10 / np.log(10) * self.log_snr

    @cached_property
    def posterior(self):
        """x0_coefficient, x_coefficient and variance of each step given the next, three arrays (T,).

        Step 0 leads to the clean image, so its variance is 0.
        """
        return posterior_from_alpha_bars(self.alpha_bar, np.append(1.0, self.alpha_bar[:-1]))

    def rates(self, step):
        """signal_rate and noise_rate as floats at any step in [-1, T-1].

        Between two integers log_snr is interpolated linearly; -1 is the clean image, (1, 0), and nothing lies
        between it and step 0 (but see ``ending_at``). Raises ``ValueError`` for any other step.
        """
        step = self.end if step == CLEAN else step
        if step == CLEAN:
            return 1.0, 0.0
        if not 0 <= step <= self.T - 1:
            raise ValueError(f"step must be {CLEAN} (clean) or lie in [0, {self.T - 1}], got {step}")
        log_snr = np.interp(step, np.arange(self.T), self.log_snr)
        # sigmoid(log_snr) = alpha_bar, sigmoid(-log_snr) = 1 - alpha_bar
        return float((1 + np.exp(-log_snr)) ** -0.5), float((1 + np.exp(log_snr)) ** -0.5)

    def step_at(self, sigma):
        """The (fractional) step with this noise level; the inverse of ``rates``, clamped to [0, T-1]."""
        return np.interp(np.log(sigma), np.log(self.sigma), np.arange(self.T))

    def grid(self, count, spacing="trailing"):
        """``count`` falling steps for a sampler, a float64 array; the clean image comes after the last.

        trailing   T-1, then equal strides, the last of which ends at the clean image; integers. For few
                   steps (Lin et al., "Common diffusion noise schedules are flawed", 2023)
        linspace   from T-1 down to 0 in equal strides; integers
        karras     sigma^(1/7) in equal strides from min(80, sigma[T-1]) down to max(0.002, sigma[0]); between
                   integers (Karras et al., "Elucidating the design space", 2022, eq. 5)

        Raises ``ValueError`` for an unknown spacing or a count outside [1, T].
        """
        if spacing not in SPACINGS:
            raise ValueError(f"spacing must be one of {', '.join(SPACINGS)}, got {spacing!r}")
        if not isinstance(count, (int, np.integer)) or not 1 <= count <= self.T:
            raise ValueError(f"steps must be an integer in [1, {self.T}], the schedule's noise steps, got {count}")
        if spacing == "trailing":
            return np.round(self.T * (1 - np.arange(count) / count)) - 1
        if spacing == "leading":
            if count == self.T:
                raise ValueError(f"steps must be fewer than the {self.T} noise steps with spacing leading, got {count}")
            return 1.0 + self.T // count * np.arange(count - 1, -1, -1)
        if spacing == "linspace":
            return np.round(np.linspace(self.T - 1, 0, count))
        rho = 7
        ends = min(80.0, self.sigma[-1]), max(0.002, self.sigma[0])
        sigma = np.linspace(ends[0] ** (1 / rho), ends[1] ** (1 / rho), count) ** rho
        return self.step_at(sigma)


def posterior_from_alpha_bars(alpha_bar, alpha_bar_previous):
    """q(x_previous | x, x0) as x0_coefficient, x_coefficient, variance; numbers or arrays.

    With alpha = alpha_bar / alpha_bar_previous and beta = 1 - alpha (Ho et al., 2020, eq. 7):
        x0_coefficient = sqrt(alpha_bar_previous) beta / (1 - alpha_bar)
        x_coefficient  = sqrt(alpha) (1 - alpha_bar_previous) / (1 - alpha_bar)
        variance       = beta (1 - alpha_bar_previous) / (1 - alpha_bar)
    The two steps need not be neighbours: the same holds for any stride (Nichol and Dhariwal, 2021, section 4).
    """
    alpha = alpha_bar / alpha_bar_previous
    beta = 1 - alpha
    x0_coefficient = alpha_bar_previous**0.5 * beta / (1 - alpha_bar)
    x_coefficient = alpha**0.5 * (1 - alpha_bar_previous) / (1 - alpha_bar)
    variance = beta * (1 - alpha_bar_previous) / (1 - alpha_bar)
    return x0_coefficient, x_coefficient, variance


def linear(T=1000):
    """beta from 1e-4 to 0.02 at T = 1000 (Ho et al., 2020, section 4), scaled by 1000/T for other T.

    Without the scaling a short schedule would end far from pure noise.
    """
    T = _count(T)
    scale = 1000 / T
    return Schedule("linear", np.minimum(np.linspace(1e-4 * scale, 0.02 * scale, T), LARGEST_BETA))


def scaled_linear(T=1000):
    """beta of which the square root rises linearly, from 0.00085 to 0.012 at T = 1000, scaled by 1000/T for other T: that
    of latent diffusion (Rombach et al., 2022) and Stable Diffusion, which ends with some signal left, -23 dB."""
    T = _count(T)
    beta = np.linspace(0.00085**0.5, 0.012**0.5, T) ** 2
    return Schedule("scaled_linear", np.minimum(1000 / T * beta, LARGEST_BETA))


def cosine(T=1000, s=0.008):
    """alpha_bar = f(step + 1) / f(0) with f(t) = cos^2((t/T + s) / (1 + s) pi/2), beta clipped at 0.999."""
    T = _count(T)
    f = np.cos((np.arange(T + 1) / T + s) / (1 + s) * np.pi / 2) ** 2
    return Schedule("cosine", np.minimum(1 - f[1:] / f[:-1], LARGEST_BETA))


def flow(T=1000):
    """sigma = t / (1 - t) with t = (step + 1) / T, where flow matching meets as much noise at time t; beta clipped at 0.999.

    Its x = (1 - t) x0 + t eps is the x here, of signal_rate^2 + noise_rate^2 = 1, times sqrt((1 - t)^2 + t^2), which a
    network that is told the step need not be told (Liu, Gong and Liu, "Flow straight and fast", 2023, eq. 1).
    """
    T = _count(T)
    t = np.arange(T + 1) / T
    alpha_bar = (1 - t) ** 2 / ((1 - t) ** 2 + t**2)
    return Schedule("flow", np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], LARGEST_BETA))


SCHEDULES = {"linear": linear, "cosine": cosine, "flow": flow, "scaled_linear": scaled_linear}


def get(name, T):
    """The schedule of that name with T steps. Raises ``ValueError`` for an unknown name or T below 1."""
    if name not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {name!r}")
    return SCHEDULES[name](T)


def _count(T):
    if not isinstance(T, (int, np.integer)) or T < 1:
        raise ValueError(f"T must be an integer of at least 1, got {T!r}")
    return int(T)
