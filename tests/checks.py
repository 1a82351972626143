"""What tests compare with, and how they break things."""

import inspect
import os
import textwrap

import numpy as np
import pytest
from hypothesis import strategies as st

from tinydiff import backends
from tinydiff.gradcheck import GradientMismatch, check_adjoint
from tinydiff.gradcheck.adjoint import as_tuple

seeds = st.integers(0, 2**32 - 1)
# Who runs the CUDA kernels; "cuda" in the environment takes a GPU, for tests/kernels/test_against_reference.py and others
# that only compare values
DEVICE = os.environ.get("TINYDIFF_TEST_DEVICE", "emulator")
COMPILED = ("cpu", DEVICE)  # the backends of hand-written kernels: what holds for the reference must hold for them
EPS32 = float(np.finfo(np.float32).eps)
EPS = {"float32": EPS32, "bfloat16": 2.0**-8}  # of bfloat16 what one rounding costs at most


def assert_close(actual, truth, tolerance=1e-12):
    """Every element within ``tolerance`` of the largest magnitude of ``truth``; NaN never is."""
    actual, truth = np.asarray(actual), np.asarray(truth)
    assert actual.shape == truth.shape
    scale = max(1.0, float(np.max(np.abs(truth), initial=0.0)))
    error = np.abs(actual.astype(np.float64) - truth)
    assert np.all(error <= tolerance * scale), f"off by {np.nanmax(error) / scale:.2e} of the largest value"


def assert_as_good(
    actual, truth, *rivals, times=4.0, entering=0.0, chance=0.0, deviation=0.0, name="the result", dtype="float32"
):
    """A result, every element of which is at most ``times`` as far from the truth as honest float32 gets.

    truth     the reference in float64
    rivals    the same reference in float32; more than one run of it, at inputs moved by a rounding, where the
              luck of a single run (an error of 0, in a small array) must not be the yardstick
    entering  the largest magnitude that enters the result, where all of it cancels and the truth is (nearly) 0
    chance    how large an error float32 makes by chance, where that is known: rivals add in an order of their own, and
              of a few elements the largest error may be a small one
    deviation of the error that roundings to bfloat16 inside the op make by chance, the standard one, of every element
              or of all: six of them are allowed on top (of Gaussian errors, 2 in 10^9 are larger)
    dtype     of the result; where it is bfloat16 the rivals are rounded to it

    The yardstick is the largest error of any rival, and never less than that of chance, nor than the dtype's own
    spacing at the largest magnitude. NaN fails.
    """
    actual, truth = np.asarray(actual), np.asarray(truth)
    assert (str(actual.dtype), actual.shape) == (str(dtype), truth.shape), f"{name} is {actual.dtype} {actual.shape}"
    assert truth.dtype == np.float64 and truth.size and np.isfinite(truth).all()
    spacing = EPS[str(dtype)] * max(_largest(truth), entering)
    yardstick = np.max([spacing, chance, *(_largest(rival - truth) for rival in rivals)])
    assert np.isfinite(yardstick), f"{name}: the reference itself is not finite"
    error = np.abs(actual.astype(np.float64) - truth)
    allowed = times * yardstick + 6 * np.broadcast_to(deviation, truth.shape)
    wrong = ~(error <= allowed)
    if wrong.any():
        first = np.unravel_index(np.argmax(wrong), wrong.shape)
        inside = f" and 6 x {np.max(deviation):.3e}" if np.any(deviation) else ""
        raise AssertionError(
            f"{name} is wrong in {wrong.sum()} of {wrong.size} elements, by up to {np.max(error):.3e} where "
            f"{times:g} x {yardstick:.3e}{inside} is allowed; the first, at {tuple(map(int, first))}, is {actual[first]!r}, "
            f"not {truth[first]!r}"
        )


def _largest(x):
    return float(np.max(np.abs(x)))


def normal(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def ones(*shape):
    """Ones in the one dtype that every backend takes."""
    return np.ones(shape, np.float32)


def backend_or_skip(name, precision="fp32"):
    """The backend of that name; where it is not installed the test is skipped, saying why."""
    try:
        return backends.get(name, precision)
    except ValueError as error:
        pytest.skip(str(error))


def run_op(op, inputs, options, dy=None):
    """y and the gradients of an op (y alone without dy), having kept what every op promises of its arrays.

    Inputs and dy are not modified, nor is the cache: backward gives the same again. Every output is
    C-contiguous with memory of its own, or a read-only view of dy.
    """
    given = [array for array in (*inputs, dy) if isinstance(array, np.ndarray)]
    before = [array.copy() for array in given]
    if dy is None:
        outputs = (op.forward(*inputs, **options),)
    else:
        y, cache = op.forward(*inputs, **options)
        gradients, again = (as_tuple(op.backward(dy, cache)) for _ in range(2))
        for first, second in zip(gradients, again, strict=True):
            assert first is second is None or same_bits(first, second), "the cache was modified"
        outputs = (y, *gradients)
    assert all(map(same_bits, given, before)), "an input or dy was modified"

    arrays = [np.asarray(output) for output in outputs if output is not None]
    for i, array in enumerate(arrays):
        assert array.flags.c_contiguous, f"output {i} is not C-contiguous"
        shared = [other for other in (*given, *arrays[:i]) if np.shares_memory(array, other)]
        assert all(other is dy and not array.flags.writeable for other in shared), f"output {i} is not its own"
    return outputs


def same_bits(a, b):
    """Whether two arrays are the same, NaN included."""
    if a.dtype == b.dtype and a.dtype.kind == "V":  # bfloat16
        a, b = a.view(np.uint16), b.view(np.uint16)
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def check_op(op, inputs, options=None, *, backward=None, seed=0):
    """check_adjoint of an op module at these inputs, {name: array}; optionally of another backward."""
    return check_adjoint(
        lambda: op.forward(*inputs.values(), **(options or {})),
        backward or op.backward,
        inputs,
        seed=seed,
    )


def broken(function, line, replacement=""):
    """The function with one piece of its source replaced, which must occur exactly once."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(line) == 1, f"{line!r} occurs {source.count(line)} times in {function.__qualname__}"
    scope = dict(function.__globals__)
    exec(compile(source.replace(line, replacement), f"<{function.__qualname__} broken>", "exec"), scope)
    return scope[function.__name__]


def assert_caught(op, inputs, options, line, replacement=""):
    """A backward with this piece replaced must fail the gradient check (and pass it as it stands)."""
    check_op(op, inputs, options)
    with pytest.raises(GradientMismatch):
        check_op(op, inputs, options, backward=broken(op.backward, line, replacement))
