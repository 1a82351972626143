import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_caught, check_op, normal, ones, seeds
from tinydiff.ops import class_embedding


@given(K=st.integers(1, 5), E=st.integers(1, 4), N=st.integers(1, 8), seed=seeds)
def test_gradient(K, E, N, seed):
    table, labels = normal(seed, K, E), np.random.default_rng(seed).integers(0, K, N)
    check_op(class_embedding, {"table": table, "labels": labels}, seed=seed)
    assert np.array_equal(class_embedding.forward(table, labels)[0], table[labels])


def test_a_label_seen_twice_must_count_twice():
    inputs = {"table": normal(0, 3, 2), "labels": np.array([1, 1, 0])}
    assert_caught(class_embedding, inputs, {}, "dtable = onehot.T @ dy", "dtable = onehot.T @ dy; dtable[labels] = dy")


@pytest.mark.parametrize(
    "labels, message",
    [
        (np.array([0, 3]), r"labels must lie in \[0, 3\), got 0 .. 3"),
        (np.array([-1]), r"labels must lie in \[0, 3\)"),
        (np.array([0.0]), "labels must be a non-empty integer array"),
        (np.array([], int), "labels must be a non-empty integer array"),
        (np.array([[0]]), "labels must be a non-empty integer array"),
    ],
)
def test_bad_labels(backend, labels, message):
    with pytest.raises(ValueError, match=message):
        backend.class_embedding.forward(ones(3, 2), labels)
