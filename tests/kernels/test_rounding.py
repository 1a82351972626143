"""What kernels store in bfloat16 is rounded to the nearest, to even at a tie; what they only move keeps its bits."""

import numpy as np
import pytest

from tests.checks import same_bits
from tests.kernels.conftest import in_use
from tinydiff.gradcheck.rounded import widen
from tinydiff.precision import bfloat16

SMALLEST = 2.0**-126  # of the normal numbers


@pytest.fixture(scope="module")
def cpu():
    yield from in_use("cpu", "fp32")


def every_bfloat16():
    return np.arange(1 << 16, dtype=np.uint16).view(bfloat16())


def parts_of_float32():
    """Pairs of bfloat16 whose sums are float32 numbers of every kind: a bfloat16, and below, at and above every tie."""
    high = every_bfloat16()
    wide = widen(high)
    ulp = np.where(np.isfinite(wide), np.ldexp(np.sign(wide), np.maximum(np.frexp(wide)[1] - 8, -133)), 0)
    return [
        (high, np.copysign(times * ulp, times * wide).astype(bfloat16())) for times in (0, 0.375, 0.5, -0.5, 0.625, 1)
    ]


def assert_rounded(way, actual, exact):
    """``exact`` is float32; avx512_bf16 makes zeros of what is smaller than any normal number."""
    expected = exact.astype(bfloat16())
    small = np.abs(exact) < SMALLEST if "bf16" in str(way) or way == "amx" else np.zeros(exact.shape, bool)
    expected[small] = np.copysign(0, exact[small])
    nan = np.isnan(exact)
    assert np.isnan(actual[nan].astype(np.float32)).all(), f"{way}: a NaN is lost"
    assert same_bits(actual[~nan], expected[~nan]), way


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_stored_sum_is_rounded_to_even(kernels_bf16):
    """The gradient of upsample2x: of four numbers two are zeros of the same sign, so the sum is rounded once."""
    for high, low in parts_of_float32():
        dy = np.zeros((1, 2, 2, high.size), bfloat16())
        dy[0, 0], dy[0, 1] = (high, low), np.copysign(0, widen(high))
        exact = widen(high) + widen(low)
        for way, _ in kernels_bf16.each(op="upsample2x"):
            op = kernels_bf16.backend.upsample2x
            y, cache = op.forward(np.zeros((1, 1, 1, high.size), bfloat16()))
            assert_rounded(way, op.backward(dy, cache).reshape(-1), exact)


def test_silu_of_every_number(cpu):
    """Off by half a unit, which rounding costs, and hardly more: the exponential has fewer terms than in float32."""
    from tinydiff.backends.cpu import CpuBackend

    in_bfloat16, x = CpuBackend("bf16"), every_bfloat16()
    with np.errstate(all="ignore"):
        for way, n in cpu.each(threads=(1, 3)):
            for part in (x, x[1:], x[: 1 << 15], x[3:37]):
                exact, found = cpu.backend.silu.forward(widen(part))[0], in_bfloat16.silu.forward(part)[0]
                number, found = np.isfinite(exact), found.astype(np.float32)
                half = np.maximum(0.52 * np.ldexp(1.0, np.frexp(exact[number])[1] - 8), SMALLEST)
                assert (np.abs(found[number].astype(np.float64) - exact[number]) <= half).all(), way
                assert np.array_equal(found[~number], exact[~number], equal_nan=True), way


@pytest.mark.parametrize("B", [1, 5, 64])
def test_what_is_moved_keeps_its_bits(kernels_bf16, B):
    """NaN of any kind, and numbers below the smallest normal one."""
    every = every_bfloat16()
    a, b = every[None, None, None], every[::-1].copy()[:B].reshape(1, 1, 1, B)
    for way, _ in kernels_bf16.each(op="concat"):
        y, cache = kernels_bf16.backend.concat.forward(a, b)
        bits = [x.view(np.uint16) for x in (y, a, b)]
        assert np.array_equal(bits[0], np.concatenate(bits[1:], axis=-1)), way
        for part, whole in zip(kernels_bf16.backend.concat.backward(y, cache), (a, b)):
            assert np.array_equal(part.view(np.uint16), whole.view(np.uint16)), way


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_program_rounds_and_widens(cpu):
    # NaNs that, were they rounded as numbers are, would become infinities and zeros
    nans = np.array([0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF, 0x7FC00001], np.uint32).view(np.float32)
    sums = np.concatenate([*(widen(high) + widen(low) for high, low in parts_of_float32()), nans])
    every = every_bfloat16()
    for count in (sums.size, 37):
        part = sums[-count:].copy()
        captured = cpu.backend.capture(
            lambda: (cpu.backend.asarray(part, bfloat16()), cpu.backend.asarray(every, np.float32))
        )
        for way, _ in cpu.each(threads=(1, 3)):
            rounded, wide = captured()
            assert_rounded("a program", rounded, part)  # as NumPy does, in every instruction set
            assert np.array_equal(wide.view(np.uint32), every.view(np.uint16).astype(np.uint32) << 16), way
