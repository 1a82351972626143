"""Is a backward the adjoint of its forward? Compare it with central differences in float64.

For a random upstream gradient dy, the scalar L(x) = sum(dy * forward(x)) has the gradient backward(dy). With
    D(h) = (L(x + h e_i) - L(x - h e_i)) / 2h  =  dL/dx_i + c h^2 + O(h^4)
two step sizes eliminate c:
    dL/dx_i  =  (4 D(h) - D(2h)) / 3 + O(h^4)
which matters where a function bends sharply, as a normalisation does when its variance is small.
A random dy matters: with ones, terms that sum to zero (as in a normalisation) could be missing unnoticed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

STEP = 1e-4  # h: leaves about 1e-12 of rounding and, at curvatures of order 1, 1e-16 of truncation
TOLERANCE = 1e-6
# Gradients this much smaller than the largest are compared on the scale of the largest instead: a gradient
# that is exactly zero (a key's bias under softmax) has no scale of its own.
FLOOR = 1e-3


class GradientMismatch(AssertionError):
    """A gradient differs from central differences."""


class Comparison(NamedTuple):
    """One gradient both ways, where they differ most."""

    error: float  # |analytic - numeric| there, relative to the root mean square of the gradient
    analytic: float  # the derivative along that direction by the backward
    numeric: float  # and by central differences
    where: tuple[int, ...] | None  # the element that was moved; None for a random direction
    shape: tuple[int, ...]


def check_adjoint(forward, backward, inputs, *, seed=0, tolerance=TOLERANCE, directions=None):
    """Compare every gradient of a thing with central differences; return {input: worst relative error}.

    As ``compare``, but raises ``GradientMismatch`` naming the first input whose error exceeds ``tolerance``. A group
    norm, where people slip because every value of a group moves the mean and the variance of all:

        inputs = {"x": rng.normal(size=(2, 4, 4, 6)), "gamma": rng.normal(size=6), "beta": rng.normal(size=6)}
        inputs |= {"scale": None, "shift": None}
        check_adjoint(lambda: group_norm.forward(*inputs.values(), groups=3), group_norm.backward, inputs)
    """
    errors = {}
    for name, comparison in compare(forward, backward, inputs, seed=seed, directions=directions):
        errors[name] = comparison.error
        if not comparison.error <= tolerance:
            raise GradientMismatch(f"the gradient of {name} is off by {comparison.error:.1e} relative to its size")
    return errors


def compare(forward, backward, inputs, *, seed=0, directions=None, dy=None):
    """Yield (input, ``Comparison``) of every gradient of a thing with central differences.

    forward     () -> (y, cache), reading the arrays in ``inputs`` as they are at the time
    backward    (dy, cache) -> gradients in the order of ``inputs`` (one alone needs no tuple); None where there is none
    inputs      {name: float64 array}, changed in place and restored; other values (None, integers) are skipped
    directions  None: every element of every input. A number: that many random directions per input, for
                things with too many elements
    dy          the upstream gradient; None: a random one

    An error is relative to the root mean square of that input's gradient. Raises ``GradientMismatch`` for a gradient
    that is missing or has another shape than its input, ``ValueError`` for an input that is float but not float64.
    """
    rng = np.random.default_rng(seed)
    y, cache = forward()
    dy = rng.standard_normal(np.shape(y)) if dy is None else dy
    gradients = as_tuple(backward(dy, cache))

    differentiable = {}
    for (name, x), dx in zip(inputs.items(), gradients, strict=True):
        if x is None or x.dtype.kind != "f":
            continue
        if x.dtype != np.float64:
            raise ValueError(f"{name} must be float64 for central differences, got {x.dtype}")
        if dx is None or dx.shape != x.shape:
            raise GradientMismatch(f"the gradient of {name} must have shape {x.shape}, got {np.shape(dx)}")
        differentiable[name] = x, dx
    scales = gradient_scales({name: dx for name, (_, dx) in differentiable.items()})

    for name, (x, dx) in differentiable.items():
        worst = Comparison(-1.0, 0.0, 0.0, None, x.shape)
        for where, direction in _directions(x.shape, directions, rng):
            analytic, numeric = float(np.sum(dx * direction)), slope(forward, dy, x, direction)
            error = _not_nan(abs(analytic - numeric) / scales[name])
            if error > worst.error:
                worst = Comparison(error, analytic, numeric, where, x.shape)
        yield name, worst


def by_definition(forward, dy, x):
    """The whole gradient of sum(dy * forward()) in x, element by element from central differences."""
    gradient = np.empty(x.shape)
    for index, direction in _directions(x.shape, None, None):
        gradient[index] = slope(forward, dy, x, direction)
    return gradient


def gradient_scales(gradients):
    """What an error of each gradient in {name: array} is relative to: its root mean square, see ``FLOOR``."""
    sizes = {name: _rms(gradient) for name, gradient in gradients.items()}
    largest = max(sizes.values(), default=0.0)
    return {name: max(size, FLOOR * largest, float(np.finfo(float).tiny)) for name, size in sizes.items()}


def as_tuple(gradients):
    """Gradients as a tuple, also where there is only one."""
    return gradients if isinstance(gradients, tuple) else (gradients,)


def _directions(shape, count, rng):
    """(index, unit vector) along every axis, or ``count`` times None and a random one as long as a unit vector is."""
    if count is None:
        for index in np.ndindex(shape):
            direction = np.zeros(shape)
            direction[index] = 1
            yield index, direction
    else:
        for _ in range(count):
            direction = rng.standard_normal(shape)
            yield None, direction / max(_rms(direction), 1e-3) / np.sqrt(direction.size)


def slope(forward, dy, x, direction):
    """The derivative of sum(dy * forward()) as x moves along a direction, by central differences at two step sizes.

    x is changed in place and restored bit for bit.
    """

    def loss():
        return float(np.sum(dy * forward()[0]))

    original = x.copy()
    differences = []
    for h in (STEP, 2 * STEP):
        x[...] = original + h * direction
        above = loss()
        x[...] = original - h * direction
        differences.append((above - loss()) / (2 * h))
    x[...] = original
    return (4 * differences[0] - differences[1]) / 3


def _rms(x):
    return float(np.sqrt(np.mean(np.square(x))))


def _not_nan(error):
    return float("inf") if np.isnan(error) else error
