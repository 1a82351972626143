import numpy as np
import pytest

from tests.checks import assert_close
from tinydiff import backends
from tinydiff.noise.guidance import guided

NULL = 10


class Network:
    """Answers with something that depends on x and the label, and counts what it is asked."""

    def __init__(self):
        self.evaluated = 0

    def __call__(self, x, step, labels):
        self.evaluated += len(x)
        return x**2 * step + labels.reshape(-1, 1) + 1.0


def run(guidance):
    network = Network()
    labels = np.array([3, 7], np.int32)
    predict = guided(network, labels, NULL, guidance, backends.get("numpy"))
    return predict(np.array([[1.0, 2.0], [3.0, 4.0]]), 5), network.evaluated


def test_zero_is_unconditional_and_one_is_conditional():
    x, network = np.array([[1.0, 2.0], [3.0, 4.0]]), Network()
    conditional, null = network(x, 5, np.array([3, 7])), network(x, 5, np.array([NULL, NULL]))
    for guidance, expected, evaluations in (
        (0, null, 2),
        (1, conditional, 2),
        (2.5, null + 2.5 * (conditional - null), 4),
    ):
        prediction, evaluated = run(guidance)
        assert_close(prediction, expected)
        assert evaluated == evaluations


def test_it_is_continuous_at_one():
    assert_close(run(1 + 1e-9)[0], run(1)[0], 1e-8)


@pytest.mark.parametrize("guidance", [-1, float("inf"), float("nan")])
def test_bad_guidance(guidance):
    with pytest.raises(ValueError, match="guidance must be a finite number of at least 0"):
        run(guidance)
