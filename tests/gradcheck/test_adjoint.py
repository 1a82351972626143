import numpy as np
import pytest

from tests.checks import normal
from tinydiff.gradcheck import GradientMismatch, check_adjoint


def check(dx, x=None, **options):
    """The gradient dx(dy, x) of x^3."""
    x = normal(0, 3, 2) if x is None else x
    return check_adjoint(lambda: (x**3, None), lambda dy, cache: (dx(dy, x),), {"x": x}, **options)


@pytest.mark.parametrize("directions", [None, 4])
def test_right_and_wrong(directions):
    assert check(lambda dy, x: 3 * dy * x**2, directions=directions)["x"] < 1e-8
    for wrong in (lambda dy, x: 3.00001 * dy * x**2, lambda dy, x: np.nan * x, lambda dy, x: 3 * dy * x):
        with pytest.raises(GradientMismatch, match="the gradient of x is off by"):
            check(wrong, directions=directions)


def test_a_missing_or_misshapen_gradient():
    for wrong, shape in ((lambda dy, x: None, r"\(\)"), (lambda dy, x: dy.sum(axis=0), r"\(2,\)")):
        with pytest.raises(GradientMismatch, match=rf"the gradient of x must have shape \(3, 2\), got {shape}"):
            check(wrong)


def test_inputs_are_restored_bit_for_bit():
    x = normal(1, 3, 2)
    before = x.copy()
    check(lambda dy, x: 3 * dy * x**2, x)
    assert np.array_equal(x, before)


def test_float32_is_refused():
    with pytest.raises(ValueError, match="x must be float64 for central differences, got float32"):
        check(lambda dy, x: dy, np.ones((3, 2), np.float32))


def test_a_gradient_of_zero_has_no_scale_of_its_own():
    x, unused = normal(0, 3), normal(1, 3)
    check_adjoint(lambda: (2 * x, None), lambda dy, cache: (2 * dy, np.zeros(3)), {"x": x, "unused": unused})
    with pytest.raises(GradientMismatch):
        check_adjoint(lambda: (2 * x, None), lambda dy, cache: (2 * dy, np.full(3, 1e-6)), {"x": x, "unused": unused})
