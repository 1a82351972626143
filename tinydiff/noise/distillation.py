"""What a student is to predict so that one of its steps does what its teacher does in two.

Letters: a signal rate, s noise rate, rho = a / s; one prime where the first of two steps of DDIM ends, two where the
second does; x0_1 and x0_2 the teacher's guesses of the clean image where each begins.

DDIM's x' = a' x0_1 + s' (x - a x0_1) / s, divided by s', is Euler's method in rho at the speed x0_1:

    x' / s'   = x / s   + (rho' - rho) x0_1
    x'' / s'' = x' / s' + (rho'' - rho') x0_2

A single step is to end at the same place: x'' / s'' = x / s + (rho'' - rho) target. So it goes at the mean of both
speeds,

    target = share x0_1 + (1 - share) x0_2,   share = (rho' - rho) / (rho'' - rho)

which is the (x'' - (s'' / s) x) / (a'' - (s'' / s) a) of Salimans and Ho, without a difference of nearly equal numbers.
Where the second step ends at the clean image, rho'' is infinite and the target x0_2 alone.

Consistency distillation asks for the same image from every place on the teacher's way: x0_2 is what the student itself
sees at x', where the teacher's step leads (itself, not its average: Song and Dhariwal, section 3.2), and the target, so
share = 0; where that is the clean image the target is x0_1, so share = 1. The boundary condition of consistency
models, f = c_skip x + c_out F with f = x where there is no noise, is kept by a prediction v: x0_hat = a x - s v, so
c_skip = a and c_out = -s.

Source: Salimans and Ho, "Progressive distillation for fast sampling of diffusion models", 2022, algorithm 2 and
appendix G; Song et al., "Consistency models", 2023, eqs. 5 and 7; Song and Dhariwal, "Improved techniques for training
consistency models", 2023.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinydiff.noise import predictions
from tinydiff.noise.schedules import CLEAN


class Lessons(NamedTuple):
    """What there is to learn at each step of a student's grid, (N,) float64 each; ``lesson`` reads the entries of its
    samples, (N, 1, ..., 1)."""

    step: Any  # the noise step at which the student predicts, and the teacher guesses x0_1
    middle: Any  # at which x0_2 is guessed
    x0_of_x: Any  # x0_1 = x0_of_x x + x0_of_prediction prediction
    x0_of_prediction: Any
    middle_of_x: Any  # x' = middle_of_x x + middle_of_x0 x0_1
    middle_of_x0: Any
    next_of_x: Any  # x0_2 = next_of_x x' + next_of_prediction prediction
    next_of_prediction: Any
    share: Any  # of x0_1 in the target, a clean image
    target_of_x: Any  # the prediction that stands for it = target_of_x x + target_of_x0 target
    target_of_x0: Any


def halving(schedule, kind, steps):
    """The ``Lessons`` of a student of so many steps, whose teacher takes twice as many along ``schedule.grid``.

    Raises ``ValueError`` where the schedule has not as many noise steps.
    """
    grid = schedule.grid(2 * steps)
    begin, middle, end = grid[0::2], grid[1::2], np.append(grid[2::2], CLEAN)
    with np.errstate(divide="ignore"):
        rho, rho_middle, rho_end = (np.divide(*_rates(schedule, each)) for each in (begin, middle, end))
    return _lessons(schedule, kind, begin, middle, (rho_middle - rho) / (rho_end - rho))


def consistency(schedule, kind, steps):
    """The ``Lessons`` of a student that is to see the same image from each of so many steps along ``schedule.grid``.

    Raises ``ValueError`` likewise.
    """
    begin = schedule.grid(steps)
    middle = np.append(begin[1:], CLEAN)
    return _lessons(schedule, kind, begin, middle, np.where(middle == CLEAN, 1.0, 0.0))


def _lessons(schedule, kind, begin, middle, share):
    (a, s), (a_middle, s_middle) = _rates(schedule, begin), _rates(schedule, middle)
    seen = np.where(middle == CLEAN, begin, middle)  # what is seen of a clean image has no share
    a_seen, s_seen = _rates(schedule, seen)
    target_of = lambda x, x0: predictions.join(kind, x0, (x - a * x0) / s, a, s)
    columns = (
        begin,
        seen,
        predictions.x0_of(kind, 0.0, 1.0, a, s),
        predictions.x0_of(kind, 1.0, 0.0, a, s),
        s_middle / s,
        a_middle - s_middle / s * a,
        predictions.x0_of(kind, 0.0, 1.0, a_seen, s_seen),
        predictions.x0_of(kind, 1.0, 0.0, a_seen, s_seen),
        share,
        target_of(1.0, 0.0),
        target_of(0.0, 1.0),
    )
    return Lessons(*(np.broadcast_to(each, begin.shape) for each in columns))


def _rates(schedule, steps):
    """signal_rate and noise_rate of each, two rows."""
    return np.array([schedule.rates(step) for step in steps]).T


def lesson(first, second, x, at, clip=None):
    """What the student is to predict at x (N, ...), of the kind that its teacher predicts.

    first   x -> the teacher's prediction at ``at.step``
    second  x' -> the teacher's, or the student's own, at ``at.middle``
    at      ``Lessons`` of these samples, (N, 1, ..., 1) each
    clip    the (low, high) range that images are known to lie in, or None
    """
    clipped = (lambda x0: x0) if clip is None else lambda x0: x0.clip(*clip)
    x0_1 = clipped(at.x0_of_x * x + at.x0_of_prediction * first(x))
    x_middle = at.middle_of_x * x + at.middle_of_x0 * x0_1
    x0_2 = clipped(at.next_of_x * x_middle + at.next_of_prediction * second(x_middle))
    target = x0_2 + at.share * (x0_1 - x0_2)
    return at.target_of_x * x + at.target_of_x0 * target
