import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_caught, assert_close, check_op, normal, ones, seeds
from tinydiff.ops import gelu

forms = pytest.mark.parametrize("form", gelu.FORMS)


@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=4), form=st.sampled_from(gelu.FORMS), seed=seeds)
def test_gradient(shape, form, seed):
    check_op(gelu, {"x": 3 * normal(seed, *shape)}, {"form": form}, seed=seed)


def test_values():
    x = np.array([0.0, 1.0, -1.0, -6.0])
    assert_close(gelu.forward(x)[0], [each * (1 + math.erf(each / 2**0.5)) / 2 for each in x])
    tanh = [each / 2 * (1 + math.tanh((2 / math.pi) ** 0.5 * (each + 0.044715 * each**3))) for each in x]
    assert_close(gelu.forward(x, form="tanh")[0], tanh)
    assert_close(gelu.forward(x, form="quick")[0], x / (1 + np.exp(-1.702 * x)))


def test_the_other_forms_are_near_the_exact_one():
    x = np.linspace(-6, 6, 1001)
    exact = gelu.forward(x)[0]
    assert np.abs(gelu.forward(x, form="tanh")[0] - exact).max() < 5e-4
    assert 5e-4 < np.abs(gelu.forward(x, form="quick")[0] - exact).max() < 0.03


def test_small_values_on_the_left_keep_their_digits():
    y, _ = gelu.forward(np.array([-6.0], np.float32))
    assert abs(y[0] / (-6 * math.erfc(6 / 2**0.5) / 2) - 1) < 1e-6


@forms
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_ends(form, dtype):
    far_ends(gelu, form, dtype)


@forms
def test_far_ends_on_every_backend(backend, form):
    far_ends(backend.gelu, form, np.float32)


def far_ends(op, form, dtype):
    x = np.array([-1e4, -100, 100, 1e4], dtype)
    y, cache = op.forward(x, form=form)
    assert_close(y, [0, 0, 100, 1e4])
    assert_close(op.backward(np.ones_like(x), cache), [0, 0, 1, 1])


@forms
def test_a_wrong_slope_is_caught(monkeypatch, form):
    options = {"form": form}
    assert_caught(gelu, {"x": normal(0, 7)}, options, "slope(x, form)", "share(x, form)")


def test_an_unknown_form(backend):
    with pytest.raises(ValueError, match="gelu: form must be one of exact, tanh, quick, got 'slow'"):
        backend.gelu.forward(ones(3), form="slow")
