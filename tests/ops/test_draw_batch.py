import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydiff.ops import draw_batch

OPTIONS = dict(batch=8, noise_steps=32, classes=3, dropout=0.25, seed=5)


def drawn(labels, number, op=draw_batch, **changes):
    return op.forward(np.asarray(labels), np.array([number]), **{**OPTIONS, **changes})


def orders(n, epochs, seed=0):
    """The orders of so many epochs, (epochs, n)."""
    place, epoch = np.tile(np.arange(n), epochs), np.repeat(np.arange(epochs), n)
    return draw_batch.shuffled(place, epoch, n, seed).reshape(epochs, n)


@given(n=st.one_of(st.integers(1, 70), st.sampled_from([255, 256, 257, 1024, 1025])), seed=st.integers(0, 2**64 - 1))
def test_an_order_holds_every_image_once(n, seed):
    assert np.array_equal(np.sort(orders(n, 3, seed)), np.tile(np.arange(n), (3, 1)))


def test_every_image_comes_to_every_place_as_often_and_beside_every_other():
    n, epochs = 6, 6000
    found = orders(n, epochs)
    counts = np.array([np.bincount(found[:, place], minlength=n) for place in range(n)])
    pairs = np.bincount(n * found[:, 0] + found[:, 1], minlength=n * n).reshape(n, n)[~np.eye(n, dtype=bool)]
    for seen, expected in ((counts, epochs / n), (pairs, epochs / (n * (n - 1)))):
        assert np.abs(seen - expected).max() < 5 * np.sqrt(expected)
    assert len(np.unique(orders(50, 40), axis=0)) == 40  # each epoch has an order of its own
    assert not np.array_equal(orders(50, 1), orders(50, 1, seed=1))


@pytest.mark.parametrize("n, batch", [(20, 8), (8, 8), (3, 8), (1, 2)])
def test_batches_go_through_one_epoch_after_another(n, batch):
    seen = np.concatenate([drawn(np.zeros(n, int), number, batch=batch)[0] for number in range(1, 11)])
    epochs = seen[: len(seen) // n * n].reshape(-1, n)
    assert np.array_equal(np.sort(epochs), np.tile(np.arange(n), (len(epochs), 1)))


def test_the_noise_steps_of_a_batch_are_uniform_and_apart():
    steps = [drawn([0, 1], number)[1] for number in range(1, 41)]
    assert all(np.diff(np.sort(each)).tolist() == [4] * 7 for each in steps)
    assert np.bincount(np.concatenate(steps), minlength=32).min() > 0


def test_labels_go_with_their_images_or_are_dropped_as_often_as_asked():
    labels = np.arange(40) % 3
    index, _, given_labels = drawn(labels, 1, batch=4000)
    dropped = given_labels == 3
    assert np.array_equal(given_labels[~dropped], labels[index][~dropped])
    assert abs(dropped.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 4000)
    assert (drawn(labels, 1, dropout=1)[2] == 3).all() and (drawn(labels, 1, dropout=0)[2] < 3).all()
    assert drawn(labels, 1, classes=0)[2] is None


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"noise_steps": 0}, "noise_steps must be at least 1, got 0"),
        ({"classes": -1}, "classes must be at least 0, got -1"),
        ({"dropout": 1.5}, r"dropout must lie in \[0, 1\], got 1.5"),
        ({"seed": -1}, r"seed must be an integer in \[0, 2\^64\), got -1"),
    ],
)
def test_bad_options(backend, change, message):
    with pytest.raises(ValueError, match=f"draw_batch: {message}"):
        drawn([0, 1], 1, op=backend.draw_batch, **change)


def test_bad_arrays(backend):
    with pytest.raises(ValueError, match=r"draw_batch: labels must be a non-empty integer array of shape \(n,\)"):
        drawn([0.5], 1, op=backend.draw_batch)
    with pytest.raises(ValueError, match=r"draw_batch: number must be a non-empty integer array of shape \(1,\)"):
        drawn([0, 1], 1.0, op=backend.draw_batch)
