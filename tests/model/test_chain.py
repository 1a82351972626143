import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import normal, seeds
from tests.model.checks import assert_caught, check, make
from tinydiff.model.attention_block import AttentionBlock
from tinydiff.model.chain import Chain
from tinydiff.model.layers import Conv2d, GroupNorm, Upsample2x
from tinydiff.model.res_block import ResBlock

LINKS = {
    "conv": lambda p, name: Conv2d(p, name, 4, 4, 3, padding=1),
    "norm": lambda p, name: GroupNorm(p, name, 4, 2, 1e-5, silu=True),
    "upsample": lambda p, name: Upsample2x(p.backend),
    "res": lambda p, name: ResBlock(p, name, 4, 4, None, groups=2, eps=1e-5, film=False),
    "attention": lambda p, name: AttentionBlock(p, name, 4, head_width=4, groups=2, eps=1e-5),
}


def chain(kinds, seed=0):
    return make(lambda p: Chain(*(LINKS[kind](p, f"{i}.{kind}") for i, kind in enumerate(kinds))), seed)


@given(kinds=st.lists(st.sampled_from(sorted(LINKS)), min_size=1, max_size=4), seed=seeds)
def test_gradient(kinds, seed):
    links, parameters = chain(kinds, seed)
    check(links, parameters, {"x": normal(seed, 1, 2, 3, 4)}, seed=seed, directions=2)


@pytest.mark.parametrize(
    "line, replacement",
    [
        ("dh = dy", "dh = 2 * dy"),
        ("gradients[0] if", "2 * gradients[0] if"),
        ("else gradients", "else 2 * gradients"),
    ],
)
def test_a_dropped_term_is_caught(monkeypatch, line, replacement):
    links, parameters = chain(["conv", "upsample", "norm"])
    assert_caught(monkeypatch, links, parameters, {"x": normal(0, 1, 3, 3, 4)}, line, replacement, directions=1)


def test_predict_is_forward_without_what_a_backward_needs():
    links, _ = chain(["conv", "res", "norm"])
    x = normal(0, 1, 3, 3, 4)
    assert np.array_equal(links.predict(x), links.forward(x)[0])


def test_backward_lets_go_of_what_the_links_kept():
    links, _ = chain(["norm", "norm"])
    y, cache = links.forward(normal(0, 1, 3, 3, 4))
    kept = [weakref.ref(each.x) for each in cache]
    assert all(each() is not None for each in kept)
    links.backward(y, cache)
    assert not cache and all(each() is None for each in kept)
