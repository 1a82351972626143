"""What the worked examples of ``worked`` are, and how they show numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinydiff.gradcheck.trace import Traced


class Worked(NamedTuple):
    """One example: what goes in, the arithmetic line by line, and what comes out."""

    inputs: dict  # {name: array}
    options: dict
    dy: np.ndarray
    forward: list[str]
    backward: list[str]
    results: dict  # {"y": array, "d<input>": array, ...} as the lines have them


class Example(NamedTuple):
    """An op at given numbers, of the op's shapes; float32 holds them exactly."""

    inputs: dict[str, Any]
    dy: np.ndarray
    work: Callable  # (*inputs, dy) -> forward, backward, results; the options are its own
    options: dict = {}

    def __call__(self, inputs=None, dy=None):
        """The example as ``Worked``, at its own numbers or others of the same shapes."""
        inputs, dy = self.inputs if inputs is None else inputs, self.dy if dy is None else dy
        return Worked(inputs, self.options, dy, *self.work(*inputs.values(), dy, **self.options))


def array(*values, shape=None):
    return np.array(values, np.float64).reshape(shape or np.shape(values))


def zeros(like, *shape):
    return np.zeros(shape, like.dtype)


def added(products, terms=()):
    """The sum of products (a, b) and of terms, and the text that shows every one of them."""
    shown = [f"{part(a)}·{part(b)}" for a, b in products] + [part(term) for term in terms]
    total = sum(a * b for a, b in products) + sum(terms)
    if len(shown) == 1 and not products:
        return total, shown[0]
    return total, f"{' + '.join(shown)} = {num(total)}"


def num(value):
    """A number in at most four digits."""
    return f"{value + 0.0:.4g}"


def part(value):
    """A number as it stands in a product: a negative one in parentheses."""
    if isinstance(value, Traced):
        return format(value, "(.4g)")
    return f"({num(value)})" if value < 0 else num(value)


def nought(value):
    """A number that is 0 but for rounding."""
    return format(value, "0") if isinstance(value, Traced) else num(abs(round(value, 12)))


def integers(values):
    return f"[{', '.join(map(str, values))}]"


def listed(values):
    return f"[{', '.join(num(value) for value in values)}]"
