import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import normal, seeds
from tests.model.checks import assert_caught, check, make
from tinydiff.gradcheck.subjects import Dropping
from tinydiff.model.layers import Dropped
from tinydiff.model.res_block import ResBlock

DROPPED = Dropped(5, np.array([3]), np.array([4, 1]))


def block(C, O, E, groups, film, seed=0, **dropout):
    return make(lambda p: ResBlock(p, "res", C, O, E, groups=groups, eps=1e-5, film=film, **dropout), seed)


@given(
    N=st.integers(1, 2),
    H=st.integers(2, 4),
    W=st.integers(2, 4),
    groups=st.integers(1, 2),
    wider=st.booleans(),
    film=st.booleans(),
    seed=seeds,
)
def test_gradient(N, H, W, groups, wider, film, seed):
    """Along random directions; element by element it is checked where a term is dropped."""
    C, E = 2 * groups, 3
    res, parameters = block(C, 2 * C if wider else C, E, groups, film, seed)
    inputs = {"x": normal(seed, N, H, W, C), "time": normal(seed + 1, N, E)}
    check(res, parameters, inputs, seed=seed, directions=2)


@pytest.mark.parametrize(
    "film, line, replacement",
    [
        (False, ", add=dx_shortcut)", ")"),
        (False, "backward(dresidual, cache.conv_shortcut)", "backward(2 * dresidual, cache.conv_shortcut)"),
        (
            False,
            "dmodulation = dadd.reshape(len(dy), self.O)",
            "dmodulation = 0 * dadd.reshape(len(dy), self.O)",
        ),
        (True, "= dscale, dshift", "= dshift, dscale"),
        (
            True,
            "dh, dscale, dshift = self.norm2.backward(dh, cache.norm2)",
            "_, dscale, dshift = self.norm2.backward(dh, cache.norm2)",
        ),
    ],
)
def test_a_dropped_term_is_caught(monkeypatch, film, line, replacement):
    res, parameters = block(4, 6, 3, 2, film)
    inputs = {"x": normal(0, 2, 3, 3, 4), "time": normal(1, 2, 3)}
    assert_caught(monkeypatch, res, parameters, inputs, line, replacement)


@pytest.mark.parametrize("wider", [False, True])
def test_without_time(wider):
    res, parameters = block(4, 8 if wider else 4, None, 2, False)
    assert not any("time_emb_proj" in each.name for each in parameters)
    check(res, parameters, {"x": normal(0, 2, 2, 3, 4), "time": None}, directions=2)
    assert res.backward(*res.forward(normal(0, 1, 2, 2, 4)))[1] is None


def test_it_begins_as_its_shortcut():
    res, parameters = block(4, 4, 3, 2, False)
    parameters.initialise(0)
    x = normal(0, 1, 3, 3, 4)
    y, _ = res.forward(x, normal(1, 1, 3))
    assert (y == x).all()


@pytest.mark.parametrize("film", [False, True])
def test_gradient_with_dropout(film):
    res, parameters = block(4, 6, 3, 2, film, dropout=0.4, layer=3)
    inputs = {"x": normal(0, 2, 3, 3, 4), "time": normal(1, 2, 3)}
    check(Dropping(res, DROPPED), parameters, inputs)
    dropping, plain = res.forward(*inputs.values(), DROPPED)[0], res.forward(*inputs.values())[0]
    assert not np.allclose(dropping, plain)
    assert np.array_equal(plain, block(4, 6, 3, 2, film)[0].forward(*inputs.values())[0])


@pytest.mark.parametrize(
    "line, replacement",
    [
        ("dh = self.dropout.backward(dh, cache.dropout)", "pass"),
        ("self._into_conv2(cache)", "self.norm2.again(cache.norm2)"),
    ],
)
def test_dropout_forgotten_on_the_way_back_is_caught(monkeypatch, line, replacement):
    res, parameters = block(4, 6, 3, 2, False, dropout=0.4)
    inputs = {"x": normal(0, 2, 3, 3, 4), "time": normal(1, 2, 3)}
    assert_caught(monkeypatch, Dropping(res, DROPPED), parameters, inputs, line, replacement)


def test_two_layers_drop_other_values():
    inputs = normal(0, 2, 3, 3, 4), normal(1, 2, 3), DROPPED
    one, other = (block(4, 6, 3, 2, False, dropout=0.4, layer=layer)[0].forward(*inputs)[0] for layer in (0, 1))
    assert not np.allclose(one, other)
