import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_caught, assert_close, check_op, normal, ones, seeds
from tinydiff.ops import mse_loss


@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=4), weighted=st.booleans(), seed=seeds)
def test_gradient(shape, weighted, seed):
    p, y = normal(seed, *shape), normal(seed + 1, *shape)
    weight = np.abs(normal(seed + 2, shape[0])) if weighted else None
    check_op(mse_loss, {"prediction": p, "target": y, "weight": weight}, seed=seed)
    factor = weight.reshape(-1, *[1] * (len(shape) - 1)) if weighted else 1
    assert_close(mse_loss.forward(p, y, weight)[0], np.mean(factor * (p - y) ** 2))


@pytest.mark.parametrize(
    "line, replacement",
    [("2 * mean", "mean"), ("-dprediction,", "dprediction,"), ("error *= weight", "error *= 0 + 0 * weight")],
)
def test_a_dropped_term_is_caught(line, replacement):
    inputs = {"prediction": normal(0, 2, 3), "target": normal(1, 2, 3), "weight": np.array([0.5, 2.0])}
    assert_caught(mse_loss, inputs, {}, line, replacement)


def test_bad_shapes(backend):
    with pytest.raises(ValueError, match=r"target must have shape \(2, 3\), got \(2, 2\)"):
        backend.mse_loss.forward(ones(2, 3), ones(2, 2))
    with pytest.raises(ValueError, match=r"weight must have shape \(2,\), got \(3,\)"):
        backend.mse_loss.forward(ones(2, 3), ones(2, 3), ones(3))
