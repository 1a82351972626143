import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_caught, check_op, normal, ones, same_bits, seeds
from tinydiff.ops import dropout, philox

OPTIONS = {"rate": 0.3, "layer": 2, "seed": 5}


def stays(M, number=1, slot=0, layer=0, seed=0, rate=0.5):
    """Which of M values of a sample stay, as floats."""
    y, _ = dropout.forward(np.ones((1, M)), np.array([number]), np.array([slot]), rate=rate, layer=layer, seed=seed)
    return (y[0] != 0).astype(np.float64)


@given(
    N=st.integers(1, 3),
    shape=st.lists(st.integers(1, 5), max_size=3),
    rate=st.sampled_from([0, 0.1, 0.5, 0.99]),
    has_slot=st.booleans(),
    seed=seeds,
)
def test_gradient(N, shape, rate, has_slot, seed):
    slot = np.random.default_rng(seed).integers(0, 2**32, N) if has_slot else None
    inputs = {"x": normal(seed, N, *shape), "number": np.array([seed]), "slot": slot}
    check_op(dropout, inputs, {"rate": rate, "layer": seed % 2**24, "seed": seed}, seed=seed)


@pytest.mark.parametrize("replacement", ["dy * (_factor(cache) != 0)", "dy / (1 - cache.rate)"], ids=["scale", "mask"])
def test_a_forgotten_scale_or_mask_is_caught(replacement):
    inputs = {"x": normal(0, 2, 9), "number": np.array([3]), "slot": None}
    assert_caught(dropout, inputs, OPTIONS, "dy * _factor(cache)", replacement)


def test_by_the_counter_one_value_at_a_time():
    x, slot, number, seed, layer = normal(0, 2, 300), np.array([4, 2**32 - 1]), 9, (7 << 32) + 5, 3
    y, _ = dropout.forward(x, np.array([number]), slot, rate=0.3, layer=layer, seed=seed)
    threshold = 19661  # 0.3 x 65536 is 19660.8
    for n, m in np.ndindex(x.shape):
        block, part = 16 * (m // 128) + m % 16, m // 16 % 8
        words = philox.philox4x32((block, number, slot[n], 8 + 256 * layer), (5, 7))
        half = int(words[part // 2]) >> 16 * (part % 2) & 0xFFFF
        assert np.isclose(y[n, m], x[n, m] / (1 - threshold / 65536) if half >= threshold else 0, rtol=1e-15)


def test_a_rate_of_0_changes_nothing(backend):
    x = normal(0, 3, 4, 5, dtype=np.float32)
    y, cache = backend.dropout.forward(x, np.array([1]), rate=0, layer=0, seed=0)
    assert same_bits(y, x) and same_bits(backend.dropout.backward(x, cache)[0], x)


def test_the_highest_rate_leaves_something():
    y, _ = dropout.forward(np.ones((1, 2**20)), np.array([1]), rate=np.nextafter(1, 0), layer=0, seed=0)
    assert set(np.unique(y)) == {0, 65536}


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_as_many_values_stay_as_the_rate_says_and_the_mean_is_that_of_x(rate):
    n, stay = 2**21, 1 - round(65536 * rate) / 65536
    mean = stays(n, rate=rate).mean()
    assert abs(mean - stay) < 5 * np.sqrt(stay * (1 - stay) / n)
    y, _ = dropout.forward(np.ones((1, n)), np.array([1]), np.array([0]), rate=rate, layer=0, seed=0)
    assert np.isclose(y.mean(), mean / stay, rtol=1e-12)


@pytest.mark.parametrize("other", [{"number": 2}, {"slot": 1}, {"layer": 1}, {"layer": 2**23}, {"seed": 1}], ids=str)
def test_steps_places_layers_and_seeds_have_nothing_to_do_with_each_other(other):
    n = 2**20
    assert abs(np.mean((2 * stays(n) - 1) * (2 * stays(n, **other) - 1))) < 5 / np.sqrt(n)


@pytest.mark.parametrize("apart", [1, 15, 16, 17, 32, 64, 128, 2048])
def test_nor_have_neighbours(apart):
    signs = 2 * stays(2**20) - 1
    assert abs(np.mean(signs[apart:] * signs[:-apart])) < 5 / np.sqrt(len(signs) - apart)


def test_its_numbers_are_no_other_purposes():
    counter = np.arange(1000), 1, 0, dropout.purpose_of(0)
    words = np.stack(philox.philox4x32(counter, (0, 0)), axis=1).astype(np.uint32)
    for purpose in set(philox.PURPOSES) - {"dropout"}:
        others = philox.forward(0, purpose, np.array([0]), 1, (4000,), kind="bits")
        assert not np.isin(words, others).all(axis=1).any()
    purposes = {dropout.purpose_of(layer) & 0xFF for layer in (0, 1, 77, 2**24 - 1)}
    assert purposes == {philox.PURPOSES["dropout"]} and dropout.purpose_of(2**24 - 1) < 2**32
    assert max(philox.PURPOSES.values()) < 2**philox.PURPOSE_BITS


def test_a_part_of_a_batch_drops_what_the_batch_does(backend):
    x, number = normal(0, 5, 7, 3, dtype=np.float32), np.array([4])
    whole, _ = backend.dropout.forward(x, number, **OPTIONS)
    for part in (slice(0, 1), slice(1, 4), slice(4, 5)):
        slot = np.arange(5)[part]
        y, cache = backend.dropout.forward(x[part], number, slot, **OPTIONS)
        assert same_bits(np.asarray(y), whole[part])
        dx, *others = backend.dropout.backward(x[part], cache)
        assert same_bits(np.asarray(dx), whole[part]) and others == [None, None]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"rate": 1}, r"rate must lie in \[0, 1\), got 1"),
        ({"rate": -0.1}, r"rate must lie in \[0, 1\), got -0.1"),
        ({"rate": float("nan")}, r"rate must lie in \[0, 1\), got nan"),
        ({"layer": -1}, r"layer must be an integer in \[0, 2\^24\), got -1"),
        ({"layer": 2**24}, r"layer must be an integer in \[0, 2\^24\), got 16777216"),
        ({"layer": 0.5}, r"layer must be an integer in"),
        ({"seed": 2**64}, r"seed must be an integer in \[0, 2\^64\)"),
        ({"number": np.array([2**32])}, r"number must be an integer in \[0, 2\^32\)"),
        ({"number": np.array([1, 2])}, r"number must have shape \(1,\), got \(2,\)"),
        ({"number": np.array([1.0])}, r"number must be a non-empty integer array of shape \(1,\)"),
        ({"slot": np.array([0, 2**32])}, r"slot must lie in \[0, 4294967296\), got 0 .. 4294967296"),
        ({"slot": np.array([0, -1])}, r"slot must lie in \[0, 4294967296\), got -1 .. 0"),
        ({"slot": np.array([0])}, r"slot must have shape \(2,\) like x, got \(1,\)"),
        ({"slot": np.array([0.5, 1])}, "slot must be a non-empty integer array"),
        ({"x": np.array(1, np.float32)}, "x must have at least one axis"),
        ({"x": np.ones((2, 0), np.float32)}, r"x must not be empty, got shape \(2, 0\)"),
    ],
)
def test_bad_input(backend, change, message):
    with pytest.raises(ValueError, match=f"dropout: {message}"):
        backend.dropout.forward(**{"x": ones(2, 3), "number": np.array([1]), **OPTIONS, **change})
