import numpy as np
import pytest

from tests.checks import assert_caught, check_op, normal
from tinydiff.metrics import cross_entropy


def test_gradient():
    check_op(cross_entropy, {"logits": normal(0, 5, 4), "labels": np.array([0, 3, 1, 1, 2])})


@pytest.mark.parametrize(
    "line",
    [
        "dlogits[np.arange(len(cache.labels)), cache.labels] -= 1",
        "dlogits *= dlogits.dtype.type(dloss / len(cache.labels))",
    ],
)
def test_a_dropped_term_is_caught(line):
    inputs = {"logits": normal(0, 5, 4), "labels": np.array([0, 3, 1, 1, 2])}
    assert_caught(cross_entropy, inputs, {}, line, "pass")


def test_of_equal_logits_it_is_the_logarithm_of_the_classes():
    loss, _ = cross_entropy.forward(np.zeros((3, 10)), np.array([1, 2, 3]))
    assert abs(loss - np.log(10)) < 1e-15


def test_large_logits_do_not_overflow():
    logits = np.array([[1e4, 0.0], [1e4, 0.0]], np.float32)
    loss, cache = cross_entropy.forward(logits, np.array([0, 1]))
    assert loss == 5e3 and cross_entropy.backward(1.0, cache)[0].dtype == np.float32


@pytest.mark.parametrize(
    "logits, labels, message",
    [
        (np.zeros((2, 3)), np.array([0]), r"labels \(N,\), got \(2, 3\) and \(1,\)"),
        (np.zeros((2, 3)), np.array([0, 3]), r"labels must lie in \[0, 3\), got 0 .. 3"),
    ],
)
def test_bad_arguments(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        cross_entropy.forward(logits, labels)
