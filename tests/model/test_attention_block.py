import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import normal, seeds
from tests.model.checks import assert_caught, check, make
from tinydiff.model.attention_block import AttentionBlock


def block(C, head_width, groups, seed=0):
    return make(lambda p: AttentionBlock(p, "attention", C, head_width=head_width, groups=groups, eps=1e-5), seed)


@given(N=st.integers(1, 2), H=st.integers(1, 3), W=st.integers(2, 3), heads=st.integers(1, 3), seed=seeds)
def test_gradient(N, H, W, heads, seed):
    C = 2 * heads
    attention, parameters = block(C, 2, 1, seed)
    check(attention, parameters, {"x": normal(seed, N, H, W, C)}, seed=seed)


@pytest.mark.parametrize(
    "line, replacement",
    [
        (", add=through_residual)", ")"),
        ("through_v + through_k", "through_v"),
        (" + through_q", ""),
        ("self.to_v.backward(dv", "self.to_v.backward(dk"),
    ],
)
def test_a_dropped_term_is_caught(monkeypatch, line, replacement):
    attention, parameters = block(4, 2, 2)
    assert_caught(monkeypatch, attention, parameters, {"x": normal(0, 2, 2, 3, 4)}, line, replacement)


def test_bad_head_width():
    with pytest.raises(ValueError, match="head_width must divide the 4 channels it attends over, got 3"):
        block(4, 3, 2)
