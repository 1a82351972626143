"""Is a backward the adjoint of its forward? Compare it with central differences in float64.

For a random upstream gradient dy, the scalar L(x) = sum(dy * forward(x)) has the gradient backward(dy). With
    D(h) = (L(x + h e_i) - L(x - h e_i)) / 2h  =  dL/dx_i + c h^2 + O(h^4)
two step sizes eliminate c:
    dL/dx_i  =  (4 D(h) - D(2h)) / 3 + O(h^4)
which matters where a function bends sharply, as a normalisation does when its variance is small.
A random dy matters: with ones, terms that sum to zero (as in a normalisation) could be missing unnoticed.
"""

from __future__ import annotations

import numpy as np

STEP = 1e-4  # h: leaves about 1e-12 of rounding and, at curvatures of order 1, 1e-16 of truncation
TOLERANCE = 1e-6
# Gradients this much smaller than the largest are compared on the scale of the largest instead: a gradient
# that is exactly zero (a key's bias under softmax) has no scale of its own.
FLOOR = 1e-3


class GradientMismatch(AssertionError):
    """A gradient differs from central differences."""


def check_adjoint(forward, backward, inputs, *, seed=0, tolerance=TOLERANCE, directions=None):
    """Compare every gradient of a thing with central differences; return {input: worst relative error}.

    forward     () -> (y, cache), reading the arrays in ``inputs`` as they are at the time
    backward    (dy, cache) -> gradients in the order of ``inputs``; None where there is none
    inputs      {name: float64 array}, changed in place and restored; other values (None, integers) are skipped
    directions  None: every element of every input. A number: that many random directions per input, for
                things with too many elements

    An error is relative to the root mean square of that input's gradient. Raises ``GradientMismatch`` naming
    the input when one exceeds ``tolerance``, has another shape than its input, or is missing.
    """
    rng = np.random.default_rng(seed)
    y, cache = forward()
    dy = rng.standard_normal(np.shape(y))
    gradients = backward(dy, cache)

    differentiable = {}
    for (name, x), dx in zip(inputs.items(), gradients, strict=True):
        if x is None or x.dtype.kind != "f":
            continue
        if x.dtype != np.float64:
            raise ValueError(f"{name} must be float64 for central differences, got {x.dtype}")
        if dx is None or dx.shape != x.shape:
            raise GradientMismatch(f"the gradient of {name} must have shape {x.shape}, got {np.shape(dx)}")
        differentiable[name] = x, dx
    largest = max((_rms(dx) for _, dx in differentiable.values()), default=0.0)

    def loss():
        return float(np.sum(dy * forward()[0]))

    errors = {}
    for name, (x, dx) in differentiable.items():
        worst = 0.0
        for direction in _directions(x.shape, directions, rng):
            analytic = float(np.sum(dx * direction))
            worst = max(worst, _not_nan(abs(analytic - _slope(loss, x, direction))))
        errors[name] = worst / max(_rms(dx), FLOOR * largest, np.finfo(float).tiny)
        if not errors[name] <= tolerance:
            raise GradientMismatch(f"the gradient of {name} is off by {errors[name]:.1e} relative to its size")
    return errors


def _directions(shape, count, rng):
    """Unit vectors along every axis, or ``count`` random ones as long as a unit vector is."""
    if count is None:
        for index in np.ndindex(shape):
            direction = np.zeros(shape)
            direction[index] = 1
            yield direction
    else:
        for _ in range(count):
            direction = rng.standard_normal(shape)
            yield direction / max(_rms(direction), 1e-3) / np.sqrt(direction.size)


def _slope(loss, x, direction):
    """dL along a direction, by central differences at two step sizes; x is restored bit for bit."""
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
