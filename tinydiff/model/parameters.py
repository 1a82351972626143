"""All parameters of a model in one flat buffer, so that an optimizer step is one pass over one array."""

from __future__ import annotations

import math
import operator
import weakref
from typing import NamedTuple

import numpy as np


class Parameter:
    """A named view into the flat buffer (``value``) and into its twin of gradients (``grad``); ``operand`` is what an
    op reads: of a matrix or filter where activations are bfloat16 the rounded values, else ``value`` itself.

    It is copied and pickled with the ``Parameters`` that it is one of, whose buffers it views; where those are gone,
    that is a ``TypeError``.
    """

    def __init__(self, parameters, name, shape, init, decay):
        self._parameters = weakref.ref(parameters)  # weak: a cycle would keep the buffers of a model that is let go
        self.name = name
        self.shape = tuple(shape)
        self.init = init
        self.decay = decay
        self.span = None  # the slice of the flat buffers it views
        self.value = None
        self.grad = None
        self.operand = None

    def __reduce__(self):
        if (parameters := self._parameters()) is None:
            raise TypeError(f"parameter {self.name} cannot be copied: the model that it was part of is gone")
        return operator.getitem, (parameters, self.name)


class Uniform(NamedTuple):
    """Initial values uniform in [-bound, bound)."""

    bound: float


class Normal(NamedTuple):
    """Initial values normal with this standard deviation."""

    std: float


class Constant(NamedTuple):
    """Initial values all the same."""

    value: float


class Parameters:
    """Declared one by one by the layers of a model, then allocated together.

    ``values`` and ``grads`` are flat arrays of ``count`` numbers. The first ``decayed`` of them belong to
    matrices and filters, on which weight decay acts; biases, norms and embeddings follow.

    On a backend of precision "bf16" ``rounded`` (decayed,) holds the first ones in bfloat16, elsewhere it is None.
    Whoever writes ``values`` must ``refresh`` it, or have it written too, before the model runs.

    A copy, deep or from a pickle, has buffers of its own, and views of them: it trains like the original.
    """

    def __init__(self, backend, dtype=np.float32):
        self.backend = backend
        self.dtype = np.dtype(dtype)
        self.values = self.grads = self.rounded = None
        self.count = self.decayed = self._first = 0  # the last: of values, where in the layout they begin
        self._declared: dict[str, Parameter] = {}

    def add(self, name, shape, init, *, decay=False):
        """Declare a parameter; its ``value`` and ``grad`` exist once ``allocate`` has run."""
        if name in self._declared:
            raise ValueError(f"parameter {name!r} is declared twice")
        self._declared[name] = Parameter(self, name, shape, init, decay)
        return self._declared[name]

    def allocate(self, *, frozen=False):
        """Make the flat buffers, decayed parameters first, and bind every view. Values start at zero.

        Of a model that is ``frozen`` there are no gradients; nor, where ops read matrices and filters rounded, what these
        are rounded from: ``values`` are then only those that are not decayed, whose ``value`` is None, and only ``load``
        writes them.
        """
        self.count = sum(math.prod(parameter.shape) for parameter in self)
        self.decayed = sum(math.prod(parameter.shape) for parameter in self if parameter.decay)
        self._first = self.decayed if frozen and self.backend.activations is not None else 0
        self.values = self.backend.zeros(self.count - self._first, self.dtype)
        self.grads = None if frozen else self.backend.zeros(self.count, self.dtype)
        if self.backend.activations is not None:
            self.rounded = self.backend.zeros(self.decayed, self.backend.activations)
        self._bind()

    def _bind(self):
        """Make every parameter a view of the flat buffers."""
        start = 0
        for parameter in sorted(self, key=lambda parameter: not parameter.decay):  # stable: else in order declared
            parameter.span = slice(start, start + math.prod(parameter.shape))
            if start >= self._first:
                held = slice(start - self._first, parameter.span.stop - self._first)
                parameter.value = self.values[held].reshape(parameter.shape)
            parameter.grad = None if self.grads is None else self.grads[parameter.span].reshape(parameter.shape)
            parameter.operand = parameter.value
            if parameter.decay and self.rounded is not None:
                parameter.operand = self.rounded[parameter.span].reshape(parameter.shape)
            start = parameter.span.stop

    def __getstate__(self):
        """What ``__setstate__`` declares and binds again: buffers as they are, no views of them."""
        declared = [(each.name, each.shape, each.init, each.decay) for each in self]
        return {**self.__dict__, "_declared": declared}

    def __setstate__(self, state):
        declared = state.pop("_declared")
        self.__dict__.update(state, _declared={})
        for name, shape, init, decay in declared:
            self.add(name, shape, init, decay=decay)
        if self.values is not None:
            self._bind()

    def initialise(self, seed, into=None):
        """Draw every initial value from ``seed``; the same on every backend.

        into  a flat array of this layout that gets them, by default ``values``
        """
        if self._first and into is None:
            raise ValueError("parameters that are frozen in bfloat16 are loaded, not drawn")
        flat = self.values if into is None else into
        for index, parameter in enumerate(self):
            kind, scale = type(parameter.init), parameter.init[0]
            if kind is Constant:
                flat[parameter.span] = scale
                continue
            numbers = self.backend.philox.forward(
                seed,
                "init",
                self.backend.zeros(1, np.int64) + index,  # which a program can write down
                0,
                parameter.shape,
                kind="normal" if kind is Normal else "uniform",
                dtype=self.dtype,
            )[0]
            flat[parameter.span] = (scale * (numbers if kind is Normal else 2 * numbers - 1)).reshape(-1)
        self.refresh()

    def refresh(self):
        """Round the values of matrices and filters again, where ops read them rounded."""
        if self.rounded is not None and not self._first:
            self.rounded[...] = self.values[: self.decayed]

    def __iter__(self):
        """The parameters in the order they were declared."""
        return iter(self._declared.values())

    def __getitem__(self, name):
        return self._declared[name]

    def to_numpy(self, flat):
        """Any flat array of this layout (values, gradients, moments) as named NumPy arrays."""
        flat = self.backend.to_numpy(flat)
        return {parameter.name: flat[parameter.span].reshape(parameter.shape) for parameter in self}

    def load(self, flat, named):
        """Fill a flat array of this layout from named arrays.

        Raises ``ValueError`` naming the first parameter that is missing, unexpected or of another shape;
        ``flat`` is written only if all fit.
        """
        self.expect(named)
        for parameter in self:
            values = self.backend.asarray(named[parameter.name], self.dtype)
            if flat is self.values:
                (parameter.operand if parameter.value is None else parameter.value)[...] = values
            else:
                flat[parameter.span] = values.reshape(-1)
        if flat is self.values:
            self.refresh()

    def expect(self, named):
        """Raise ``ValueError`` naming the first parameter that is missing, unexpected or of another shape in {name: array},
        of which only shapes are looked at."""
        for name in named:
            if name not in self._declared:
                raise ValueError(f"parameter {name} is not part of this model")
        for parameter in self:
            if parameter.name not in named:
                raise ValueError(f"parameter {parameter.name} is missing")
            shape = tuple(named[parameter.name].shape)
            if shape != parameter.shape:
                raise ValueError(f"parameter {parameter.name} must have shape {parameter.shape}, got {shape}")
