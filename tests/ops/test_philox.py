import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydiff.ops import philox


# kat_vectors of the Random123 library: counter, key, result
@pytest.mark.parametrize(
    "counter, key, expected",
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_published_vectors(counter, key, expected):
    assert tuple(int(word) for word in philox.philox4x32(counter, key)) == expected


def test_the_counter_is_element_block_draw_sample_purpose():
    bits = philox.forward((7 << 32) + 5, "noise", np.array([11]), 13, (6,), kind="bits")
    second_block = philox.philox4x32((1, 13, 11, philox.PURPOSES["noise"]), (5, 7))
    assert bits[0, 4:].tolist() == [int(word) for word in second_block[:2]]


@given(
    samples=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5),
    shape=st.lists(st.integers(1, 4), max_size=3),
    kind=st.sampled_from(philox.KINDS),
    seed=st.integers(0, 2**64 - 1),
    draw=st.integers(0, 2**32 - 1),
)
def test_a_sample_is_the_same_in_any_batch(samples, shape, kind, seed, draw):
    together = philox.forward(seed, "start", np.array(samples), draw, shape, kind=kind)
    assert together.shape == (len(samples), *shape)
    for sample, numbers in zip(samples, together):
        alone = philox.forward(seed, "start", np.array([sample]), draw, shape, kind=kind)
        assert np.array_equal(alone[0], numbers)


def test_streams_differ():
    def bits(seed=0, purpose="noise", sample=0, draw=0):
        return philox.forward(seed, purpose, np.array([sample]), draw, (4,), kind="bits").tobytes()

    streams = [bits(), bits(seed=1), bits(seed=1 << 32), bits(purpose="step"), bits(sample=1), bits(draw=1)]
    assert len(set(streams)) == len(streams)


def test_uniforms_and_normals_have_their_moments():
    n = 400_000
    uniform = philox.forward(3, "noise", np.array([0]), 0, (n,), kind="uniform", dtype=np.float64)[0]
    assert 0 < uniform.min() and uniform.max() < 1
    assert abs(uniform.mean() - 1 / 2) < 5 / np.sqrt(12 * n)
    normal = philox.forward(3, "noise", np.array([0]), 0, (n,), kind="normal", dtype=np.float64)[0]
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(normal**power) - moment) < 5 * np.sqrt(variance / n)
    neighbours = np.mean(normal[:-1] * normal[1:])
    assert abs(neighbours) < 5 / np.sqrt(n)


def test_uniforms_are_exact_in_float32():
    single = philox.forward(0, "noise", np.array([0]), 0, (1000,), kind="uniform")
    double = philox.forward(0, "noise", np.array([0]), 0, (1000,), kind="uniform", dtype=np.float64)
    assert single.dtype == np.float32 and np.array_equal(single, double)


def test_one_element_arrays_will_do_for_seed_and_draw():
    arrays = philox.forward(np.array([5]), "noise", np.array([0]), np.array([2]), (3,), kind="bits")
    assert np.array_equal(arrays, philox.forward(5, "noise", np.array([0]), 2, (3,), kind="bits"))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "gamma"}, "kind must be one of bits, uniform, normal"),
        ({"purpose": "fun"}, "purpose must be one of init"),
        ({"seed": -1}, r"seed must be an integer in \[0, 2\^64\), got -1"),
        ({"draw": 2**32}, r"draw must be an integer in \[0, 2\^32\)"),
        ({"seed": 0.5}, "seed must be an integer"),
        ({"sample": np.array([0.0])}, "sample must be a non-empty integer array"),
        ({"sample": np.array([3, -1])}, r"sample must lie in \[0, 2\^32\), got -1 .. 3"),
        ({"sample": np.array([2**32])}, "sample must lie in"),
    ],
)
def test_bad_input(backend, change, message):
    arguments = {"seed": 0, "purpose": "noise", "sample": np.array([0]), "draw": 0, "shape": (2,), "kind": "bits"}
    with pytest.raises(ValueError, match=message):
        backend.philox.forward(**{**arguments, **change})
