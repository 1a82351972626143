import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_caught, assert_close, check_op, normal, ones, seeds
from tinydiff.ops import geglu, gelu


@given(leading=st.lists(st.integers(1, 4), max_size=3), C=st.integers(1, 5), seed=seeds)
def test_gradient(leading, C, seed):
    check_op(geglu, {"x": 2 * normal(seed, *leading, 2 * C)}, seed=seed)


def test_the_second_half_is_the_gate():
    x = normal(0, 3, 8)
    assert_close(geglu.forward(x)[0], x[:, :4] * gelu.forward(x[:, 4:])[0])


@pytest.mark.parametrize(
    "line, replacement",
    [
        ("da = dy * (g", "da = dy * (a"),
        ("dy * a * gelu.slope", "dy * gelu.slope"),
        ("[da, dg]", "[dg, da]"),
    ],
)
def test_a_wrong_factor_is_caught(line, replacement):
    assert_caught(geglu, {"x": normal(0, 3, 8)}, {}, line, replacement)


def test_channels_that_cannot_be_halved(backend):
    with pytest.raises(ValueError, match="geglu: x must have an even number of channels, got 5"):
        backend.geglu.forward(ones(2, 5))


def test_a_gradient_of_another_shape(backend):
    _, cache = backend.geglu.forward(ones(2, 6))
    with pytest.raises(ValueError, match=r"dy must have shape \(2, 3\), got \(2, 6\)"):
        backend.geglu.backward(np.ones((2, 6), np.float32), cache)
