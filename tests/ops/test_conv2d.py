import itertools

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.checks import assert_caught, assert_close, check_op, normal, ones, seeds
from tinydiff.ops import conv2d


def by_loops(x, w, b, stride, padding):
    """The definition, one output pixel at a time."""
    before, after = padding if isinstance(padding, tuple) else (padding, padding)
    x = np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
    R, S = w.shape[:2]
    rows = range(0, x.shape[1] - R + 1, stride)
    columns = range(0, x.shape[2] - S + 1, stride)
    y = np.zeros((x.shape[0], len(rows), len(columns), w.shape[3]))
    for (i, h), (j, v) in itertools.product(enumerate(rows), enumerate(columns)):
        y[:, i, j] = np.einsum("nrsc,rsco->no", x[:, h : h + R, v : v + S], w) + (0 if b is None else b)
    return y


@given(
    N=st.integers(1, 2),
    H=st.integers(1, 6),
    W=st.integers(1, 6),
    C=st.integers(1, 3),
    O=st.integers(1, 3),
    R=st.integers(1, 4),
    S=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.one_of(st.integers(0, 3), st.tuples(st.integers(0, 2), st.integers(0, 2))),
    b=st.booleans(),
    add=st.sampled_from(["none", "time shift", "residual"]),
    seed=seeds,
)
@example(2, 4, 4, 2, 3, 1, 1, 1, 0, True, "residual", 0)  # 1x1: nothing is gathered
@example(1, 1, 1, 1, 1, 3, 3, 1, 1, True, "none", 0)  # one pixel, mostly padding
@example(1, 6, 6, 2, 2, 3, 3, 2, (0, 1), True, "none", 0)  # asymmetric downsampling
@example(1, 1, 5, 1, 2, 2, 3, 2, 3, False, "none", 0)  # filter rows that never meet the image
@example(1, 5, 1, 1, 2, 3, 2, 3, 3, False, "none", 1)  # filter columns that never meet the image
def test_gradient(N, H, W, C, O, R, S, stride, padding, b, add, seed):
    total = sum(padding) if isinstance(padding, tuple) else 2 * padding
    assume(H + total >= R and W + total >= S)
    x, w, bias = normal(seed, N, H, W, C), normal(seed + 1, R, S, C, O), normal(seed + 2, O) if b else None
    expected = by_loops(x, w, bias, stride, padding)
    added = None
    if add != "none":
        added = normal(seed + 3, N, 1, 1, O) if add == "time shift" else normal(seed + 3, *expected.shape)
        expected = expected + added
    options = {"stride": stride, "padding": padding}
    y, _ = conv2d.forward(x, w, bias, added, **options)
    assert_close(y, expected)
    check_op(conv2d, {"x": x, "w": w, "b": bias, "add": added}, options, seed=seed)


@pytest.mark.parametrize(
    "line, replacement",
    [
        ("dz[:, rows_in, :, r] = dy[:, rows_out]", "dz[:, rows_in, :, r] = dy[:, rows_out] if r else 0"),
        ("columns.T @ dz", "0 * columns.T @ dz"),
        ("dcolumns[:, :, :, s]", "dcolumns[:, :, :, s] * (s > 0)"),
        ('np.einsum("mo->o", dy_MO)', "dy_MO[0]"),
        ("dadd = dy.view()", "dadd = 2 * dy"),
    ],
)
def test_a_wrong_term_is_caught(line, replacement):
    inputs = {"x": normal(0, 2, 4, 4, 2), "w": normal(1, 3, 3, 2, 2), "b": normal(2, 2), "add": normal(3, 2, 4, 4, 2)}
    assert_caught(conv2d, inputs, {"padding": 1}, line, replacement)


def test_inputs_are_not_modified():
    arrays = [normal(0, 1, 3, 3, 2), normal(1, 1, 1, 2, 2), normal(2, 2), normal(3, 1, 3, 3, 2)]
    before = [array.copy() for array in arrays]
    y, cache = conv2d.forward(*arrays)
    dadd = conv2d.backward(y, cache)[3]
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before))
    assert np.array_equal(dadd, y) and not dadd.flags.writeable  # dy itself, so nobody may write to it


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (((1, 4, 4, 2), (3, 3, 3, 1)), {}, r"w must have shape \(R, S, C, O\) with C = 2 from x"),
        (((4, 4, 2), (3, 3, 2, 1)), {}, r"x must have shape \(N, H, W, C\)"),
        (((1, 4, 4, 2), (3, 3, 2, 1)), {"stride": 0}, "stride must be an integer of at least 1, got 0"),
        (((1, 4, 4, 2), (3, 3, 2, 1)), {"padding": -1}, "padding must be an integer of at least 0"),
        (((1, 2, 4, 2), (3, 3, 2, 1)), {}, "w of 3x3 is larger than x of 2x4"),
        (((1, 4, 4, 2), (3, 3, 2, 1), None, (1, 4, 4, 1)), {}, r"add must have shape \(1, 2, 2, 1\)"),
        (((0, 4, 4, 2), (3, 3, 2, 1)), {}, "x must not be empty"),
    ],
)
def test_bad_input(backend, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        backend.conv2d.forward(*(None if shape is None else ones(*shape) for shape in arguments), **options)
