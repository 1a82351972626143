"""A row of the table, checked: against central differences, or a backend against the reference."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from tinydiff import backends
from tinydiff.gradcheck.adjoint import TOLERANCE, Comparison, GradientMismatch, compare, gradient_scales
from tinydiff.gradcheck.subjects import Subject

# How many times as far from the truth as the reference in float32 a backend's gradient may be. Winograd's F(4x4, 3x3)
# errs up to about 8 times as much as adding the products one by one.
TIMES = 16
EPS32 = float(np.finfo(np.float32).eps)


class Gradient(NamedTuple):
    """One gradient of one thing, checked."""

    name: str  # of the input or parameter
    case: int  # in which of the row's cases, from 0
    comparison: Comparison  # a backend's element stands for analytic, the reference's for numeric
    limit: float  # on the error

    @property
    def right(self):
        """Whether the error is within its limit; NaN is not."""
        return self.comparison.error <= self.limit


class Checked(NamedTuple):
    """Everything checked of one row."""

    gradients: list[Gradient]
    problems: list[str]  # gradients that could not be compared: missing, or of the wrong shape
    seconds: float

    @property
    def right(self):
        return not self.problems and all(gradient.right for gradient in self.gradients)

    @property
    def worst(self):
        """The gradient that comes nearest to its limit or goes furthest beyond; None where there is none."""
        return max(self.gradients, key=lambda gradient: gradient.comparison.error / gradient.limit, default=None)


def check(row, backend="numpy", home=None):
    """Check every gradient of a row of the table -> ``Checked``.

    backend  "numpy": float64, against central differences. Another one: its float32 gradients against those of the
             reference in float64, each at most ``TIMES`` as far off as the reference's own, or its typical one, in
             float32
    home     where the code is looked for, see ``terms.without``; by default the row's module
    """
    start, gradients, problems = time.perf_counter(), [], []
    for number, case in enumerate(row.cases):
        try:
            for name, comparison, limit in compared(case, home or row.module, backend):
                gradients.append(Gradient(name, number, comparison, limit))
        except GradientMismatch as mismatch:
            problems.append(str(mismatch))
    return Checked(gradients, problems, time.perf_counter() - start)


def compared(case, home, backend="numpy"):
    """Yield (name, ``Comparison``, limit on its error) of every gradient of a case, see ``check``.

    Raises ``GradientMismatch`` for a gradient that is missing or has another shape than its input.
    """
    return against_definition(case, home) if backend == "numpy" else against_reference(case, home, backend)


def against_definition(case, home):
    """Yield (name, ``Comparison``, limit) of every gradient of a case against central differences."""
    subject = Subject(case, home, backends.get("numpy"))
    both_ways = compare(subject.forward, subject.backward, subject.everything, directions=case.directions)
    for name, comparison in both_ways:
        yield name, comparison, TOLERANCE


def against_reference(case, home, backend):
    """Yield (name, ``Comparison``, limit) of every gradient of a case on a backend against the reference."""
    numpy = backends.get("numpy")
    reference = Subject(case, home, numpy)
    y, _ = reference.forward()
    dy = np.random.default_rng(0).standard_normal(np.shape(y)).astype(np.float32)
    truth = {name: dx for name, dx in reference.gradients(dy).items() if dx is not None}
    rival = Subject(case, home, numpy, np.float32).gradients(dy)
    actual = Subject(case, home, backends.get(backend), np.float32).gradients(dy)
    scales = gradient_scales(truth)
    rivals = {name: float(np.max(np.abs(rival[name] - dx))) / scales[name] for name, dx in truth.items()}
    typical = EPS32 + float(np.median(list(rivals.values())))  # the error of a single small gradient may by luck be 0
    for name, dx in truth.items():
        if actual[name] is None or actual[name].shape != dx.shape:
            raise GradientMismatch(f"the gradient of {name} must have shape {dx.shape}, got {np.shape(actual[name])}")
        error = np.abs(actual[name].astype(np.float64) - dx) / scales[name]
        error[np.isnan(error)] = np.inf
        where = tuple(int(i) for i in np.unravel_index(np.argmax(error), error.shape))
        there = float(error[where]), float(actual[name][where]), float(dx[where])
        yield name, Comparison(*there, where, dx.shape), TIMES * max(typical, rivals[name])
