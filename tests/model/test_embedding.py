import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import seeds
from tests.model.checks import assert_caught, check, make
from tinydiff.gradcheck.subjects import AtStep
from tinydiff.model.embedding import StepEmbedding


def embedding(N=3, classes=2, W=4, seed=0):
    """At N random steps, labels, the null label among them, and guidances."""
    rng = np.random.default_rng(seed)
    thing, parameters = make(lambda p: StepEmbedding(p, 4, 6, classes, W), seed)
    told = {"guidance": rng.uniform(0, 4, N)} if W else {}
    labels = rng.integers(0, classes + 1, N) if classes else None
    return AtStep(thing, rng.uniform(0, 100, N), labels, **told), parameters


@given(N=st.integers(1, 4), classes=st.integers(0, 3), W=st.sampled_from((0, 2, 6)), seed=seeds)
def test_gradient(N, classes, W, seed):
    check(*embedding(N, classes, W, seed), {}, seed=seed)


@pytest.mark.parametrize(
    "line, replacement",
    [
        ("dh = self.backend.silu.backward(dh, cache.silu)", "pass"),
        ("self.class_embedding.backward(dembedding, cache.class_embedding)", "pass"),
        ("self.linear_1.backward(dh, cache.linear_1)", "self.linear_1.backward(0 * dh, cache.linear_1)"),
        ("self.cond_proj.backward(dwaves, cache.cond_proj)", "self.cond_proj.backward(0 * dwaves, cache.cond_proj)"),
    ],
)
def test_a_dropped_term_is_caught(monkeypatch, line, replacement):
    assert_caught(monkeypatch, *embedding(), {}, line, replacement)


def test_labels_are_given_exactly_when_there_are_classes():
    for classes in (0, 2):
        thing, _ = embedding(classes=classes, W=0)
        with pytest.raises(ValueError, match="labels must be given exactly when the model has classes"):
            thing.thing.forward(thing.step, None if classes else np.zeros(3, int))


def test_guidance_is_given_exactly_when_the_model_is_told_it():
    for W in (0, 4):
        thing, _ = embedding(W=W)
        with pytest.raises(ValueError, match="guidance must be given exactly when the model is told it"):
            thing.thing.forward(thing.step, thing.labels, None if W else np.ones(3))


def test_it_begins_as_one_that_is_not_told():
    thing, parameters = make(lambda p: StepEmbedding(p, 4, 6, 2, 4), 0)
    parameters.initialise(0)
    step, labels = np.array([3.0, 8.0]), np.array([0, 2])
    one, other = (thing.forward(step, labels, np.array(guidance))[0] for guidance in ([0.0, 1.0], [2.0, 3.5]))
    assert np.array_equal(one, other) and np.any(one)
