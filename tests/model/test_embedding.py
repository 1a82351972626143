import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import seeds
from tests.model.checks import assert_caught, check, make
from tinydiff.gradcheck.subjects import AtStep
from tinydiff.model.embedding import StepEmbedding


def embedding(N=3, classes=2, seed=0):
    """At N random steps and labels, the null label among them."""
    rng = np.random.default_rng(seed)
    thing, parameters = make(lambda p: StepEmbedding(p, 4, 6, classes), seed)
    return AtStep(thing, rng.uniform(0, 100, N), rng.integers(0, classes + 1, N) if classes else None), parameters


@given(N=st.integers(1, 4), classes=st.integers(0, 3), seed=seeds)
def test_gradient(N, classes, seed):
    check(*embedding(N, classes, seed), {}, seed=seed)


@pytest.mark.parametrize(
    "line, replacement",
    [
        ("dh = self.backend.silu.backward(dh, cache.silu)", "pass"),
        ("self.class_embedding.backward(dembedding, cache.class_embedding)", "pass"),
        ("self.linear_1.backward(dh, cache.linear_1)", "self.linear_1.backward(0 * dh, cache.linear_1)"),
    ],
)
def test_a_dropped_term_is_caught(monkeypatch, line, replacement):
    assert_caught(monkeypatch, *embedding(), {}, line, replacement)


def test_labels_are_given_exactly_when_there_are_classes():
    for classes in (0, 2):
        thing, _ = embedding(classes=classes)
        with pytest.raises(ValueError, match="labels must be given exactly when the model has classes"):
            thing.thing.forward(thing.step, None if classes else np.zeros(3, int))
