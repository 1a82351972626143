"""The worked example of an op on a tape: the reference's forward and backward, each backward that lacks a term, and the
lines by hand. Whoever runs the tape has all of them, at any numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinydiff.gradcheck import terms
from tinydiff.gradcheck.adjoint import as_tuple
from tinydiff.gradcheck.trace import OPERATIONS, Tape
from tinydiff.gradcheck.worked import EXAMPLES
from tinydiff.gradcheck.worked_example import Worked


class Taped(NamedTuple):
    """An example on a tape. Arrays hold ``trace.Traced`` numbers, or plain ones where all of a tape's inputs give the
    same: a term that was dropped leaves zeros."""

    tape: Tape
    inputs: dict[str, Any]  # of these only arrays of floats are the tape's
    dy: np.ndarray
    y: np.ndarray
    forward: int  # how many nodes y needs, the inputs among them
    gradients: dict[str, np.ndarray]  # {input: gradient} by the op's backward
    without: dict[str, dict[str, np.ndarray]]  # {term: gradients by the backward that lacks it}
    worked: Worked  # by the sums as written, with marks in its lines


def of_row(row):
    """The ``Taped`` example of an op's row of the table."""
    example, tape = EXAMPLES[row.name], Tape()
    inputs = {
        name: tape.inputs(x) if x is not None and x.dtype.kind == "f" else x for name, x in example.inputs.items()
    }
    dy = tape.inputs(example.dy)

    def both(op):
        y, cache = op.forward(*inputs.values(), **example.options)
        for each in np.ravel(y):
            tape.place(each)  # a number that no input moves, as where dropout drops one, has no node yet
        forward = len(tape.nodes)
        dinputs = as_tuple(op.backward(dy if dy.shape else dy[()], cache))
        found = zip(inputs, dinputs, strict=True)
        return np.asarray(y), forward, {name: np.asarray(dx) for name, dx in found if dx is not None}

    y, forward, gradients = both(row.module)
    without = {term: both(terms.without(row, term))[2] for term in row.terms}
    return Taped(tape, inputs, dy, y, forward, gradients, without, example(inputs, dy))


def run(nodes, inputs):
    """The numbers of a tape's nodes, its inputs being these, in their order."""
    values, inputs = [], iter(inputs)
    for operation, operands in nodes:
        if operation in OPERATIONS:
            values.append(OPERATIONS[operation](*(values[place] for place in operands)))
        else:
            values.append(next(inputs) if operation == "input" else operands[0])
    return values
