"""The running average of the parameters, which samples better than the parameters themselves.

    average <- decay average + (1 - decay) parameters,   decay = min(limit, (1 + n) / (10 + n)) at step n

The warm-up lets the average forget the initial values quickly: at step n it looks back over about n/9 steps
until the limit is reached. The update itself rides in ``adamw``.
Source: Ho et al., 2020, appendix B (the average); the warm-up is the one of TensorFlow's
ExponentialMovingAverage.
"""

from __future__ import annotations


def decay_at(step, limit):
    """The decay for training step 1, 2, ...; ``limit`` is its value in the long run, in [0, 1)."""
    return min(limit, (1 + step) / (10 + step))
