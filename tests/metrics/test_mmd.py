import numpy as np
import pytest

from tests.checks import broken, normal
from tinydiff.metrics import SaysNothing
from tinydiff.metrics import mmd as module
from tinydiff.metrics.mmd import median_bandwidths, mmd, squared_mmd


def by_double_loop(x, y, bandwidths):
    """MMD^2 term by term, as the formula is written."""

    def kernel(u, v):
        return np.mean([np.exp(-np.sum((u - v) ** 2) / (2 * h**2)) for h in bandwidths])

    def mean(pairs):
        return np.mean([kernel(u, v) for u, v in pairs])

    within_x = mean((u, v) for i, u in enumerate(x) for j, v in enumerate(x) if i != j)
    within_y = mean((u, v) for i, u in enumerate(y) for j, v in enumerate(y) if i != j)
    return within_x + within_y - 2 * mean((u, v) for u in x for v in y)


def test_agrees_with_a_double_loop():
    x, y = normal(0, 17, 3), 0.3 + normal(1, 23, 3)
    bandwidths = [0.7, 1.5, 3.0]
    assert abs(squared_mmd(x, y, bandwidths) - by_double_loop(x, y, bandwidths)) < 1e-14
    biased = broken(squared_mmd, "/ (n * (n - 1))", "/ (n * n)")
    assert abs(biased(x, y, bandwidths) - by_double_loop(x, y, bandwidths)) > 1e-3


def test_bandwidths_are_multiples_of_the_median_distance():
    x = normal(0, 30, 2)
    distances = [np.linalg.norm(u - v) for i, u in enumerate(x) for v in x[:i]]
    assert np.allclose(median_bandwidths(x), np.median(distances) * np.array([0.5, 1, 2]))


def test_invariant_to_batch_size():
    x, y = normal(0, 101, 4), normal(1, 230, 4)
    whole = mmd(x, y)
    for batch in (1, 7, 100, 1000):
        assert np.allclose(np.hstack(mmd(x, y, batch=batch)), np.hstack(whole), rtol=0, atol=1e-14)


def test_unbiased():
    """The mean over many pairs of sets from one distribution is 0, within 4 standard errors."""
    rng = np.random.default_rng(0)
    values = [squared_mmd(rng.normal(size=(12, 2)), rng.normal(size=(9, 2)), [0.5, 1, 2]) for _ in range(2000)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))
    assert np.min(values) < 0


def test_the_floor_is_what_splits_of_the_real_data_give(monkeypatch):
    """The quadratic form, against the two halves taken apart and compared as sets."""
    monkeypatch.setattr(module, "SPLITS", 5)
    real, bandwidths = normal(0, 20, 2), [0.5, 1.0, 2.0]
    splits = module._splits(real, bandwidths, np.random.default_rng(3), batch=6)
    rng, half = np.random.default_rng(3), np.concatenate([np.ones(10), -np.ones(10)])
    for split in splits:
        sign = rng.permutation(half)
        assert abs(split - squared_mmd(real[sign > 0], real[sign < 0], bandwidths)) < 1e-14


def test_the_band_tells_the_same_from_the_different():
    real = normal(0, 600, 2)
    low, high = mmd(normal(1, 300, 2), real).band
    same = [squared_mmd(normal(seed, 300, 2), real[:300], median_bandwidths(real)) for seed in range(2, 12)]
    assert sum(low <= value <= high for value in same) >= 7
    assert mmd(normal(1, 300, 2) * 1.3, real).value > high
    assert mmd(normal(1, 300, 2) + 0.3, real).value > high


def test_real_data_decide_the_size_and_images_are_points():
    images = normal(0, 11, 4, 4, 1)
    result = mmd(normal(1, 20, 4, 4, 1), images)
    assert result.n == 5
    assert "n = 5 in each set" in str(result) and "95 % of them" in str(result)


@pytest.mark.parametrize(
    "samples, real, message",
    [
        (normal(0, 4, 2), normal(0, 90, 2), "MMD needs at least 5 samples and 10 real points, got 4 and 90"),
        (normal(0, 90, 2), normal(0, 9, 2), "MMD needs at least 5 samples and 10 real points, got 90 and 9"),
        (normal(0, 9, 2), np.ones((90, 2)), "the median distance between two of them is 0"),
    ],
)
def test_no_value_that_says_nothing(samples, real, message):
    with pytest.raises(SaysNothing, match=message):
        mmd(samples, real)


@pytest.mark.parametrize(
    "samples, real, message",
    [
        (normal(0, 9, 3), normal(0, 10, 2), "both sets must hold at least 2 points of one shape"),
        (np.full((9, 2), np.nan), normal(0, 9, 2), "samples must be finite points"),
        (normal(0, 9, 2), np.ones(9), r"real must be finite points of shape \(n, ...\)"),
    ],
)
def test_bad_arguments(samples, real, message):
    with pytest.raises(ValueError, match=message):
        mmd(samples, real)
