import numpy as np
import pytest

from tinydiff.data import strokes


def test_deterministic_and_endless():
    data = strokes.load(30)
    assert data.images.shape == (30, 28, 28, 1) and data.images.dtype == np.uint8
    assert data.labels.tolist() == list(range(10)) * 3
    later = strokes.load(10, first=20)
    assert np.array_equal(later.images, data.images[20:]) and np.array_equal(later.labels, data.labels[20:])
    assert not np.array_equal(strokes.load(30, seed=1).images, data.images)
    assert len(strokes.load(2, first=10**9)) == 2


def test_they_look_like_handwriting_of_mnist_size():
    """Ink, background and position as in MNIST, whose mean is 33.3 and whose digits fill 20 x 20 pixels."""
    images = strokes.load(500).images[..., 0].astype(float)
    assert 25 < images.mean() < 42
    assert images.max(axis=(1, 2)).min() > 200
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    assert border.mean() < 1


def test_digits_differ_from_one_another_more_than_among_themselves():
    """Nearest class mean, from another thousand digits, recognises most of them."""
    known, asked = strokes.load(1000), strokes.load(300, first=5000)
    means = np.stack([known.images[known.labels == digit].mean(axis=0) for digit in range(10)]).reshape(10, -1)
    distance = ((asked.images.reshape(300, 1, -1) - means) ** 2).sum(axis=2)
    assert (distance.argmin(axis=1) == asked.labels).mean() > 0.75


def test_bad_count():
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        strokes.load(0)
