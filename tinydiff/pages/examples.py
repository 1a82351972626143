"""The worked examples of the ops as data that a page computes with (``site/tape.js``), and as programs of the kernels.

    examples.json
        step, tolerance, floor   of ``gradcheck.adjoint``
        ops        {op: what follows}
          inputs     [{"name", "shape", "values", "fixed"}], upstream gradient last; fixed ones are not on the tape
          nodes      the tape: null an input, a number, or [operation, place, place]
          forward    how many of its nodes y needs
          y          places of its values
          gradients  {input: places}
          without    {term: {"lines": [[number, text]], "gradients": those that are others then}}
          lines      {"forward": lines, "backward": lines}, each a list of texts and [format, place]
          options    of the op
    kernels/       a program for each op with its inputs OP.x, ..., OP.dy and outputs OP.y, OP.dx, ...
"""

from __future__ import annotations

import json

import numpy as np

from tinydiff.gradcheck import adjoint, taped, terms
from tinydiff.gradcheck.adjoint import as_tuple
from tinydiff.gradcheck.table import OP_ROWS
from tinydiff.gradcheck.trace import OPERATIONS, marks
from tinydiff.gradcheck.worked import EXAMPLES
from tinydiff.program import file
from tinydiff.program.record import record

UPSTREAM = {"mse_loss": "dloss", "l1_loss": "dloss", "gaussian_kl": "dkl"}  # where it is not called dy


def data():
    """``examples.json``, bytes."""
    about = {"step": adjoint.STEP, "tolerance": adjoint.TOLERANCE, "floor": adjoint.FLOOR}
    ops = {row.name: of_row(row) for row in OP_ROWS}
    return json.dumps({**about, "ops": ops}, separators=(",", ":"), ensure_ascii=False).encode()


def of_row(row):
    """What the file holds of one op."""
    found, example = taped.of_row(row), EXAMPLES[row.name]
    place = np.vectorize(found.tape.place, otypes=[int])
    places = lambda array: place(array).ravel().tolist()
    gradients = {name: places(dx) for name, dx in found.gradients.items()}
    without = {}
    for term, wrong in found.without.items():
        changed = {name: places(dx) for name, dx in wrong.items() if places(dx) != gradients[name]}
        without[term] = {"lines": terms.lines(row, term), "gradients": changed}
    given = [
        _input(name, x, fixed=x.dtype.kind != "f" or not x.shape)
        for name, x in [*example.inputs.items(), (UPSTREAM.get(row.name, "dy"), example.dy)]
        if x is not None
    ]
    return {
        "inputs": given,
        "y": {"shape": _shown(found.y.shape), "places": places(found.y)},
        "gradients": gradients,
        "without": without,
        "forward": found.forward,
        "lines": {side: [marks(line) for line in getattr(found.worked, side)] for side in ("forward", "backward")},
        "options": example.options,
        "nodes": [_node(each) for each in found.tape.nodes],
    }


def kernels(backend):
    """{op: Recording} of every example's forward and backward, on arrays of that backend."""
    return {name: _recorded(name, example, backend) for name, example in EXAMPLES.items()}


def kernel_files(backend):
    """The files of the folder ``kernels``."""
    return file.contents(file.gather(kernels(backend)))


def _recorded(name, example, backend):
    op = getattr(backend, name)
    as_given = lambda x: x.astype(np.float32 if x.dtype.kind == "f" else np.int64)
    inputs = {each: None if x is None else as_given(x) for each, x in example.inputs.items()}
    given = {f"{name}.{each}": x for each, x in inputs.items() if x is not None}
    dy = as_given(example.dy) if example.dy.shape else float(example.dy)
    if example.dy.shape:
        given[f"{name}.dy"] = dy

    def both():
        y, cache = op.forward(*inputs.values(), **example.options)
        gradients = zip(inputs, as_tuple(op.backward(dy, cache)))
        return {f"{name}.y": y, **{f"{name}.d{each}": dx for each, dx in gradients if dx is not None}}

    return record(both, backend, inputs=given)


def _input(name, x, *, fixed):
    tape = x.dtype.kind == "f"
    return {"name": name, "shape": _shown(x.shape), "values": x.ravel().tolist(), "fixed": fixed, "traced": tape}


def _shown(shape):
    """Without axes of one element."""
    return [size for size in shape if size > 1]


def _node(node):
    if node.operation in OPERATIONS:
        return [node.operation, *node.operands]
    return None if node.operation == "input" else node.operands[0]
