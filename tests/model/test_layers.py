import numpy as np
import pytest

from tests.checks import normal
from tests.model.checks import assert_caught, check, make
from tinydiff import backends
from tinydiff.gradcheck import check_adjoint
from tinydiff.model.layers import ClassEmbedding, Conv2d, Dropout, Dropped, GroupNorm, Linear, Upsample2x


def test_linear():
    layer, parameters = make(lambda p: Linear(p, "linear", 3, 2))
    check(layer, parameters, {"x": normal(0, 2, 4, 3)})


def test_conv2d():
    layer, parameters = make(lambda p: Conv2d(p, "conv", 2, 3, 3, stride=2, padding=1))
    check(layer, parameters, {"x": normal(0, 2, 4, 4, 2), "add": normal(1, 2, 1, 1, 3)})


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("film", [False, True])
def test_group_norm(silu, film):
    layer, parameters = make(lambda p: GroupNorm(p, "norm", 4, 2, 1e-5, silu=silu))
    scale, shift = (normal(1, 2, 4), normal(2, 2, 4)) if film else (None, None)
    check(layer, parameters, {"x": normal(0, 2, 3, 3, 4), "scale": scale, "shift": shift})


def test_class_embedding():
    layer, parameters = make(lambda p: ClassEmbedding(p, "classes", 3, 4))
    check(layer, parameters, {"labels": np.array([2, 0, 2])})


def test_dropout():
    numpy, dropped, x = backends.get("numpy"), Dropped(3, np.array([1])), normal(0, 2, 3, 3, 4)
    layer, idle = Dropout(numpy, 0.3, 5), Dropout(numpy, 0.0, 5)
    check_adjoint(lambda: layer.forward(x, dropped), layer.backward, {"x": x})
    others = [dropped._replace(**each) for each in ({"seed": 4}, {"number": np.array([2])}, {"slot": np.array([5, 1])})]
    found = [layer.forward(x, each)[0] for each in (dropped, *others)] + [Dropout(numpy, 0.3, 6).forward(x, dropped)[0]]
    assert not any(np.array_equal(each, found[0]) for each in found[1:])
    for y, cache in (layer.forward(x), idle.forward(x, dropped)):
        assert y is x and cache is None and layer.backward(x, cache) is x


def test_upsample2x():
    layer, parameters = make(lambda p: Upsample2x(p.backend))
    check(layer, parameters, {"x": normal(0, 2, 2, 3, 4)})


def test_a_bias_without_gradient_is_caught(monkeypatch):
    layer, parameters = make(lambda p: Linear(p, "linear", 3, 2))
    assert_caught(monkeypatch, layer, parameters, {"x": normal(0, 4, 3)}, "self.bias.grad if self.bias else None", "None")


def test_a_gradient_that_adds_instead_of_overwriting_is_caught(monkeypatch):
    layer, parameters = make(lambda p: ClassEmbedding(p, "classes", 3, 4))
    line = "return self.backend.class_embedding.backward(dy, cache, into=(self.weight.grad,))[1]"
    call = "dweight, dlabels = self.backend.class_embedding.backward(dy, cache)"
    adds = f"{call}; self.weight.grad[...] += dweight; return dlabels"
    assert_caught(monkeypatch, layer, parameters, {"labels": np.array([2, 0, 2])}, line, adds)
