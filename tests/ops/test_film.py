import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_caught, assert_close, check_op, normal, ones, seeds
from tinydiff.ops import film


@given(N=st.integers(1, 3), H=st.integers(1, 3), W=st.integers(1, 3), C=st.integers(1, 3), seed=seeds)
def test_gradient(N, H, W, C, seed):
    x, scale, shift = normal(seed, N, H, W, C), normal(seed + 1, N, C), normal(seed + 2, N, C)
    check_op(film, {"x": x, "scale": scale, "shift": shift}, seed=seed)
    expected = x + np.einsum("nhwc,nc->nhwc", x, scale) + shift.reshape(N, 1, 1, C)
    assert_close(film.forward(x, scale, shift)[0], expected)


@pytest.mark.parametrize(
    "line, replacement", [("dy * (1 + scale)", "dy * (scale)"), ('np.einsum("nhwc->nc", dy)', "dy[:, 0, 0]")]
)
def test_a_dropped_term_is_caught(line, replacement):
    inputs = {"x": normal(0, 2, 2, 2, 3), "scale": normal(1, 2, 3), "shift": normal(2, 2, 3)}
    assert_caught(film, inputs, {}, line, replacement)


def test_bad_shapes(backend):
    with pytest.raises(
        ValueError, match=r"scale must have shape \(N, C\) with N = 2 from x, C = 3 from x, got \(1, 3\)"
    ):
        backend.film.forward(ones(2, 1, 1, 3), ones(1, 3), ones(2, 3))
