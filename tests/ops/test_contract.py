"""What every op with a gradient promises, whatever it computes; an op is one row of the table of gradients."""

import numpy as np
import pytest

from tests.checks import assert_close, normal, run_op
from tinydiff.gradcheck.table import OP_ROWS
from tinydiff.ops import OPS, contract

# op: inputs, options; the first case of its row
CASES = {row.name: (list(row.cases[0].inputs.values()), row.cases[0].options) for row in OP_ROWS}


def run(op, dtype):
    """All arrays of one forward and backward: inputs, output, gradients."""
    inputs, options = CASES[op]
    inputs = [x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs]
    y, _ = OPS[op].forward(*inputs, **options)
    dy = normal(9, *y.shape, dtype=dtype) if y.ndim else dtype(1.5)
    y, *gradients = run_op(OPS[op], inputs, options, dy)
    return inputs, y, gradients


@pytest.mark.parametrize("op", CASES)
def test_the_dtype_is_kept_and_float32_is_as_good_as_it_can_be(op):
    _, y32, gradients32 = run(op, np.float32)
    _, y64, gradients64 = run(op, np.float64)
    assert y32.dtype == np.float32 and y64.dtype == np.float64
    assert_close(y32, y64, 1e-5)
    for d32, d64 in zip(gradients32, gradients64, strict=True):
        if d64 is not None:
            assert d32.dtype == np.float32 and d64.dtype == np.float64
            assert_close(d32, d64, 1e-5)


@pytest.mark.parametrize("op", CASES)
def test_gradients_have_the_shape_of_the_inputs_and_memory_of_their_own(op):
    inputs, _, gradients = run(op, np.float64)  # which checks the memory
    for x, dx in zip(inputs, gradients, strict=True):
        assert dx is None if x.dtype.kind == "i" else dx.shape == x.shape


@pytest.mark.parametrize("op", ["linear", "conv2d", "group_norm", "class_embedding"])
def test_gradients_of_parameters_go_where_they_are_told(backend, op):
    inputs, options = CASES[op]
    inputs = [x.astype(np.float32) if x.dtype.kind == "f" else x for x in inputs]
    op = getattr(backend, op)
    y, cache = op.forward(*inputs, **options)
    dy = normal(9, *y.shape, dtype=np.float32)
    expected = op.backward(dy, cache)
    first = 1 if len(expected) > 2 else 0  # the gradient of x comes before those of the parameters
    into = tuple(np.full_like(gradient, np.nan) for gradient in expected[first : first + (2 if first else 1)])
    found = op.backward(dy, cache, into=into)
    for place, gradient, other in zip(into, found[first:], expected[first:]):
        assert gradient is place and np.array_equal(place, other)
    unfit = (into[0][:1], *into[1:])
    with pytest.raises(ValueError, match=r": d\w+ must have shape"):
        op.backward(dy, cache, into=unfit)


def test_letters_bind_to_sizes():
    sizes = contract.bind("op", x=(np.ones((2, 5, 3)), "... C"), w=(np.ones((3, 4)), "C O"), b=(None, "O"))
    assert sizes == {"C": 3, "O": 4}
    with pytest.raises(ValueError, match=r"op: x must have shape \(1\), got \(2,\)"):
        contract.bind("op", x=(np.ones(2), "1"))
