"""What every sampler yields."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from tinydiff.noise.schedules import CLEAN


class State(NamedTuple):
    """One moment of a trajectory. The last has step -1, where x and x0_hat are the finished sample."""

    step: float
    x: Any  # (N, ...), as noisy as the schedule says for this step
    x0_hat: Any  # (N, ...), the clean image the network sees in x


def finish(states):
    """Run a sampler to its end and return the finished sample, (N, ...)."""
    return deque(states, maxlen=1).pop().x


def pairs(steps):
    """Each step of a falling grid with the one that follows it, the clean image after the last.

    Raises ``ValueError`` unless the steps fall strictly.
    """
    steps = [float(step) for step in steps]
    if not steps or any(later >= earlier for earlier, later in zip(steps, steps[1:])):
        raise ValueError("steps must be a falling sequence of at least one step")
    return list(zip(steps, [*steps[1:], CLEAN]))
