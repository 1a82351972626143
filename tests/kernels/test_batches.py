"""draw_batch gives integers, the same on every backend; corrupt draws its own noise, so it has a comparison of its own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_as_good, seeds
from tests.kernels.comparison import assert_same
from tests.kernels.rows import floats
from tinydiff.ops import corrupt, draw_batch


@given(
    n=st.integers(1, 300),
    number=st.integers(1, 10_000),
    options=st.fixed_dictionaries(
        dict(
            batch=st.sampled_from([1, 7, 32, 300]),
            noise_steps=st.integers(1, 1000),
            classes=st.sampled_from([0, 1, 10]),
            dropout=st.sampled_from([0.0, 0.1, 1.0]),
            seed=st.integers(0, 2**64 - 1),
        )
    ),
)
def test_the_same_batch_on_every_backend(kernels, n, number, options):
    labels, number = np.arange(n) % max(1, options["classes"]), np.array([number])
    expected = draw_batch.forward(labels, number, **options)
    for way, _ in kernels.each():
        assert_same(kernels.backend.draw_batch.forward(labels, number, **options), expected, f"draw_batch {way}:")


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    N=st.integers(1, 9),
    of_bytes=st.booleans(),
    seed=seeds,
    threads=st.data(),
)
def test_at_drawn_sizes(kernels, shape, N, of_bytes, seed, threads):
    check(kernels, shape, N, of_bytes, seed, (1, threads.draw(st.sampled_from(kernels.threads[1:]))))


@pytest.mark.parametrize("of_bytes", [True, False], ids=["bytes", "floats"])
def test_many_large_images_as_they_are_and_mirrored(kernels, of_bytes):
    for seed in range(2):
        check(kernels, (28, 28, 3), 20, of_bytes, seed, kernels.threads)


def check(kernels, shape, N, of_bytes, seed, threads):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (4, *shape)).astype(np.uint8) if of_bytes else floats(rng, 4, *shape)
    table, index, step = floats(rng, 6, 5), rng.integers(0, 4, N), rng.integers(0, 6, N)
    draw, random = np.array([rng.integers(0, 2**32)]), dict(seed=int(rng.integers(0, 2**63)))
    random["flip"] = len(shape) == 3 and seed % 3 > 0
    slot = rng.integers(0, 2**32, N) if seed % 2 else None
    truth = corrupt.forward(images, index, step, table.astype(np.float64), draw, slot, **random)
    rival = corrupt.forward(images, index, step, table, draw, slot, **random)
    for way, n in kernels.each(threads):
        actual = kernels.backend.corrupt.forward(images, index, step, table, draw, slot, **random)
        for name, *results in zip(("x", "target", "weight"), actual, truth, rival):
            assert_as_good(*results, entering=np.abs(table).max() * 6, name=f"corrupt {way}: {name}")
        if n == threads[0]:
            first = actual
        assert_same(actual, first, f"corrupt {way}: {n} threads, not {threads[0]}, change")
