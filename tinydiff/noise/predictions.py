"""What a network may predict of x = a x0 + s eps, and how to turn one prediction into another.

Letters: a signal rate, s noise rate, a^2 + s^2 = 1.

    eps   the noise
    x0    the clean image
    v     a eps - s x0          the velocity along the arc from x0 to eps
    flow  eps - x0              the velocity along the straight line from x0 to eps, whose points are x / (a + s)

Given x, any one of them determines the others:

    from eps:  x0 = (x - s eps) / a
    from x0:   eps = (x - a x0) / s
    from v:    x0 = a x - s v,   eps = s x + a v          (a rotation, so nothing is ever divided)
    from flow: x0 = (x - s flow) / (a + s),   eps = (x + a flow) / (a + s)        (a + s is at least 1)

Source: Salimans and Ho, "Progressive distillation", 2022, appendix D; min-SNR: Hang et al., "Efficient
diffusion training via min-SNR weighting strategy", 2023, section 3.4; flow: Liu, Gong and Liu, "Flow straight and fast",
2023, eq. 1.
"""

from __future__ import annotations

import numpy as np

KINDS = ("eps", "x0", "v", "flow")
WEIGHTINGS = ("simple", "min_snr", "truncated_snr")


def join(kind, x0, eps, a, s):
    """The prediction of that kind from both parts: the training target. a and s broadcast against x0."""
    _check(kind)
    if kind == "eps":
        return eps
    if kind == "x0":
        return x0
    return eps - x0 if kind == "flow" else a * eps - s * x0


def split(kind, prediction, x, a, s):
    """Both parts, (x0, eps), from a prediction at x. a and s broadcast against x.

    An eps prediction needs a > 0, an x0 prediction s > 0.
    """
    return x0_of(kind, prediction, x, a, s), eps_of(kind, prediction, x, a, s)


def x0_of(kind, prediction, x, a, s):
    """The first part alone."""
    _check(kind)
    if kind == "x0":
        return prediction
    if kind == "flow":
        return (x - s * prediction) / (a + s)
    return (x - s * prediction) / a if kind == "eps" else a * x - s * prediction


def eps_of(kind, prediction, x, a, s):
    """The second part alone."""
    _check(kind)
    if kind == "eps":
        return prediction
    if kind == "flow":
        return (x + a * prediction) / (a + s)
    return (x - a * prediction) / s if kind == "x0" else s * x + a * prediction


def convert(kind, other, prediction, x, a, s):
    """A prediction of one kind as a prediction of another."""
    return join(other, *split(kind, prediction, x, a, s), a, s)


def loss_weights(schedule, kind, weighting="simple", gamma=5.0):
    """The weight of each noise step in the mean squared error of that prediction, (T,) float64.

    simple         1 everywhere
    min_snr        the weight that amounts to min(SNR, gamma) on the error of x0: squared errors of eps, v and flow are
                   those of x0 times SNR, SNR + 1 and (sqrt(SNR) + 1)^2, so their weights are divided by that
    truncated_snr  likewise to max(SNR, 1): of a student the error of x0 counts where nothing but noise is seen, too
                   (Salimans and Ho, 2022, section 4)
    """
    _check(kind)
    if weighting not in WEIGHTINGS:
        raise ValueError(f"loss_weight must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}")
    if weighting == "simple":
        return np.ones(schedule.T)
    snr = np.exp(schedule.log_snr)
    of_x0 = np.minimum(snr, gamma) if weighting == "min_snr" else np.maximum(snr, 1)
    return of_x0 / {"x0": 1.0, "eps": snr, "v": snr + 1, "flow": (np.sqrt(snr) + 1) ** 2}[kind]


def denoiser(predict, schedule, kind, *, clip=None):
    """Turn a network into what samplers ask for: ``denoise(x, step) -> x0_hat``.

    ``predict(x, step)`` gives a prediction of ``kind`` at x, ``step`` being one number for the whole batch.
    ``clip`` is the (low, high) range that images are known to lie in, or None.
    """
    _check(kind)

    def denoise(x, step):
        x0_hat = x0_of(kind, predict(x, step), x, *schedule.rates(step))
        return x0_hat if clip is None else x0_hat.clip(*clip)

    return denoise


def _check(kind):
    if kind not in KINDS:
        raise ValueError(f"prediction must be one of {', '.join(KINDS)}, got {kind!r}")
