import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_caught, assert_close, check_op, normal, ones, seeds
from tinydiff.ops import l1_loss


def apart(seed, *shape):
    """A prediction and a target that differ everywhere, as the slope jumps where they do not."""
    target, error = normal(seed, *shape), normal(seed + 1, *shape)
    return target + error + 0.1 * np.sign(error), target


@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=4), weighted=st.booleans(), seed=seeds)
def test_gradient(shape, weighted, seed):
    p, y = apart(seed, *shape)
    weight = np.abs(normal(seed + 2, shape[0])) if weighted else None
    check_op(l1_loss, {"prediction": p, "target": y, "weight": weight}, seed=seed)
    factor = weight.reshape(-1, *[1] * (len(shape) - 1)) if weighted else 1
    assert_close(l1_loss.forward(p, y, weight)[0], np.mean(factor * np.abs(p - y)))


@pytest.mark.parametrize(
    "line, replacement",
    [("np.sign(error)", "error"), ("-dprediction,", "dprediction,"), ("slope *= weight", "slope *= 0 + 0 * weight")],
)
def test_a_dropped_term_is_caught(line, replacement):
    p, y = apart(0, 2, 3)
    assert_caught(l1_loss, {"prediction": p, "target": y, "weight": np.array([0.5, 2.0])}, {}, line, replacement)


def test_where_there_is_no_error_there_is_no_slope(backend):
    p, y = np.array([[1, 2, -3, np.nan]], np.float32), np.array([[1, 1, 1, 1]], np.float32)
    loss, cache = backend.l1_loss.forward(p, y)
    assert np.isnan(loss)
    dprediction, dtarget, dweight = backend.l1_loss.backward(2.0, cache)
    assert np.array_equal(dprediction, [[0, 0.5, -0.5, np.nan]], equal_nan=True) and dweight is None
    assert np.array_equal(dtarget, -dprediction, equal_nan=True)


def test_bad_shapes(backend):
    with pytest.raises(ValueError, match=r"l1_loss: target must have shape \(2, 3\), got \(2, 2\)"):
        backend.l1_loss.forward(ones(2, 3), ones(2, 2))
    with pytest.raises(ValueError, match=r"l1_loss: weight must have shape \(2,\), got \(3,\)"):
        backend.l1_loss.forward(ones(2, 3), ones(2, 3), ones(3))
