"""What is checked, built: an op, or a layer, block or model with its parameters, at inputs of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinydiff.gradcheck.adjoint import as_tuple
from tinydiff.model.parameters import Parameters
from tinydiff.precision import FLOAT32


class Case(NamedTuple):
    """Where a thing is differentiated."""

    inputs: dict[str, Any]  # in the order of forward's: arrays that float32 holds exactly, or None
    options: dict = {}
    build: Callable | None = None  # (home, backend, dtype) -> thing, parameters; None for an op, which is its home
    directions: int | None = None  # see ``adjoint.compare``
    float32: tuple[str, ...] = ()  # inputs that are float32 in any precision


class Subject:
    """A case built on one backend in one dtype: forward and backward without arguments left open.

    home   where its code is looked for: the module that holds it, or a twin of it that lacks a term
    dtype  of parameters, and of what goes in, where the backend stores nothing otherwise
    held   inputs and parameters begin with numbers that this dtype holds exactly
    """

    def __init__(self, case, home, backend, dtype=np.float64, held=np.float32):
        self.backend, self.options, self._dtype, self._held = backend, case.options, dtype, held
        self._float32 = case.float32
        self._op = home.__name__.rpartition(".")[2] if case.build is None else None
        if self._op:
            self.thing = home if backend.name == "numpy" else getattr(backend, self._op)
            self.parameters = ()
        else:
            self.thing, self.parameters = case.build(home, backend, dtype)
            if self.parameters:
                randomise(self.parameters, held=held)
        self._inputs = [self._convert(name, x) for name, x in case.inputs.items()]
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
        dy = self.backend.asarray(dy, y.dtype) if np.ndim(dy) else float(dy)
        found = zip(self.everything, self.backward(dy, cache), strict=True)
        return {name: None if dx is None else self.backend.to_numpy(dx) for name, dx in found}

    def _convert(self, name, x):
        """An input of forward as the backend takes it: a copy, as central differences move it."""
        if x is None:
            return None
        if x.dtype.kind != "f":
            return self.backend.asarray(np.array(x))
        is_activation = self.backend.activations is not None and name not in self._float32
        if self._op:
            is_activation &= self._op in FLOAT32 and name not in FLOAT32[self._op]
        numbers = np.array(x, self._held).astype(self._dtype)
        return self.backend.asarray(numbers, self.backend.activations if is_activation else None)


def randomise(parameters, seed=0, held=np.float32):
    """Fill parameters with normal numbers of a size that keeps activations near 1, none at its quiet start.

    The numbers are such that the dtype ``held`` holds them exactly.
    """
    rng = np.random.default_rng(seed)
    for parameter in parameters:
        fan_in = max(1, parameter.value[..., 0].size)
        values = rng.standard_normal(parameter.shape) / np.sqrt(fan_in)
        numbers = values.astype(held).astype(parameters.dtype)
        parameter.value[...] = parameters.backend.asarray(numbers)
    parameters.refresh()


def with_parameters(build):
    """(home, parameters) -> a layer or block, as a ``Case.build``."""

    def built(home, backend, dtype):
        parameters = Parameters(backend, dtype)
        thing = build(home, parameters)
        parameters.allocate()
        return thing, parameters

    return built


def at_step(build, step, labels=None, context=None, guidance=None):
    """Another ``Case.build``, of a thing that is told step and labels, and maybe a context or the guidance, as one that
    is told none of them any more."""

    def built(home, backend, dtype):
        thing, parameters = build(home, backend, dtype)
        there = backend.asarray(np.asarray(step), dtype)
        others = {}
        if context is not None:
            length = None if context.length is None else backend.asarray(context.length)
            others["context"] = context._replace(tokens=backend.asarray(context.tokens, dtype), length=length)
        if guidance is not None:
            others["guidance"] = backend.asarray(np.asarray(guidance), dtype)
        labels_N = None if labels is None else backend.asarray(np.asarray(labels))
        return AtStep(thing, there, labels_N, **others), parameters

    return built


class AtStep:
    """A thing as a function of its other inputs alone, at a fixed step (N,) and label (N,) of each sample, and what
    ``others`` there are."""

    def __init__(self, thing, step, labels=None, **others):
        self.thing, self.step, self.labels, self.others = thing, step, labels, others

    def forward(self, *inputs):
        """The other inputs -> y, cache."""
        return self.thing.forward(*inputs, self.step, self.labels, **self.others)

    def backward(self, dy, cache):
        """dy -> the gradients of the other inputs: one, or a tuple."""
        *dinputs, dstep, dlabels = self.thing.backward(dy, cache)
        assert dstep is None and dlabels is None
        return dinputs[0] if len(dinputs) == 1 else tuple(dinputs)


def dropping(build, dropped):
    """Another ``Case.build``, of a thing that is told what to drop, as one that is not told any more."""

    def built(home, backend, dtype):
        thing, parameters = build(home, backend, dtype)
        number, slot = (None if each is None else backend.asarray(each) for each in dropped[1:])
        return Dropping(thing, dropped._replace(number=number, slot=slot)), parameters

    return built


class Dropping:
    """A thing as a function of its other inputs alone, dropping always the same: ``dropped``, a ``layers.Dropped``."""

    def __init__(self, thing, dropped):
        self.thing, self.dropped = thing, dropped

    def forward(self, *inputs, **others):
        """The other inputs -> y, cache."""
        return self.thing.forward(*inputs, self.dropped, **others)

    def backward(self, dy, cache):
        """dy -> the gradients of the other inputs: one, or a tuple."""
        return self.thing.backward(dy, cache)
