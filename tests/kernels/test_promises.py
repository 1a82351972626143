"""What every op promises besides its values (``run_op`` checks the rest of it at every comparison): what it
refuses, and that nothing it holds or returned is ever written again."""

import gc
import inspect

import numpy as np
import pytest

from tests.checks import normal, ones, same_bits
from tests.kernels.conftest import IN_BOTH_PRECISIONS, in_use
from tests.ops.test_contract import CASES
from tinydiff.gradcheck.adjoint import as_tuple
from tinydiff.gradcheck.rounded import widen
from tinydiff.ops import OPS
from tinydiff.precision import FLOAT32, bfloat16

WITH_GRADIENT = list(CASES)
ONE = {"learning_rate": ones(1), "norm": ones(1), "limit": 1.0, "average_decay": ones(1)}


@pytest.fixture(scope="module", params=IN_BOTH_PRECISIONS)
def kernels(request):
    yield from in_use(*request.param)


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def cpu_kernels(request):
    yield from in_use("cpu", request.param)


def arguments(kernels, op):
    """A proper call, {name: value}, its arrays of the dtypes of these kernels."""
    dtype = getattr(kernels.backend, op).dtype
    return {name: x.astype(dtype(name)) if is_real(x) else x for name, x in in_float32(op).items()}


def is_real(x):
    """An array of numbers that are not integers."""
    return isinstance(x, np.ndarray) and x.dtype.kind in "fV"


def in_float32(op):
    """The row of CASES, or one from here where there is none."""
    if op == "philox":
        return dict(seed=0, purpose="noise", sample=np.arange(3), draw=0, shape=(2,), kind="bits")
    if op == "draw_batch":
        options = dict(batch=4, noise_steps=5, classes=2, dropout=0.5, seed=0)
        return dict(labels=np.arange(3) % 2, number=np.array([1]), **options)
    if op == "corrupt":
        batch = dict(images=np.ones((3, 2, 2), np.uint8), index=np.array([2, 0]), step=np.array([4, 1]))
        return dict(**batch, table=ones(5, 5), draw=np.array([1]), seed=0)
    if op == "adamw":
        return {name: ones(4) for name in list(inspect.signature(OPS[op].forward).parameters)[:5]} | {
            "step_number": np.array([1]),
            **ONE,
        }
    if op == "timestep_embedding":
        return dict(step=ones(3), width=4)
    if op == "global_norm":
        return dict(grads=ones(4))
    inputs, options = CASES[op]
    inputs = [x.astype(np.float32) if x.dtype.kind == "f" else x.copy() for x in inputs]
    return {**dict(zip(inspect.signature(OPS[op].forward).parameters, inputs)), **options}


def upstream(y, seed=9):
    return normal(seed, *y.shape).astype(y.dtype) if y.ndim else 1.5


def strided(x):
    return np.stack([x, x], axis=-1)[..., 0]


def turned(x):
    return np.ascontiguousarray(x.T).T


def spoiled(name, x):
    """(array, message) for every way in which an array may be unfit; integers are few and may lie as they like."""
    yield x.tolist(), f"{name} must be an array, got list"
    if not is_real(x):
        return
    for other in {np.dtype(np.float64), bfloat16(), np.dtype(np.float32)} - {x.dtype}:
        # where two arrays do not go together either may be named
        yield x.astype(other), rf"({name} must be \w+( like \w+)?, got {other}|\w+ must be {other}( like {name})?, got)"
    if x.size > 1:
        yield strided(x), f"{name} must be C-contiguous"
    if x.ndim > 1:
        yield turned(x), f"{name} must be C-contiguous"


@pytest.mark.parametrize("op", OPS)
def test_unfit_arrays_are_refused_by_name(kernels, op):
    forward, good = getattr(kernels.backend, op).forward, arguments(kernels, op)
    forward(**good)
    for name, value in good.items():
        for bad, message in spoiled(name, value) if isinstance(value, np.ndarray) else ():
            with pytest.raises(ValueError, match=f"{op}: {message}"):
                forward(**{**good, name: bad})


@pytest.mark.parametrize("op", FLOAT32)
def test_the_dtype_that_was_expected_is_named(cpu_kernels, op):
    """In a message of the cpu backend, whose kernels take each array for itself."""
    kernel, good = getattr(cpu_kernels.backend, op), arguments(cpu_kernels, op)
    for name, value in good.items():
        for other in {"float32", "bfloat16", "float64"} - {str(kernel.dtype(name))} if is_real(value) else ():
            with pytest.raises(ValueError, match=f"^{op}: {name} must be {kernel.dtype(name)}, got {other}$"):
                kernel.forward(**{**good, name: value.astype(other)})


