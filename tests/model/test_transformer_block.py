import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_close, normal, seeds
from tests.model.checks import assert_caught, check, make
from tinydiff.model.transformer_block import Attention, Transformer, TransformerBlock


def attention(seed=0):
    return make(lambda p: Attention(p, "attention", 4, 3, head_width=2), seed)


def block(seed=0):
    return make(lambda p: TransformerBlock(p, "block", 4, 3, head_width=2), seed)


def transformer(depth=1, seed=0):
    return make(lambda p: Transformer(p, "block", 4, 3, head_width=2, depth=depth, groups=2), seed)


def inputs(x, N=2, M=5, length=None, seed=0):
    return {"x": x, "context": normal(seed + 1, N, M, 3), "length": length}


@given(N=st.integers(1, 2), L=st.integers(1, 4), M=st.integers(1, 4), padded=st.booleans(), seed=seeds)
def test_gradients(N, L, M, padded, seed):
    length = np.random.default_rng(seed).integers(1, M + 1, N) if padded else None
    for thing, parameters in (attention(seed), block(seed)):
        check(thing, parameters, inputs(normal(seed, N, L, 4), N, M, length, seed), seed=seed, directions=2)


@given(H=st.integers(1, 3), W=st.integers(2, 3), depth=st.integers(1, 2), seed=seeds)
def test_gradient_of_pixels_as_tokens(H, W, depth, seed):
    thing, parameters = transformer(depth, seed)
    check(thing, parameters, inputs(normal(seed, 2, H, W, 4), seed=seed), seed=seed, directions=2)


@pytest.mark.parametrize(
    "make_it, line, replacement",
    [
        (attention, "through_v + through_k", "through_v"),
        (attention, "self.to_v.backward(tokens(dv)", "self.to_v.backward(tokens(dk)"),
        (block, ", add=past_feed_forward)", ")"),
        (block, ", add=past_cross_attention)", ")"),
        (block, ", add=past_self_attention)", ")"),
        (block, "dh + through_context", "dh"),
        (transformer, ", add=through_residual)", ")"),
    ],
)
def test_a_dropped_term_is_caught(monkeypatch, make_it, line, replacement):
    thing, parameters = make_it()
    x = normal(0, 2, 2, 3, 4) if make_it is transformer else normal(0, 2, 6, 4)
    assert_caught(monkeypatch, thing, parameters, inputs(x), line, replacement, directions=2)


def test_a_context_that_is_dropped_by_one_block_is_caught(monkeypatch):
    thing, parameters = transformer(depth=2)
    line, replacement = "dcontext + through_block", "dcontext"
    assert_caught(monkeypatch, thing, parameters, inputs(normal(0, 2, 2, 3, 4)), line, replacement, directions=2)


def test_padding_changes_nothing():
    thing, _ = transformer()
    x, context = normal(0, 2, 2, 3, 4), normal(1, 2, 5, 3)
    length = np.array([2, 4])
    y, cache = thing.forward(x, context, length)
    context[0, 2:], context[1, 4:] = 100, -100
    assert_close(thing.forward(x, context, length)[0], y)
    _, dcontext, _ = thing.backward(normal(2, 2, 2, 3, 4), cache)
    assert not dcontext[0, 2:].any() and not dcontext[1, 4:].any() and dcontext[0, :2].all()


def test_it_begins_as_the_identity():
    thing, parameters = transformer()
    parameters.initialise(0)
    x = normal(0, 2, 2, 3, 4)
    assert np.array_equal(thing.forward(x, normal(1, 2, 5, 3))[0], x)


def test_bad_head_width():
    with pytest.raises(ValueError, match="head_width must divide the 4 channels it attends over, got 3"):
        make(lambda p: TransformerBlock(p, "block", 4, 3, head_width=3))
