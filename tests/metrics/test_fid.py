import hashlib

import numpy as np
import pytest

from tests.checks import broken, normal
from tinydiff.files import cache_dir
from tinydiff.metrics import SaysNothing
from tinydiff.metrics import fid as module
from tinydiff.metrics.fid import FeatureNet, Statistics, cached_statistics, fid, frechet_distance, statistics


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def pixels(fingerprint="a", asked=None):
    """A net whose features are the pixels, squashed; notes how many images it was asked about."""

    def features(images):
        if asked is not None:
            asked.append(len(images))
        return np.tanh(images.reshape(len(images), -1))

    return FeatureNet("pixels", fingerprint, features)


def images(seed, n, shift=0.0):
    return (normal(seed, n, 3, 3, 1) + shift).astype(np.float32)


def gaussian(seed, F, rank=None):
    mixing = normal(seed, rank or F, F)
    return Statistics(100, normal(seed + 1, F), mixing.T @ mixing)


@pytest.mark.parametrize("rank", [None, 5])
def test_agrees_with_the_square_root_of_the_product(rank):
    """The formula as it is in print, with SciPy's root of a matrix that is not symmetric; 5 is rank-deficient."""
    linalg = pytest.importorskip("scipy.linalg")
    a, b = gaussian(0, 12, rank), gaussian(5, 12)
    root = linalg.sqrtm(a.covariance @ b.covariance).real
    difference = a.mean - b.mean
    printed = difference @ difference + np.trace(a.covariance + b.covariance - 2 * root)
    assert abs(frechet_distance(a, b) / printed - 1) < (1e-10 if rank is None else 1e-5)
    dropped = broken(frechet_distance, "difference @ difference + ")
    assert abs(dropped(a, b) / printed - 1) > 0.01


def test_distances_that_are_known():
    a = gaussian(0, 6)
    assert abs(frechet_distance(a, a)) < 1e-10
    moved = a._replace(mean=a.mean + 2.0)
    assert abs(frechet_distance(a, moved) - 24) < 1e-9
    diagonal = [Statistics(9, np.zeros(3), np.diag(np.square(std))) for std in ([1.0, 2.0, 3.0], [2.0, 2.0, 5.0])]
    assert abs(frechet_distance(*diagonal) - (1 + 0 + 4)) < 1e-12  # the standard deviations as points


def test_statistics():
    x = images(0, 50)
    made = statistics(x, pixels())
    features = np.tanh(x.reshape(50, 9)).astype(np.float64)
    assert made.n == 50 and np.allclose(made.mean, features.mean(axis=0))
    assert np.allclose(made.covariance, np.cov(features.T))
    assert statistics(x, FeatureNet("one", "", lambda x: x.mean(axis=(1, 2)))).covariance.shape == (1, 1)


def test_invariant_to_batch_size():
    whole = fid(images(0, 40), images(1, 60), images(2, 50), pixels("whole"))
    for batch in (1, 7, 40):
        again = fid(images(0, 40), images(1, 60), images(2, 50), pixels(str(batch)), batch=batch)
        assert abs(again.value - whole.value) < 1e-12 and abs(again.floor - whole.floor) < 1e-12


def test_it_is_told_with_its_conditions():
    result = fid(images(0, 40, shift=1.0), images(1, 60), images(2, 50), pixels())
    assert result.n == 40 and result.floor_n == 40 and result.real_n == 60
    assert result.value > 3 * result.floor > 0
    for words in ("n = 40 against 60 training images", "floor", "of 40 test images", "pixels"):
        assert words in str(result)


def test_without_held_out_images_there_is_no_floor():
    result = fid(images(0, 40), images(1, 60), None, pixels())
    assert result.value == fid(images(0, 40), images(1, 60), images(2, 50), pixels()).value
    assert (result.floor, result.floor_n) == (None, 0) and "no floor, as no images were held out" in str(result)


@pytest.mark.parametrize(
    "samples, train, test, message",
    [
        (9, 60, 50, "FID of 9 features needs more than 9 samples, got 9"),
        (40, 9, 50, "FID of 9 features needs more than 9 training images, got 9"),
        (40, 60, 9, "FID of 9 features needs more than 9 test images, got 9"),
        (40, 1, 50, "need at least 2 images, got 1"),
    ],
)
def test_no_value_that_says_nothing(samples, train, test, message):
    with pytest.raises(SaysNothing, match=message):
        fid(images(0, samples), images(1, train), images(2, test), pixels())
    assert fid(images(0, 10), images(1, 10), images(2, 10), pixels()).floor_n == 10


def test_statistics_of_real_data_are_kept():
    asked, real = [], images(1, 60)
    first = cached_statistics(real, pixels(asked=asked))
    second = cached_statistics(real, pixels(asked=asked))
    assert asked == [60] and all(np.array_equal(a, b) for a, b in zip(first, second))
    cached_statistics(real, pixels("other weights", asked))
    cached_statistics(images(2, 60), pixels(asked=asked))  # other images of the same shape
    assert asked == [60, 60, 60]


def test_they_are_kept_by_the_content_of_all_images_whatever_the_batch():
    real = images(1, 60)
    for kind in (real, np.asfortranarray(real)):
        cached_statistics(kind, pixels(), batch=7)
    digest = hashlib.sha256(str((real.dtype, real.shape)).encode() + real.tobytes()).hexdigest()[:16]
    assert [path.name for path in cache_dir("statistics").iterdir()] == [f"a-{digest}.safetensors"]


def test_a_damaged_cache_or_none_at_all_costs_only_time(monkeypatch, tmp_path):
    real = images(1, 60)
    first = cached_statistics(real, pixels())
    [kept] = cache_dir("statistics").iterdir()
    kept.write_bytes(b"damaged")
    asked = []
    assert np.array_equal(cached_statistics(real, pixels(asked=asked)).mean, first.mean) and asked == [60]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert np.array_equal(cached_statistics(real, pixels()).mean, first.mean)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: statistics(images(0, 1), pixels()), "need at least 2 images, got 1"),
        (lambda: frechet_distance(gaussian(0, 3), gaussian(0, 4)), r"as many on both sides, got \(3,\) and \(4,\)"),
        (
            lambda: statistics(images(0, 4), FeatureNet("mine", "", lambda x: x * np.nan)),
            r"mine must give finite features \(N, F\)",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_module_needs_no_scipy():
    assert "scipy" not in module.__dict__
