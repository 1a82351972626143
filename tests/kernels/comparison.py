"""An op of a backend against its reference: the truth, the yardstick and the one comparison."""

import inspect
from typing import NamedTuple

import numpy as np

from tests.checks import EPS32, assert_as_good, run_op, same_bits
from tests.kernels.rows import ROWS, floats
from tinydiff.gradcheck.adjoint import as_tuple
from tinydiff.ops import OPS, WITHOUT_GRADIENT


class Expected(NamedTuple):
    """One problem and its solution. A row of outputs is y and every gradient (y alone without gradient)."""

    op: str
    names: list  # of the outputs
    inputs: list  # float32
    options: dict
    dy: object  # an array, a number for a scalar y, None without gradient
    truth: list  # outputs in float64
    rivals: list  # of rows of outputs in float32
    entering: list


def expect(op, sizes, seed):
    """The row's problem of these sizes, solved by the reference."""
    row, rng = ROWS[op], np.random.default_rng(seed)
    inputs, options = row.inputs(rng, **sizes)
    wide = [_in_float64(x) for x in inputs]
    names = ["y"]
    if op in WITHOUT_GRADIENT:
        dy, truth, cache = None, [OPS[op].forward(*wide, **options)], None
    else:
        y, cache = OPS[op].forward(*wide, **options)
        dy = floats(rng, *y.shape) if y.ndim else float(rng.standard_normal(dtype=np.float32))
        truth = [y, *as_tuple(OPS[op].backward(_in_float64(dy), cache))]
        names += [f"d{name}" for name in inspect.signature(OPS[op].forward).parameters][: len(inputs)]
    rivals = [_reference(op, inputs, options, dy)]
    rivals += [_reference(op, [moved(rng, x) for x in inputs], options, moved(rng, dy)) for _ in range(row.rivals)]
    entering = row.entering(truth, wide, dy, cache)
    return Expected(op, names, inputs, options, dy, truth, rivals, entering)


def outputs(backend, expected):
    """What a backend makes of it, having kept the promises about its arrays; as NumPy arrays."""
    convert = lambda x: backend.asarray(x) if isinstance(x, np.ndarray) else x
    inputs, dy = [convert(x) for x in expected.inputs], convert(expected.dy)
    made = run_op(getattr(backend, expected.op), inputs, expected.options, dy)
    return [None if x is None else backend.to_numpy(x) for x in made]


def compare(actual, expected, way=""):
    """Every output as good as the reference is in float32; None where it has None."""
    times = ROWS[expected.op].times
    for name, *row in zip(expected.names, actual, expected.truth, expected.entering, *expected.rivals, strict=True):
        result, truth, entering, *rivals = row
        if truth is None:
            assert result is None, name
        else:
            assert_as_good(result, truth, *rivals, times=times, entering=entering, name=f"{expected.op} {way}: {name}")


def assert_same(actual, first, what):
    """Two rows of outputs, bit by bit."""
    for i, (a, b) in enumerate(zip(actual, first, strict=True)):
        assert a is b is None or same_bits(np.asarray(a), np.asarray(b)), f"{what} output {i}"


def moved(rng, x):
    """Float32 values, each moved to a neighbour or left where it is."""
    if not _is_float32(x):
        return x
    return (x * (1 + EPS32 * rng.uniform(-1, 1, x.shape))).astype(np.float32)


def _reference(op, inputs, options, dy):
    if dy is None:
        return [OPS[op].forward(*inputs, **options)]
    y, cache = OPS[op].forward(*inputs, **options)
    return [y, *as_tuple(OPS[op].backward(dy, cache))]


def _is_float32(x):
    return isinstance(x, np.ndarray) and x.dtype == np.float32


def _in_float64(x):
    return x.astype(np.float64) if _is_float32(x) else x
