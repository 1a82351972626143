"""What is checked, built: an op, or a layer, block or model with its parameters, at inputs of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinydiff.gradcheck.adjoint import as_tuple
from tinydiff.model.parameters import Parameters


class Case(NamedTuple):
    """Where a thing is differentiated."""

    inputs: dict[str, Any]  # in the order of forward's: arrays that float32 holds exactly, or None
    options: dict = {}
    build: Callable | None = None  # (home, backend, dtype) -> thing, parameters; None for an op, which is its home
    directions: int | None = None  # see ``adjoint.compare``


class Subject:
    """A case built on one backend in one dtype: forward and backward without arguments left open.

    ``home`` is where its code is looked for: the module that holds it, or a twin of it that lacks a term.
    """

    def __init__(self, case, home, backend, dtype=np.float64):
        self.backend, self.options = backend, case.options
        if case.build is None:
            self.thing = home if backend.name == "numpy" else getattr(backend, home.__name__.rpartition(".")[2])
            self.parameters = ()
        else:
            self.thing, self.parameters = case.build(home, backend, dtype)
            randomise(self.parameters)
        self._inputs = [self._convert(x, dtype) for x in case.inputs.values()]
        # {name: array} of everything that has a gradient, in the order in which ``backward`` gives them
        self.everything = dict(zip(case.inputs, self._inputs))
        self.everything |= {parameter.name: parameter.value for parameter in self.parameters}

    def forward(self):
        """() -> y, cache."""
        return self.thing.forward(*self._inputs, **self.options)

    def backward(self, dy, cache):
        """dy -> the gradients of the inputs and of every parameter."""
        if self.parameters:
            self.parameters.grads[...] = np.nan  # a backward overwrites: whatever it leaves alone is caught
        dinputs = as_tuple(self.thing.backward(dy, cache))
        return (*dinputs, *(parameter.grad.copy() for parameter in self.parameters))

    def gradients(self, dy):
        """{name: gradient} for an upstream dy, an array of NumPy's; as NumPy arrays, None where there is none."""
        y, cache = self.forward()
        dy = self._convert(dy, y.dtype) if np.ndim(dy) else float(dy)
        found = zip(self.everything, self.backward(dy, cache), strict=True)
        return {name: None if dx is None else self.backend.to_numpy(dx) for name, dx in found}

    def _convert(self, x, dtype):
        if x is None:
            return None
        # a copy: central differences move it
        return self.backend.asarray(np.array(x, dtype if x.dtype.kind == "f" else None))


def randomise(parameters, seed=0):
    """Fill parameters with normal numbers of a size that keeps activations near 1, none at its quiet start.

    The numbers are such that float32 holds them exactly.
    """
    rng = np.random.default_rng(seed)
    for parameter in parameters:
        fan_in = max(1, parameter.value[..., 0].size)
        values = rng.standard_normal(parameter.shape) / np.sqrt(fan_in)
        parameter.value[...] = parameters.backend.asarray(values.astype(np.float32), parameters.dtype)


def with_parameters(build):
    """(home, parameters) -> a layer or block, as a ``Case.build``."""

    def built(home, backend, dtype):
        parameters = Parameters(backend, dtype)
        thing = build(home, parameters)
        parameters.allocate()
        return thing, parameters

    return built


def at_step(build, step, labels=None):
    """Another ``Case.build``, of a thing that is told step and labels, as one that is told neither any more."""

    def built(home, backend, dtype):
        thing, parameters = build(home, backend, dtype)
        there = backend.asarray(np.asarray(step), dtype)
        return AtStep(thing, there, None if labels is None else backend.asarray(np.asarray(labels))), parameters

    return built


class AtStep:
    """A thing as a function of its other inputs alone, at a fixed step (N,) and label (N,) of each sample."""

    def __init__(self, thing, step, labels=None):
        self.thing, self.step, self.labels = thing, step, labels

    def forward(self, *inputs):
        """The other inputs -> y, cache."""
        return self.thing.forward(*inputs, self.step, self.labels)

    def backward(self, dy, cache):
        """dy -> the gradients of the other inputs: one, or a tuple."""
        *dinputs, dstep, dlabels = self.thing.backward(dy, cache)
        assert dstep is None and dlabels is None
        return dinputs[0] if len(dinputs) == 1 else tuple(dinputs)
