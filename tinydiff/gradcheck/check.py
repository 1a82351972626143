"""A row of the table, checked: against central differences, or a backend against the reference."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from tinydiff import backends
from tinydiff.gradcheck.adjoint import TOLERANCE, Comparison, GradientMismatch, compare, gradient_scales
from tinydiff.gradcheck.rounded import RoundedReference
from tinydiff.gradcheck.subjects import Subject

# How many times as far from the truth as the reference in the same precision a backend's gradient may be. In float32
# Winograd's F(4x4, 3x3) errs up to about 8 times as much as adding the products one by one; in bfloat16 a kernel rounds
# where the rounded reference does and, as attention does its probabilities, at few places more.
TIMES = {"fp32": 16, "bf16": 4}
UPSTREAMS = 4  # at so many upstream gradients the reference's errors are looked at: those of one may by luck be small
EPS = {"float32": float(np.finfo(np.float32).eps), "bfloat16": 2.0**-8}  # at least what one rounding costs


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


def check(row, backend="numpy", precision="fp32", home=None):
    """Check every gradient of a row of the table -> ``Checked``.

    backend    "numpy": float64, against central differences. Another one: its gradients against those of the reference
               in float64, each at most ``TIMES`` as far off as the reference's own, or its typical one, in that
               precision: in float32, or for "bf16" in float32 and rounded where the backend rounds. Both begin with
               numbers that the precision holds exactly
    home       where the code is looked for, see ``terms.without``; by default the row's module

    Raises ``ValueError`` for a backend, or its precision, that is not here.
    """
    start, gradients, problems = time.perf_counter(), [], []
    for number, case in enumerate(row.cases):
        try:
            for name, comparison, limit in compared(case, home or row.module, backend, precision):
                gradients.append(Gradient(name, number, comparison, limit))
        except GradientMismatch as mismatch:
            problems.append(str(mismatch))
    return Checked(gradients, problems, time.perf_counter() - start)


def compared(case, home, backend="numpy", precision="fp32"):
    """Yield (name, ``Comparison``, limit on its error) of every gradient of a case, see ``check``.

    Raises ``GradientMismatch`` for a gradient that is missing or has another shape than its input.
    """
    if (backend, precision) == ("numpy", "fp32"):
        return against_definition(case, home)
    return against_reference(case, home, backends.get(backend, precision))


def against_definition(case, home):
    """Yield (name, ``Comparison``, limit) of every gradient of a case against central differences."""
    subject = Subject(case, home, backends.get("numpy"))
    both_ways = compare(subject.forward, subject.backward, subject.everything, directions=case.directions)
    for name, comparison in both_ways:
        yield name, comparison, TOLERANCE


def against_reference(case, home, backend):
    """Yield (name, ``Comparison``, limit) of every gradient of a case on a backend against the reference."""
    numpy = backends.get("numpy")
    in_its_precision = numpy if backend.activations is None else RoundedReference()
    held = backend.activations or np.dtype(np.float32)  # what it stores holds the numbers that all begin with
    reference = Subject(case, home, numpy, held=held)
    rival = Subject(case, home, in_its_precision, np.float32, held)
    y, _ = reference.forward()
    rng, rivals = np.random.default_rng(0), {}
    for _ in range(UPSTREAMS):
        dy = rng.standard_normal(np.shape(y)).astype(held).astype(np.float32)
        truth = {name: dx for name, dx in reference.gradients(dy).items() if dx is not None}
        errors = _errors(rival.gradients(dy), truth)
        rivals = {name: max(rivals.get(name, 0.0), float(np.max(error))) for name, error in errors.items()}

    actual, scales = Subject(case, home, backend, np.float32, held).gradients(dy), gradient_scales(truth)
    rivals = {name: error / scales[name] for name, error in rivals.items()}
    typical = float(np.median(list(rivals.values())))  # the error of a single small gradient may by luck be 0
    for name, dx in truth.items():
        if actual[name] is None or actual[name].shape != dx.shape:
            raise GradientMismatch(f"the gradient of {name} must have shape {dx.shape}, got {np.shape(actual[name])}")
    for name, error in _errors(actual, truth).items():
        where = tuple(int(i) for i in np.unravel_index(np.argmax(error), error.shape))
        there = float(error[where]) / scales[name], float(actual[name][where]), float(truth[name][where])
        yardstick = max(EPS[actual[name].dtype.name] + typical, rivals[name])
        yield name, Comparison(*there, where, error.shape), TIMES[backend.precision] * yardstick


def _errors(gradients, truth):
    """{name: how far off each element is} of the gradients that there are in truth; NaN is infinitely far."""
    off = {name: np.abs(gradients[name].astype(np.float64) - dx) for name, dx in truth.items()}
    return {name: np.where(np.isnan(error), np.inf, error) for name, error in off.items()}
