import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_caught, assert_close, check_op, normal, ones, seeds
from tinydiff.ops import gaussian_sample
from tinydiff.ops.gaussian_sample import HIGH, LOW


@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3), Z=st.integers(1, 3), seed=seeds)
def test_gradient(shape, Z, seed):
    moments, eps = normal(seed, *shape, 2 * Z), normal(seed + 1, *shape, Z)
    check_op(gaussian_sample, {"moments": moments, "eps": eps}, seed=seed)
    mean, logvar = moments[..., :Z], moments[..., Z:]
    assert_close(gaussian_sample.forward(moments, eps)[0], mean + np.exp(logvar / 2) * eps)


@pytest.mark.parametrize(
    "line, replacement",
    [
        ("dmean = dy", "dmean = 0 * dy"),
        ("dstd * std / 2", "dstd * std"),
        ("dstd = dy * eps", "dstd = dy"),
        ("dy * std", "dy"),
        (" * (v == logvar)", ""),
    ],
)
def test_a_dropped_term_is_caught(line, replacement):
    moments = np.concatenate([normal(0, 2, 3, 2), 32 * normal(1, 2, 3, 2)], axis=-1)
    assert_caught(gaussian_sample, {"moments": moments, "eps": normal(2, 2, 3, 2)}, {}, line, replacement)


def test_a_sample_has_the_moments_it_was_given():
    moments = np.broadcast_to(np.array([3.0, -1.0, np.log(4.0), np.log(0.25)]), (100_000, 4))
    y, _ = gaussian_sample.forward(np.ascontiguousarray(moments), normal(0, 100_000, 2))
    assert np.allclose(y.mean(axis=0), [3, -1], atol=5 * 2 / np.sqrt(1e5))
    assert np.allclose(y.std(axis=0), [2, 0.5], rtol=5 / np.sqrt(2e5))


def test_the_logarithm_of_the_variance_is_cut_off(backend):
    """At both ends: not at the bounds themselves, where the gradient goes on."""
    logvar = np.array([LOW, LOW - 1, -np.inf, HIGH, HIGH + 1, 1e30], np.float32)
    moments = np.concatenate([np.zeros(6, np.float32), logvar])[None]
    y, cache = backend.gaussian_sample.forward(moments, ones(1, 6))
    expected = np.exp(np.array([LOW] * 3 + [HIGH] * 3) / 2)
    assert np.allclose(y, expected, rtol=1e-5, atol=0)
    dmoments, deps = backend.gaussian_sample.backward(ones(1, 6), cache)
    assert np.array_equal(dmoments[0, :6], np.ones(6))
    inside = np.array([True, False, False, True, False, False])
    assert np.allclose(dmoments[0, 6:], expected / 2 * inside, rtol=1e-5, atol=0)
    assert np.allclose(deps, expected, rtol=1e-5, atol=0)


def test_not_a_number_stays_one(backend):
    for bad in (0, 2):
        moments = ones(1, 4)
        moments[0, bad] = np.nan
        y, cache = backend.gaussian_sample.forward(moments, ones(1, 2))
        assert np.isnan(y).tolist() == [[True, False]]
        dmoments, _ = backend.gaussian_sample.backward(ones(1, 2), cache)
        assert np.isnan(dmoments).tolist() == [[False, False, bad == 2, False]]


def test_the_gradient_of_the_noise_can_be_left_out(backend):
    _, cache = backend.gaussian_sample.forward(ones(2, 3, 4), ones(2, 3, 2))
    dy = normal(0, 2, 3, 2, dtype=np.float32)
    dmoments, deps = backend.gaussian_sample.backward(dy, cache, moments_only=True)
    assert deps is None and np.array_equal(dmoments, backend.gaussian_sample.backward(dy, cache)[0])


def test_bad_shapes(backend):
    forward = backend.gaussian_sample.forward
    with pytest.raises(ValueError, match=r"gaussian_sample: moments must have shape \(N, ..., 2 Z\), got \(2, 3\)"):
        forward(ones(2, 3), ones(2, 1))
    with pytest.raises(ValueError, match=r"gaussian_sample: moments must have shape \(N, ..., 2 Z\), got \(4,\)"):
        forward(ones(4), ones(2))
    with pytest.raises(ValueError, match=r"gaussian_sample: eps must have shape \(2, 2\), got \(2, 4\)"):
        forward(ones(2, 4), ones(2, 4))
    with pytest.raises(ValueError, match=r"gaussian_sample: moments must not be empty, got shape \(0, 4\)"):
        forward(ones(0, 4), ones(0, 2))
