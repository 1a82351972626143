import numpy as np
import pytest

from tests.checks import assert_close, same_bits
from tinydiff.ops import corrupt, philox

TABLE = np.random.default_rng(0).standard_normal((7, 5))
BYTES = np.random.default_rng(1).integers(0, 256, (5, 3, 3, 1)).astype(np.uint8)


def call(images=BYTES, index=(4, 0, 4), step=(6, 0, 3), table=TABLE, draw=(11,), slot=None, seed=3, op=corrupt, **flip):
    slot = None if slot is None else np.array(slot)
    return op.forward(images, np.array(index), np.array(step), table, np.array(draw), slot, seed=seed, **flip)


@pytest.mark.parametrize("images", [BYTES, np.float32(BYTES) / 100], ids=["bytes", "floats"])
def test_by_the_formulas_one_sample_at_a_time(images):
    x, target, weight = call(images)
    for slot, (index, step) in enumerate([(4, 6), (0, 0), (4, 3)]):
        x0 = images[index] / 127.5 - 1 if images is BYTES else images[index]
        eps = philox.forward(3, "noise", np.array([slot]), 11, (3, 3, 1), kind="normal", dtype=np.float64)[0]
        a, s, p, q, w = TABLE[step]
        assert_close(x[slot], a * x0 + s * eps, 1e-6)
        assert_close(target[slot], p * x0 + q * eps, 1e-6)
        assert weight[slot] == w


def test_a_part_of_a_batch_has_the_noise_of_its_places(backend):
    table = TABLE.astype(np.float32)
    whole = call(table=table, op=backend.corrupt)
    for part in (slice(0, 1), slice(1, 3)):
        made = call(index=(4, 0, 4)[part], step=(6, 0, 3)[part], slot=(0, 1, 2)[part], table=table, op=backend.corrupt)
        for each, of_whole in zip(made, whole):
            assert each.tobytes() == of_whole[part].tobytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_flipped_images_are_those_of_a_data_set_of_mirror_images(backend, dtype):
    images = np.random.default_rng(2).integers(0, 256, (5, 4, 6, 3)).astype(dtype)
    batch = dict(index=np.arange(40) % 5, step=np.arange(40) % 7, table=TABLE.astype(np.float32), op=backend.corrupt)
    mirrored = philox.forward(3, "flip", np.arange(40), 11, (), kind="uniform") < 0.5
    assert 5 < mirrored.sum() < 35
    flipped, plain = call(images, **batch, flip=True), call(images, **batch)
    all_mirrored = call(images[:, :, ::-1].copy(), **batch)
    for name, found, *ways in zip(("x", "target", "weight"), flipped, plain, all_mirrored):
        expected = np.where(mirrored.reshape(-1, *[1] * (found.ndim - 1)), *ways[::-1])
        assert same_bits(np.asarray(found), expected), name
    part = slice(7, 19)
    batch |= dict(index=batch["index"][part], step=batch["step"][part], slot=np.arange(40)[part])
    assert same_bits(np.asarray(call(images, **batch, flip=True)[0]), flipped[0][part])


def test_half_of_all_samples_are_flipped_at_random():
    images = np.zeros((1, 1, 2, 1), np.float32)
    images[0, 0, 0] = 1
    N, table = 20_000, np.array([[1.0, 0, 0, 1, 1]])  # x is the image itself
    batch = dict(index=np.zeros(N, int), step=np.zeros(N, int), table=table, flip=True)
    moved = [call(images, **batch, draw=(draw,))[0][:, 0, 1, 0] for draw in (1, 2)]
    assert set(np.unique(moved)) == {0, 1}
    for signs in (2 * moved[0] - 1, 2 * moved[1] - 1, (2 * moved[0] - 1) * (2 * moved[1] - 1)):
        assert abs(signs.mean()) < 5 / np.sqrt(N)
    signs = 2 * moved[0] - 1
    assert abs(np.mean(signs[1:] * signs[:-1])) < 5 / np.sqrt(N)


def test_the_dtype_is_that_of_the_table():
    assert {array.dtype for array in call()} == {np.dtype(np.float64)}
    assert {array.dtype for array in call(table=TABLE.astype(np.float32))} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"index": (0, 5, 0)}, r"index must lie in \[0, 5\), got 0 .. 5"),
        ({"step": (0, -1, 0)}, r"step must lie in \[0, 7\), got -1 .. 0"),
        ({"step": (0, 1)}, r"step must have shape \(3,\) like index, got \(2,\)"),
        ({"index": (0.5,)}, "index must be a non-empty integer array"),
        ({"draw": (0.5,)}, r"draw must be a non-empty integer array of shape \(1,\)"),
        ({"slot": (0, 1, 2**32)}, r"slot must lie in \[0, 4294967296\), got 0 .. 4294967296"),
        ({"slot": (0, 1)}, r"slot must have shape \(3,\) like index, got \(2,\)"),
        ({"slot": (0.5,) * 3}, "slot must be a non-empty integer array"),
        ({"images": BYTES.astype(np.int32)}, r"images must be uint8 or float32 \(n, ...\) and not empty, got int32"),
        ({"images": BYTES[..., 0], "flip": True}, r"images must be \(n, H, W, C\) to be flipped, got \(5, 3, 3\)"),
        ({"table": np.ones((7, 4), np.float32)}, r"table must have shape \(T, 5\), got \(7, 4\)"),
        ({"seed": 2**64}, "seed must be an integer in"),
    ],
)
def test_bad_input(backend, change, message):
    with pytest.raises(ValueError, match=f"corrupt: {message}"):
        call(**{"table": TABLE.astype(np.float32), **change}, op=backend.corrupt)
