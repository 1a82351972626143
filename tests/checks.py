"""What tests compare with, and how they break things."""

import inspect
import textwrap

import numpy as np
import pytest
from hypothesis import strategies as st

from tinydiff.gradcheck import GradientMismatch, check_adjoint

seeds = st.integers(0, 2**32 - 1)


def assert_close(actual, truth, tolerance=1e-12):
    """Every element within ``tolerance`` of the largest magnitude of ``truth``; NaN never is."""
    actual, truth = np.asarray(actual), np.asarray(truth)
    assert actual.shape == truth.shape
    scale = max(1.0, float(np.max(np.abs(truth), initial=0.0)))
    error = np.abs(actual.astype(np.float64) - truth)
    assert np.all(error <= tolerance * scale), f"off by {np.nanmax(error) / scale:.2e} of the largest value"


def normal(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check_op(op, inputs, options=None, *, backward=None, seed=0):
    """check_adjoint of an op module at these inputs, {name: array}; optionally of another backward."""
    return check_adjoint(
        lambda: op.forward(*inputs.values(), **(options or {})),
        lambda dy, cache: as_tuple((backward or op.backward)(dy, cache)),
        inputs,
        seed=seed,
    )


def as_tuple(gradients):
    return gradients if isinstance(gradients, tuple) else (gradients,)


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
