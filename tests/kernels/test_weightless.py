"""Arrays without memory: what they are taken for, and how a pool shares memory out."""

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydiff.backends.weightless import UNIT, Pool, WeightlessLauncher


def test_a_pool_joins_what_is_given_back():
    pool = Pool()
    block = pool.take(10 * UNIT)
    pool.give(block)
    parts = [pool.take(size * UNIT) for size in (3, 3, 4)]
    assert pool.held == 10 * UNIT
    for i in (0, 2, 1):  # the one in the middle joins both
        pool.give(parts[i])
    assert pool.take(10 * UNIT).size == 10 * UNIT and pool.held == 10 * UNIT


def test_a_pool_takes_the_smallest_block_that_is_large_enough():
    pool = Pool()
    blocks = {size: pool.take(size * UNIT) for size in (8, 2, 4)}
    for block in blocks.values():
        pool.give(block)
    assert pool.take(3 * UNIT - 5) is blocks[4] and pool.take(2 * UNIT) is blocks[2] and pool.held == 14 * UNIT
    assert pool.take(9 * UNIT).size == 9 * UNIT and pool.held == 23 * UNIT  # blocks of the device never join
    assert pool.take(0).size == UNIT


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=200))
def test_a_pool_gives_nothing_twice(actions):
    """What is taken is as large as was asked for, and blocks in use and free ones are all that is held."""
    pool, taken = Pool(), []
    for take, number in actions:
        if take or not taken:
            taken.append((number * 100, pool.take(number * 100)))
        else:
            pool.give(taken.pop(number % len(taken))[1])
        assert all(block.size >= nbytes and block.number is None for nbytes, block in taken)
        free = sum(size for size, _, _ in pool._free)
        assert free + sum(block.size for _, block in taken) == pool.held
    for _, block in taken:
        pool.give(block)
    assert all(block.before is None and block.after is None for _, _, block in pool._free)


def test_memory_goes_with_the_last_view():
    launcher = WeightlessLauncher()
    x = launcher.empty((4, 6))
    view = x.reshape(2, -1)[:, None]
    assert view.shape == (2, 1, 12) and launcher.live == 96
    del x
    gc.collect()
    assert launcher.live == 96 == launcher.peak
    y = view * np.float32(2) + 1
    assert y.shape == (2, 1, 12) and launcher.live == 192 and launcher.peak == 288
    del view, y
    assert launcher.live == 0


@pytest.mark.parametrize(
    "work",
    [
        lambda x, index: x[1:, ..., :2].copy(),
        lambda x, index: x[index],
        lambda x, index: x.reshape(3, 20).astype(np.float64),
        lambda x, index: 2.0 * x - x[:, :1],
        lambda x, index: x[:, :1] + x,
        lambda x, index: np.float32(0.5) * (x / 3).clip(-1, 1),
        lambda x, index: x[:1].repeat(5, axis=0),
        lambda x, index: x.view(np.int32) + np.int32(1),
    ],
)
def test_arrays_are_as_numpys_would_be(work):
    launcher = WeightlessLauncher()
    x, index = np.ones((3, 4, 5), np.float32), np.array([2, 0])
    made, expected = work(launcher.asarray(x), launcher.asarray(index)), work(x, index)
    assert (made.shape, made.dtype, made.nbytes) == (expected.shape, expected.dtype, expected.nbytes)
    assert (made.ndim, made.size, len(made)) == (expected.ndim, expected.size, len(expected))
