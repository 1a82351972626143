"""Arithmetic written down: arrays of numbers that compute as ever and note how on a tape.

An op's own NumPy code, given such arrays, leaves the straight-line program of its result. That runs again on other
numbers where there is none of its code, as in a page of the site; so nothing is derived a second time there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

OPERATIONS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "max": max,
    "min": min,
    "sign": lambda a: float(a > 0) - float(a < 0),
    "equal": lambda a, b: a == b,
    "neg": lambda a: -a,
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "erfc": math.erfc,
}


class Node(NamedTuple):
    """One number of a tape: an input (operation "input"), a constant ("number", its value), or what an operation of
    ``OPERATIONS`` makes of earlier ones, by their places."""

    operation: str
    operands: tuple = ()


class Tape:
    """What was computed, in order; the same operation on the same numbers is one node."""

    def __init__(self):
        self.nodes = []
        self._places = {}

    def inputs(self, values):
        """An array of numbers as an array of new inputs."""
        traced = np.empty(np.shape(values), object)
        for index in np.ndindex(traced.shape):
            traced[index] = Traced(self, len(self.nodes), float(values[index]))
            self.nodes.append(Node("input"))
        return traced.view(TracedArray)

    def apply(self, operation, *operands):
        """The ``Traced`` result of an operation on numbers, traced or plain."""
        places = tuple(self.place(each) for each in operands)
        value = OPERATIONS[operation](*(each.value if isinstance(each, Traced) else each for each in operands))
        return Traced(self, self._add(Node(operation, places)), value)

    def place(self, number):
        """Where a number stands; a plain one becomes a constant."""
        return number.place if isinstance(number, Traced) else self._add(Node("number", (float(number),)))

    def _add(self, node):
        if node not in self._places:
            self._places[node] = len(self.nodes)
            self.nodes.append(node)
        return self._places[node]


class Traced:
    """A number on a tape. Adding 0, and multiplying by 0 or 1, leave no trace."""

    __slots__ = ("tape", "place", "value")

    def __init__(self, tape, place, value):
        self.tape, self.place, self.value = tape, place, value

    def __add__(self, other):
        return self if _is(other, 0) else self._with("+", other)

    def __radd__(self, other):
        return self if _is(other, 0) else self._with("+", other, turned=True)

    def __sub__(self, other):
        return self if _is(other, 0) else self._with("-", other)

    def __rsub__(self, other):
        return -self if _is(other, 0) else self._with("-", other, turned=True)

    def __mul__(self, other):
        return self if _is(other, 1) else 0.0 if _is(other, 0) else self._with("*", other)

    def __rmul__(self, other):
        return self if _is(other, 1) else 0.0 if _is(other, 0) else self._with("*", other, turned=True)

    def __truediv__(self, other):
        return self if _is(other, 1) else self._with("/", other)

    def __rtruediv__(self, other):
        return self._with("/", other, turned=True)

    def __neg__(self):
        return self.tape.apply("neg", self)

    # what NumPy asks elements for
    def exp(self):
        return self.tape.apply("exp", self)

    def log(self):
        return self.tape.apply("log", self)

    def sqrt(self):
        return self.tape.apply("sqrt", self)

    def erfc(self):
        """As ``math.erfc``; NumPy has none."""
        return self.tape.apply("erfc", self)

    # whatever that is when the tape runs again
    def larger(self, other):
        """The larger of two numbers."""
        return self._with("max", other)

    def smaller(self, other):
        """The smaller of two numbers."""
        return self._with("min", other)

    def equal(self, other):
        """1 if two numbers are the same, else 0."""
        return self._with("equal", other)

    def sign(self):
        """-1, 0 or 1."""
        return self.tape.apply("sign", self)

    def __abs__(self):
        return self.larger(-self)

    def __bool__(self):
        raise TypeError("what a tape computes must not depend on a comparison of its numbers")

    __lt__ = __le__ = __gt__ = __ge__ = lambda self, other: self.__bool__()
    __hash__ = object.__hash__

    def __format__(self, how):
        """A mark in a text for this number, to be filled in when the tape runs again; see ``marks``."""
        return f"{OPEN}{how}{BETWEEN}{self.place}{CLOSE}"

    def _with(self, operation, other, *, turned=False):
        if not isinstance(other, (Traced, int, float, np.number, np.bool_)):
            return NotImplemented
        return self.tape.apply(operation, *((other, self) if turned else (self, other)))


class TracedArray(np.ndarray):
    """An array of traced numbers, where an op expects floats."""

    stands_for_floats = True  # to ``ops.contract``

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        """A function of NumPy's that compares, as an operation; any other asks the elements."""
        plain = lambda arrays: [np.asarray(each) if isinstance(each, TracedArray) else each for each in arrays]
        if method == "__call__" and ufunc in COMPARING:
            ufunc = np.frompyfunc(COMPARING[ufunc], ufunc.nin, 1)
        if out:
            getattr(ufunc, method)(*plain(inputs), out=tuple(plain(out)), **options)
            return out[0]
        return np.asarray(getattr(ufunc, method)(*plain(inputs), **options), object).view(TracedArray)

    def max(self, axis=None, keepdims=False):
        return np.frompyfunc(Traced.larger, 2, 1).reduce(self, axis=axis, keepdims=keepdims)


COMPARING = {np.maximum: Traced.larger, np.minimum: Traced.smaller, np.equal: Traced.equal, np.sign: Traced.sign}
OPEN, BETWEEN, CLOSE = "\ue000", "\ue001", "\ue002"  # of no script, so no text has them


def marks(text):
    """A text as a list of strings and, in their places, of [how, place] for its marks."""
    parts = []
    for i, part in enumerate(text.replace(CLOSE, OPEN).split(OPEN)):
        if i % 2:
            how, _, place = part.partition(BETWEEN)
            parts.append([how, int(place)])
        elif part:
            parts.append(part)
    return parts


def _is(number, value):
    return not isinstance(number, (Traced, np.ndarray)) and number == value
