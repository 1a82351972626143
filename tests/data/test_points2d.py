import numpy as np
import pytest

from tests.checks import assert_close, broken, normal
from tinydiff.data import points2d
from tinydiff.data.points2d import MIXTURE, Mixture

LEVELS = [(1.0, 0.0), (0.8, 0.6), (0.05, 0.999)]  # signal and noise rates


@pytest.mark.parametrize("name", points2d.SHAPES)
def test_sets(name):
    data = points2d.load(name, 2000)
    assert data.images.shape == (2000, 2) and data.images.dtype == np.float32 and data.name == name
    assert np.bincount(data.labels, minlength=data.classes).min() > 100
    assert np.abs(data.images).max() < 1.3 and data.images.std(axis=0).min() > 0.25
    later = points2d.load(name, 5, first=100)
    assert np.array_equal(later.images, data.images[100:105]) and np.array_equal(later.labels, data.labels[100:105])
    assert not np.array_equal(points2d.load(name, 2000, seed=1).images, data.images)


def test_shapes_are_what_they_are_called():
    def load(name):
        data = points2d.load(name, 2000)
        return data.images.astype(float), data.labels

    points, labels = load("ring")
    assert abs(np.hypot(*points.T) - 0.8).max() < 0.25
    assert np.array_equal(labels, (np.arctan2(points[:, 1], points[:, 0]) % (2 * np.pi) // (np.pi / 2)).astype(int))

    points, labels = load("two_moons")
    assert points[labels == 0, 1].mean() > 0.2 and points[labels == 1, 1].mean() < -0.2
    inside = points[(labels == 0) & (points[:, 0] > 0.2)]  # the end of the upper moon hangs into the lower one
    assert inside[:, 1].min() < 0.05

    points, labels = load("checkerboard")
    column, row = ((points + 1) * 2).astype(int).T
    assert ((column + row) % 2 == 0).all()
    assert len(set(zip(column, row, labels))) == 8

    points, labels = load("spiral")
    turned = points * np.where(labels, -1, 1)[:, None]  # onto the first arm
    turn = np.arctan2(turned[:, 1], turned[:, 0]) / (2 * np.pi)
    off = (1.25 * np.hypot(*points.T) / 0.95 - turn + 0.5) % 1 - 0.5
    assert np.abs(off)[np.hypot(*points.T) > 0.4].max() < 0.25

    points, labels = load("pinwheel")
    radius = np.hypot(*points.T)
    straight = np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi) - 0.2 * (radius - 0.55)
    assert np.array_equal(np.round(5 * straight[radius > 0.35]) % 5, labels[radius > 0.35])


def test_points_of_the_mixture_have_its_density():
    """The share of points in each cell of a grid, against the density integrated over the cell."""
    points = points2d.load("mixture", 20_000).images
    counts = np.histogram2d(*points.T, bins=24, range=[[-1.2, 1.2]] * 2)[0]
    fine = (np.arange(24 * 8) + 0.5) / (24 * 8) * 2.4 - 1.2
    density = MIXTURE.density(np.stack(np.meshgrid(fine, fine, indexing="ij"), axis=-1).reshape(-1, 2))
    expected = 20_000 * (density.reshape(24, 8, 24, 8).sum(axis=(1, 3)) * (2.4 / 24 / 8) ** 2)
    assert abs(expected.sum() / 20_000 - 1) < 1e-3
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected) + 5)


@pytest.mark.parametrize("a, s", LEVELS)
def test_score_is_the_gradient_of_the_log_density(a, s):
    x, h = a * MIXTURE.means[:, None] + 0.2 * normal(0, 6, 10, 2), 1e-5
    x = x.reshape(-1, 2)
    slopes = [
        (MIXTURE.log_density(x + step, a, s) - MIXTURE.log_density(x - step, a, s)) / (2 * h) for step in h * np.eye(2)
    ]
    assert_close(MIXTURE.score(x, a, s), np.stack(slopes, axis=1), 1e-7)


@pytest.mark.parametrize("a, s", LEVELS)
def test_denoiser_and_score_are_one(a, s):
    """Tweedie's formula, which neither of the two was computed by."""
    x = normal(1, 50, 2)
    assert_close(a * MIXTURE.denoise(x, a, s), x + s**2 * MIXTURE.score(x, a, s), 1e-11)


def test_a_denoiser_that_is_off_is_seen_by_its_score():
    x, a, s = normal(1, 50, 2), 0.8, 0.6
    off = broken(Mixture.denoise, "self.means + a", "self.means + 1.1 * a")
    assert not np.allclose(a * off(MIXTURE, x, a, s), x + s**2 * MIXTURE.score(x, a, s), atol=1e-3)


def test_denoiser_is_the_mean_of_what_the_noise_may_hide():
    """E[x0 | x] by drawing x0 and weighing each by the density of the noise that would lead to x."""
    a, s, x = 0.8, 0.6, np.array([[0.3, 0.5]])
    x0, _ = MIXTURE.draw(np.random.default_rng(0).random((200_000, 1)), normal(2, 200_000, 2))
    weight = np.exp(-((x - a * x0) ** 2).sum(axis=1) / (2 * s**2))
    mean = weight @ x0 / weight.sum()
    assert np.abs(MIXTURE.denoise(x, a, s)[0] - mean).max() < 0.01


def test_a_component_is_the_data_of_its_class():
    data = points2d.load("mixture", 5000)
    alone = MIXTURE.component(2)
    assert np.abs(data.images[data.labels == 2].mean(axis=0) - alone.means[0]).max() < 0.02
    assert_close(alone.denoise(np.zeros((1, 2)), 0.0, 1.0), alone.means)  # nothing but noise: the mean


def test_density_far_away_does_not_underflow():
    assert MIXTURE.log_density(np.array([[50.0, 0.0]]))[0] < -1e4
    assert np.isfinite(MIXTURE.score(np.array([[50.0, 0.0]]))).all()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: points2d.load("star"), "points must be one of mixture, ring, .*, got 'star'"),
        (lambda: points2d.load("ring", 0), "count must be at least 1, got 0"),
        (lambda: Mixture([1], [0, 0], np.eye(2)), r"means must have shape \(K, D\), got \(2,\)"),
        (lambda: Mixture([1, 0], np.eye(2), [np.eye(2)] * 2), "weights must be 2 positive numbers"),
        (lambda: Mixture([1], [[0, 0]], np.eye(2)), r"covariances must have shape \(1, 2, 2\)"),
        (lambda: Mixture([1], [[0, 0]], [-np.eye(2)]), "covariances must be symmetric and positive definite"),
        (lambda: Mixture([1], [[0, 0]], [[[1, 1], [0, 1]]]), "covariances must be symmetric"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