@pytest.mark.parametrize("op", WITH_GRADIENT)
def test_an_unfit_upstream_is_refused(kernels, op):
    kernel = getattr(kernels.backend, op)
    y, cache = kernel.forward(**arguments(kernels, op))
    if y.ndim == 0:
        return
    dy = upstream(y)
    wrong_shape = (
        np.ascontiguousarray(dy[..., :-1]),
        rf"dy must have shape .*, got \({', '.join(map(str, dy.shape[:-1]))}",
    )
    for bad, message in (*spoiled("dy", dy), wrong_shape):
        with pytest.raises(ValueError, match=f"{op}: {message}"):
            kernel.backward(bad, cache)
    kernel.backward(dy, cache)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32, np.int64])
def test_integers_of_any_width_and_stride_will_do(kernels, dtype):
    numbers = np.array([2, 9, 0, 9, 1, 9], dtype)[::2]
    table = normal(0, 3, 4, dtype=np.float32)
    embedding = kernels.backend.class_embedding
    y, cache = embedding.forward(table, numbers)
    expected = table.astype(embedding.dtype("y"))
    assert same_bits(y, expected[[2, 0, 1]])
    assert same_bits(embedding.backward(expected, cache)[0], widen(expected)[[1, 2, 0]])
    bits = kernels.backend.philox.forward(5, "noise", numbers, 2, (3,), kind="bits")
    assert same_bits(bits, OPS["philox"].forward(5, "noise", np.array([2, 0, 1]), 2, (3,), kind="bits"))


def test_buffers_to_update_must_be_writeable(kernels):
    for name in ("params", "mean", "mean_square", "average"):
        good = arguments(kernels, "adamw")
        good[name].flags.writeable = False
        with pytest.raises(ValueError, match=f"adamw: {name} must be writeable"):
            kernels.backend.adamw.forward(**good)


@pytest.mark.parametrize("op", WITH_GRADIENT)
def test_arrays_that_cannot_be_written_will_do(kernels, op):
    kernel, good = getattr(kernels.backend, op), arguments(kernels, op)
    for value in good.values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    y, cache = kernel.forward(**good)
    dy = upstream(y)
    if y.ndim:
        dy.flags.writeable = False
    kernel.backward(dy, cache)


def test_the_gradient_of_a_loss_may_be_a_number_or_an_array(kernels):
    op = kernels.backend.mse_loss
    _, cache = op.forward(**arguments(kernels, "mse_loss"))
    expected = op.backward(1.5, cache)
    for dloss in (np.float32(1.5), np.array(1.5, np.float32)):
        assert all(map(same_bits, op.backward(dloss, cache), expected))


def run(kernels, op):
    """y and gradients of an op whose inputs only the cache still holds when backward runs."""
    kernel = getattr(kernels.backend, op)
    y, cache = kernel.forward(**arguments(kernels, op))
    gc.collect()
    return [y, *as_tuple(kernel.backward(upstream(y), cache))]


@pytest.mark.parametrize("op", WITH_GRADIENT)
def test_results_stay_as_they_are_whatever_runs_later(kernels, op):
    """Memory is used again only when neither an array nor any view of it is left, nor a cache that needs it."""
    kernel = getattr(kernels.backend, op)
    first = run(kernels, op)
    copies = [None if x is None else np.array(x) for x in first]
    views = [None if x is None else np.asarray(x)[..., :1] if np.ndim(x) else x for x in first]
    y, cache = kernel.forward(**arguments(kernels, op))
    dy = upstream(y)
    del first, y
    for _ in range(5):
        other = arguments(kernels, op)
        for value in filter(is_real, other.values()):
            value += value.dtype.type(1)
        y, other_cache = kernel.forward(**other)
        kernel.backward(upstream(y, seed=1), other_cache)
    for copy, view in zip(copies, views):
        assert copy is view is None or same_bits(np.asarray(view), copy[..., :1] if copy.ndim else copy)
    for copy, again in zip(copies[1:], as_tuple(kernel.backward(dy, cache)), strict=True):
        assert copy is again is None or same_bits(again, copy)


@pytest.mark.parametrize("op", [*WITH_GRADIENT, "timestep_embedding", "global_norm"])
def test_nan_is_never_lost(kernels, op):
    """Where the reference lets a NaN through so does the kernel: it is how a run that diverged is noticed."""
    for name, value in arguments(kernels, op).items():
        for where in (0, value.size // 2, value.size - 1) if is_real(value) else ():
            good = arguments(kernels, op)
            good[name].reshape(-1)[where] = np.nan
            expected = outputs_of(OPS[op], {name: widen(x) for name, x in good.items()})
            for way, _ in kernels.each():
                actual = outputs_of(getattr(kernels.backend, op), good)
                for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
                    assert e is None or np.isfinite(e).all() or not np.isfinite(a).all(), f"{way}: {name}, output {i}"


def outputs_of(op, good):
    if not hasattr(op, "backward"):
        return [op.forward(**good)]
    y, cache = op.forward(**good)
    return [y, *as_tuple(op.backward(upstream(y), cache))]
