import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_caught, assert_close, check_op, normal, ones, seeds
from tinydiff.ops import linear


@given(
    leading=st.lists(st.integers(1, 4), max_size=3),
    C=st.integers(1, 5),
    O=st.integers(1, 5),
    b=st.booleans(),
    seed=seeds,
)
def test_gradient(leading, C, O, b, seed):
    x, w, bias = normal(seed, *leading, C), normal(seed + 1, C, O), normal(seed + 2, O) if b else None
    check_op(linear, {"x": x, "w": w, "b": bias}, seed=seed)
    y, _ = linear.forward(x, w, bias)
    assert_close(y, np.einsum("...c,co->...o", x, w) + (bias if b else 0))


@pytest.mark.parametrize(
    "line, replacement",
    [("dy @ w.T", "dy @ w"), ("x_MC.T @ dy_MO", "2 * x_MC.T @ dy_MO"), ("dy_MO.sum(axis=0)", "dy_MO[0]")],
)
def test_a_wrong_term_is_caught(line, replacement):
    assert_caught(linear, {"x": normal(0, 4, 3), "w": normal(1, 3, 3), "b": normal(2, 3)}, {}, line, replacement)


@pytest.mark.parametrize(
    "shapes, message",
    [
        (((2, 3), (4, 5), (5,)), r"linear: w must have shape \(C, O\) with C = 3 from x, got \(4, 5\)"),
        (((2, 3), (3, 5), (4,)), r"linear: b must have shape \(O\) with O = 5 from w, got \(4,\)"),
        (((0, 3), (3, 5), None), r"linear: x must not be empty, got shape \(0, 3\)"),
        (((2, 3), (3,), None), r"linear: w must have shape \(C, O\)"),
    ],
)
def test_bad_shapes(backend, shapes, message):
    with pytest.raises(ValueError, match=message):
        backend.linear.forward(*(None if shape is None else ones(*shape) for shape in shapes))


def test_bad_dtypes(backend):
    with pytest.raises(ValueError, match="linear: w must be float32( like x)?, got float64"):
        backend.linear.forward(ones(2, 3), np.ones((3, 4)))
    with pytest.raises(ValueError, match="linear: x must be (a floating-point array|float32), got int64"):
        backend.linear.forward(np.ones((2, 3), np.int64), ones(3, 4))
    with pytest.raises(ValueError, match="linear: x must be an array, got list"):
        backend.linear.forward([1.0], ones(1, 1))


def test_bad_upstream(backend):
    _, cache = backend.linear.forward(ones(2, 3), ones(3, 4))
    with pytest.raises(ValueError, match=r"linear: dy must have shape \(2, 4\), got \(2, 3\)"):
        backend.linear.backward(ones(2, 3), cache)
    with pytest.raises(ValueError, match="linear: dy must be float32, got float64"):
        backend.linear.backward(np.ones((2, 4)), cache)
