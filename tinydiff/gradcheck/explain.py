"""A derivation, a worked example and the gradient both ways, as text."""

from __future__ import annotations

import inspect
import textwrap

import numpy as np

from tinydiff.gradcheck.adjoint import as_tuple, by_definition
from tinydiff.gradcheck.worked import EXAMPLES


def explain(row):
    """The text that explains the gradient of one row of the table.

    An op: its derivation, an example in which every product is written down, and that example's gradient by the
    derivation and by the definition of a derivative. What is composed of ops: what it computes and its backward, line
    by line.
    """
    if row.kind != "op":
        thing = getattr(row.module, row.name)
        backward = textwrap.dedent(inspect.getsource(thing.backward))
        return f"{row.name}: {inspect.getdoc(thing)}\n\n{heading(f'Its backward, {row.derivation}')}\n\n{backward.rstrip()}"
    example = EXAMPLES[row.name]()
    parts = [inspect.getdoc(row.module), heading("By hand"), _given(example), *_steps(example)]
    return "\n\n".join([*parts, heading("The gradient both ways"), _both_ways(row.module, example)])


def heading(text):
    """A line that parts one section from the next."""
    return f"---- {text} {'-' * max(0, 72 - len(text))}"


def _given(example):
    given = [*example.inputs.items(), *example.options.items()]
    return "\n".join(_named(name, value) for name, value in given if value is not None)


def _steps(example):
    yield "\n".join(["Forward", *example.forward])
    yield _named("dy", example.dy)
    yield "\n".join(["Backward", *example.backward])


def _both_ways(op, example):
    """Every gradient as the op's backward and as central differences give it."""
    inputs = {name: x if x is None else x.copy() for name, x in example.inputs.items()}
    forward = lambda: op.forward(*inputs.values(), **example.options)
    gradients = as_tuple(op.backward(example.dy, forward()[1]))
    texts = []
    for (name, x), dx in zip(inputs.items(), gradients):
        if dx is not None:
            texts.append(_named(f"d{name} by derivation", dx))
            texts.append(_named(f"d{name} by definition", by_definition(forward, example.dy, x)))
    return "\n".join(texts)


def _named(name, value):
    """``name = value``; of an array its rows, without axes of one element, one below the other."""
    if not isinstance(value, np.ndarray):
        return f"{name} = {value}"
    squeezed = value.squeeze() if value.size > 1 else value.reshape(())
    shape = f" {value.shape}" if value.shape != squeezed.shape else ""
    rounded = squeezed if value.dtype.kind == "i" else squeezed.round(6) + 0.0
    shown = np.array2string(rounded, precision=6, suppress_small=True, max_line_width=120)
    head = f"{name}{shape} = "
    return head + shown.replace("\n", "\n" + " " * len(head))
