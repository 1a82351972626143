"""Gradient checks of things with parameters."""

import numpy as np
import pytest

from tests.checks import broken
from tinydiff import backends
from tinydiff.gradcheck import GradientMismatch, check_adjoint
from tinydiff.gradcheck.adjoint import as_tuple
from tinydiff.gradcheck.subjects import AtStep, randomise
from tinydiff.model.parameters import Parameters


def make(build, seed=0):
    """build(parameters) -> a block in float64 whose parameters are all random, none at its quiet start."""
    parameters = Parameters(backends.get("numpy"), np.float64)
    block = build(parameters)
    parameters.allocate()
    randomise(parameters, seed)
    return block, parameters


class OnlyX(AtStep):
    """A model as a function of x alone, at a random step and label of each sample."""

    def __init__(self, model, x, seed=0):
        rng = np.random.default_rng(seed)
        classes = model.config.classes
        step = rng.uniform(0, 100, len(x))
        super().__init__(model, step, rng.integers(0, classes + 1, len(x)) if classes else None)


def check(block, parameters, inputs, *, seed=0, directions=None):
    """Gradients of a block: of its inputs, {name: array}, and of every parameter."""

    def backward(dy, cache):
        parameters.grads[...] = np.nan  # a backward overwrites: whatever it leaves alone is caught
        dinputs = as_tuple(block.backward(dy, cache))
        return (*dinputs, *(parameter.grad.copy() for parameter in parameters))

    everything = {**inputs, **{parameter.name: parameter.value for parameter in parameters}}
    return check_adjoint(
        lambda: block.forward(*inputs.values()), backward, everything, seed=seed, directions=directions
    )


def assert_caught(monkeypatch, block, parameters, inputs, line, replacement="", directions=None):
    """A backward with this piece replaced must fail the gradient check (and pass it as it stands)."""
    check(block, parameters, inputs, directions=directions)
    target = type(getattr(block, "thing", block))
    monkeypatch.setattr(target, "backward", broken(target.backward, line, replacement))
    with pytest.raises(GradientMismatch):
        check(block, parameters, inputs, directions=directions)
