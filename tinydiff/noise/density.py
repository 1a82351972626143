"""How often training meets each noise step.

The place t = (step + u) / T of a step among all, u uniform in [0, 1), has the density power t^(power - 1): 1 meets every
step as often, 2 meets the last twice as often as the one in the middle and the first hardly ever. More than 1 spends
the training where noise is high and what an image is of is decided, at the cost of the finest detail, which is soon
learned.
"""

from __future__ import annotations

import numpy as np

PARTS_A_STEP = 16  # of the probability: as finely as the density is followed


def step_quantiles(T, power=1.0):
    """The noise step in the middle of each of P equal parts of the probability, rising: (P,) int64 in [0, T).

    A part drawn evenly gives a step drawn from the density.
    """
    if power == 1:
        return np.arange(T)
    P = PARTS_A_STEP * T
    return np.floor(T * ((np.arange(P) + 0.5) / P) ** (1 / power)).astype(np.int64)
