"""An op of a backend against its reference: the truth, the yardstick and the one comparison."""

import inspect
from typing import NamedTuple

import numpy as np

from tests.checks import EPS32, assert_as_good, run_op, same_bits
from tests.kernels.rows import NANS, ROWS, between_nans, floats
from tinydiff.gradcheck.adjoint import as_tuple
from tinydiff.ops import OPS, WITHOUT_GRADIENT


class Expected(NamedTuple):
    """One problem and its solution. A row of outputs is y and every gradient (y alone without gradient)."""

    op: str
    names: list  # of the outputs
    dtypes: list  # of the outputs
    inputs: list  # float32
    options: dict
    dy: object  # an array, a number for a scalar y, None without gradient
    placed: tuple  # inputs and dy as a backend is given them
    truth: list  # outputs in float64
    rivals: list  # of rows of outputs in float32, rounded to the outputs' dtypes
    entering: list
    chance: list
    deviations: list


def expect(op, sizes, seed, kernel=None):
    """The row's problem of these sizes, solved by the reference.

    ``kernel`` is the op of a backend, which may say of what dtype an input or output is (all of float32, where it does
    not) and by which of its versions it computes. What is bfloat16 starts as such: the truth is that of the rounded
    inputs.
    """
    dtype_of = getattr(kernel, "dtype", lambda name: np.dtype(np.float32))
    row, rng = ROWS[op], np.random.default_rng(seed)
    inputs, options = row.inputs(rng, **sizes)
    names_in = list(inspect.signature(OPS[op].forward).parameters)[: len(inputs)]
    inputs = [rounded(x, dtype_of(name)) for name, x in zip(names_in, inputs)]
    wide = [_in_float64(x) for x in inputs]
    names = ["y"]
    if op in WITHOUT_GRADIENT:
        dy, truth, cache = None, [OPS[op].forward(*wide, **options)], None
    else:
        y, cache = OPS[op].forward(*wide, **options)
        dy = floats(rng, *y.shape) if y.ndim else float(rng.standard_normal(dtype=np.float32))
        dy = rounded(dy, dtype_of("dy"))
        truth = [y, *as_tuple(OPS[op].backward(_in_float64(dy), cache))]
        names += [f"d{name}" for name in names_in]
    dtypes = [dtype_of(name) for name in names]
    start = int(rng.choice([8, rng.integers(1, NANS)]))  # aligned to 16 bytes, or not

    def place(name, x):
        return between_nans(x, start, dtype_of(name)) if _is_float32(x) and str(dtype_of(name)) == "bfloat16" else x

    def reference(inputs, dy):
        return [rounded(x, dtype) for x, dtype in zip(_reference(op, inputs, options, dy, dtypes[0]), dtypes)]

    rivals = [reference(inputs, dy)]
    rivals += [reference([moved(rng, x) for x in inputs], moved(rng, dy)) for _ in range(row.rivals)]
    entering = row.entering(truth, wide, dy, cache)
    chance = row.chance(wide, options, _in_float64(dy), dtypes)
    placed = [place(name, x) for name, x in zip(names_in, inputs)], place("dy", dy)
    version = kernel.version(*placed[0][:2], **options) if hasattr(kernel, "version") else None
    deviations = row.deviations(version, wide, options, _in_float64(dy), dtypes)
    return Expected(op, names, dtypes, inputs, options, dy, placed, truth, rivals, entering, chance, deviations)


def outputs(backend, expected):
    """What a backend makes of it, having kept the promises about its arrays; as NumPy arrays."""
    convert = lambda x: backend.asarray(x) if isinstance(x, np.ndarray) else x
    inputs, dy = expected.placed
    made = run_op(getattr(backend, expected.op), [convert(x) for x in inputs], expected.options, convert(dy))
    return [None if x is None else backend.to_numpy(x) for x in made]


def compare(actual, expected, way=""):
    """Every output as good as the reference is in float32 (and rounded, where it is); None where it has None."""
    row = ROWS[expected.op]
    of_outputs = expected.names, expected.dtypes, actual, expected.truth
    floors = expected.entering, expected.chance, expected.deviations
    for name, dtype, result, truth, *bounds in zip(*of_outputs, *floors, *expected.rivals, strict=True):
        if truth is None:
            assert result is None, name
            continue
        times = row.times_bf16 if str(dtype) == "bfloat16" else row.times
        name = f"{expected.op} {way}: {name}"
        entering, chance, deviation, *rivals = bounds
        kept = dict(entering=entering, chance=chance, deviation=deviation)
        assert_as_good(result, truth, *rivals, times=times, **kept, name=name, dtype=dtype)


def assert_same(actual, first, what):
    """Two rows of outputs, bit by bit."""
    for i, (a, b) in enumerate(zip(actual, first, strict=True)):
        assert a is b is None or same_bits(np.asarray(a), np.asarray(b)), f"{what} output {i}"


def moved(rng, x, by=EPS32):
    """Float32 values, each moved to a neighbour or left where it is; or by more than that, up to this share of it."""
    if not _is_float32(x):
        return x
    return (x * (1 + by * rng.uniform(-1, 1, x.shape))).astype(np.float32)


def rounded(x, dtype):
    """Float32 values rounded to a dtype, as float32."""
    return x.astype(dtype).astype(np.float32) if _is_float32(x) and str(dtype) != "float32" else x


def _reference(op, inputs, options, dy, dtype):
    if dy is None:
        return [OPS[op].forward(*inputs, **options)]
    y, cache = OPS[op].forward(*inputs, **options)
    if "y" in cache._fields:
        cache = cache._replace(y=rounded(y, dtype))
    return [y, *as_tuple(OPS[op].backward(dy, cache))]


def _is_float32(x):
    return isinstance(x, np.ndarray) and x.dtype == np.float32


def _in_float64(x):
    return x.astype(np.float64) if _is_float32(x) else x
