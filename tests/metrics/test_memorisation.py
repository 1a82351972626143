import numpy as np
import pytest

from tests.checks import normal
from tinydiff.data.dataset import bytes_to_signed
from tinydiff.metrics import memorisation as module
from tinydiff.metrics.memorisation import memorisation, nearest


def images(seed, n):
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 1)).astype(np.uint8)


@pytest.mark.parametrize("at_once", [1, 7, 30])
def test_nearest_is_the_nearest(monkeypatch, at_once):
    monkeypatch.setattr(module, "TRAIN_BATCH", at_once)
    x, train = normal(0, 12, 3, 3, 1, dtype=np.float32), normal(1, 30, 3, 3, 1, dtype=np.float32)
    distances = np.sqrt(((x[:, None] - train) ** 2).mean(axis=(2, 3, 4)))
    for batch in (1, 5, 12):
        distance, index = nearest(x, train, batch=batch)
        assert np.array_equal(index, distances.argmin(axis=1))
        assert np.allclose(distance, distances.min(axis=1), rtol=1e-6)
    distance, index = nearest(train[:7], train, skip_itself=True, batch=3)
    assert (index != np.arange(7)).all() and (distance > 0).all()
    for batch in (3, 23):  # the diagonal, which does not count, crosses batches of both
        _, index = nearest(train, train, skip_itself=True, batch=batch)
        among = np.sqrt(((train[:, None] - train) ** 2).mean(axis=(2, 3, 4))) + np.diag(np.full(30, np.inf))
        assert np.array_equal(index, among.argmin(axis=1))


def test_copies_are_found():
    train = images(0, 200)
    distance, index = nearest(bytes_to_signed(train[50:60]), train)
    assert (distance == 0).all() and index.tolist() == list(range(50, 60))
    result = memorisation(bytes_to_signed(train[:40]), train, images(1, 40))
    assert result.near == 1 and result.distance == 0 < result.baseline
    half = np.concatenate([train[:20], images(2, 20)])
    assert 0.5 <= memorisation(half, train, images(1, 40)).near < 0.7


def test_new_images_of_the_same_kind_are_as_far_as_held_out_ones():
    train = images(0, 500)
    result = memorisation(images(1, 300), train, images(2, 300))
    assert abs(result.distance / result.baseline - 1) < 0.05 and result.near < 0.05
    assert "300 test images" in str(result)


def test_without_a_test_set_training_images_are_held_against_the_others():
    train = images(0, 300)
    result = memorisation(images(1, 100), train)
    assert result.baseline > 0 and abs(result.distance / result.baseline - 1) < 0.05
    assert "100 training images (to another)" in str(result)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"images of shape \(3, 4, 4, 1\) cannot be held against .* \(5, 8, 8, 1\)"):
        nearest(images(0, 3), np.zeros((5, 8, 8, 1), np.uint8))
