import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_caught, assert_close, check_op, normal, ones, seeds
from tinydiff.ops import gaussian_kl
from tinydiff.ops.gaussian_sample import HIGH, LOW


@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3), Z=st.integers(1, 3), seed=seeds)
def test_gradient(shape, Z, seed):
    moments = normal(seed, *shape, 2 * Z)
    check_op(gaussian_kl, {"moments": moments}, seed=seed)
    mean, logvar = moments[..., :Z], moments[..., Z:]
    assert_close(gaussian_kl.forward(moments)[0], np.mean(mean**2 + np.exp(logvar) - 1 - logvar) / 2)


@pytest.mark.parametrize(
    "line, replacement",
    [("2 * half * mean", "half * mean"), ("(np.exp(v) - 1)", "np.exp(v)"), (" * (v == logvar)", "")],
)
def test_a_dropped_term_is_caught(line, replacement):
    moments = np.array([[1, -2, 0.5, -40], [3, 4, 2, -3]])
    assert_caught(gaussian_kl, {"moments": moments}, {}, line, replacement)


def test_it_is_the_integral_it_stands_for():
    """Of p log(p / q) for p = N(mean, var) and q = N(0, 1), of which the mean over the values is taken."""
    mean, var = np.array([1.5, -0.25]), np.array([0.25, 3.0])
    x, width = np.linspace(-20, 20, 400_001, retstep=True)
    p = np.exp(-((x - mean[:, None]) ** 2) / (2 * var[:, None])) / np.sqrt(2 * np.pi * var[:, None])
    log_ratio = -((x - mean[:, None]) ** 2) / (2 * var[:, None]) - np.log(var[:, None]) / 2 + x**2 / 2
    integral = (p * log_ratio).sum(axis=1) * width
    kl, _ = gaussian_kl.forward(np.concatenate([mean, np.log(var)])[None])
    assert_close(kl, integral.mean(), 1e-9)


def test_it_does_not_depend_on_how_many_values_there_are(backend):
    moments = normal(0, 1, 3, 4, dtype=np.float32)
    once, _ = backend.gaussian_kl.forward(moments)
    often, _ = backend.gaussian_kl.forward(np.tile(moments, (5, 2, 1)))
    assert np.allclose(once, often, rtol=1e-6)


def test_it_is_zero_for_unit_normals_alone(backend):
    kl, cache = backend.gaussian_kl.forward(np.zeros((2, 3, 4), np.float32))
    assert kl == 0 and not np.any(backend.gaussian_kl.backward(1.0, cache))


def test_the_logarithm_of_the_variance_is_cut_off(backend):
    """At both ends: not at the bounds themselves, where the gradient goes on."""
    for bound, beyond in ((LOW, LOW - 1), (LOW, -np.inf), (HIGH, HIGH + 1), (HIGH, 1e30)):
        expected = (np.exp(bound) - 1 - bound) / 2
        for logvar in (bound, beyond):
            kl, cache = backend.gaussian_kl.forward(np.array([[0, logvar]], np.float32))
            assert np.allclose(kl, expected, rtol=1e-5)
            dmean, dlogvar = backend.gaussian_kl.backward(2.0, cache)[0]
            assert dmean == 0 and np.allclose(dlogvar, (np.exp(bound) - 1) * (logvar == bound), rtol=1e-5)


def test_not_a_number_stays_one(backend):
    for bad in range(4):
        moments = ones(1, 4)
        moments[0, bad] = np.nan
        kl, cache = backend.gaussian_kl.forward(moments)
        found = np.isnan(backend.gaussian_kl.backward(1.0, cache)[0])
        assert np.isnan(kl) and found.tolist() == [i == bad for i in range(4)]


def test_bad_shapes(backend):
    with pytest.raises(ValueError, match=r"gaussian_kl: moments must have shape \(N, ..., 2 Z\), got \(2, 3\)"):
        backend.gaussian_kl.forward(ones(2, 3))
    with pytest.raises(ValueError, match=r"gaussian_kl: moments must not be empty, got shape \(0, 4\)"):
        backend.gaussian_kl.forward(ones(0, 4))
