"""Every op launches what a GPU takes, at any size, or refuses the size by name: seen on arrays that have a size and
nothing else."""

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tinydiff.backends import kernel_names, launch_table
from tinydiff.backends.cuda import CudaBackend
from tinydiff.backends.weightless import WeightlessLauncher

pytest.importorskip("ml_dtypes")


class Launches(WeightlessLauncher):
    """A launcher that starts nothing and looks whether a GPU would."""

    count = 0

    def launch(self, kernel, grid, block, shared_bytes, arguments, precision):
        self.count += 1
        assert 1 <= grid[0] < 2**31 and all(1 <= size <= 65535 for size in grid[1:]), (kernel, grid)
        assert 1 <= math.prod(block) <= 1024 and block[0] % 32 == 0, (kernel, block)
        assert shared_bytes <= 99 * 1024, (kernel, shared_bytes)


def conv2d(N, H, W, C, O, R, S):
    return [(N, H, W, C), (R, S, C, O), (O,), (N, 1, 1, O)], dict(padding=(R, S))


# op: shapes of its inputs and its options, of sizes by name
AT = {
    "linear": lambda N, C, O: ([(N, C), (C, O), (O,)], {}),
    "conv2d": conv2d,
    "group_norm": lambda N, H, W, G, width: (
        [(N, H, W, G * width), (G * width,), (G * width,), (N, G * width), (N, G * width)],
        dict(groups=G),
    ),
    "layer_norm": lambda N, L, C: ([(N, L, C), (C,), (C,)], {}),
    "gelu": lambda N: ([(N,)], {}),
    "geglu": lambda N, C: ([(N, 2 * C)], {}),
    "silu": lambda N: ([(N,)], {}),
    "dropout": lambda N, M: ([(N, M), (1,), (N,)], dict(rate=0.1, layer=0, seed=0)),
    "attention": lambda N, L, M, A, D: ([(N, L, A, D), (N, M, A, D), (N, M, A, D), (N,)], {}),
    "upsample2x": lambda N, H, W, C: ([(N, H, W, C)], {}),
    "concat": lambda N, H, W, C, B: ([(N, H, W, C), (N, H, W, B)], {}),
    "class_embedding": lambda N, K, E: ([(K, E), (N,)], {}),
    "timestep_embedding": lambda N, half: ([(N,)], dict(width=2 * half)),
    "mse_loss": lambda N, H, W: ([(N, H, W), (N, H, W), (N,)], {}),
    "l1_loss": lambda N, H, W: ([(N, H, W), (N, H, W), (N,)], {}),
    "gaussian_sample": lambda N, H, Z: ([(N, H, 2 * Z), (N, H, Z)], {}),
    "gaussian_kl": lambda N, H, Z: ([(N, H, 2 * Z)], {}),
    "global_norm": lambda N: ([(N,)], {}),
}
INTEGERS = ("labels", "number", "slot", "length")
LETTERS = {op: at.__code__.co_varnames[: at.__code__.co_argcount] for op, at in AT.items()}


def launch(op, precision, sizes):
    """The op forward and backward."""
    launcher = Launches()
    backend = CudaBackend("cuda", precision, launcher)
    kernels = getattr(backend, op)
    shapes, options = AT[op](**sizes)
    names = list(kernels.forward.__code__.co_varnames[1 : 1 + len(shapes)])
    dtypes = [np.int64 if name in INTEGERS else kernels.dtype(name) for name in names]
    inputs = [launcher.empty(shape, dtype) for shape, dtype in zip(shapes, dtypes)]
    made = kernels.forward(*inputs, **options)
    if hasattr(kernels, "backward"):
        y, cache = made
        kernels.backward(1.5 if y.ndim == 0 else y, cache)
    assert launcher.count


some = st.integers(1, 9)
many = st.one_of(some, some, st.integers(1, 2**10), st.integers(1, 2**18), st.integers(1, 2**34))


@pytest.mark.parametrize("op", AT)
@pytest.mark.parametrize("precision", kernel_names.PRECISIONS)
def test_a_gpu_takes_every_launch_or_the_size_is_refused_by_name(op, precision):
    @given(st.fixed_dictionaries({letter: many for letter in LETTERS[op]}))
    def at(sizes):
        assume(max(map(math.prod, AT[op](**sizes)[0])) < 2**50)
        try:
            launch(op, precision, sizes)
        except ValueError as error:
            assert re.match(rf"{op}: (.* must be less than 2\^31, got \d+$|the sizes must be such that a GPU)", str(error))
            assert math.prod(sizes.values()) >= 2**30  # nothing small is refused

    at()


@pytest.mark.parametrize(
    "op, sizes",
    [
        ("attention", dict(N=1, L=16384, M=16384, A=1, D=128)),
        ("attention", dict(N=1, L=16384, M=16384, A=1, D=512)),
        ("attention", dict(N=1, L=10**6, M=10**6, A=1, D=64)),
        ("attention", dict(N=70_000, L=49, M=49, A=4, D=64)),
        ("attention", dict(N=2, L=3, M=3, A=70_000, D=100)),
        ("group_norm", dict(N=2, H=2, W=2, G=2, width=20_000)),
        ("group_norm", dict(N=70_000, H=7, W=7, G=32, width=2)),
        ("mse_loss", dict(N=70_000, H=28, W=28)),
        ("gaussian_sample", dict(N=70_000, H=4096, Z=4)),
        ("gaussian_kl", dict(N=70_000, H=4096, Z=4)),
        ("conv2d", dict(N=70_000, H=7, W=7, C=8, O=8, R=3, S=3)),
        ("linear", dict(N=70_000, C=5_000_000, O=3)),
        ("linear", dict(N=3, C=5, O=5_000_000)),
    ],
)
@pytest.mark.parametrize("version", ["v1", None])
def test_large_sizes_that_people_have(op, sizes, version):
    launch_table.use_version(op, version)
    try:
        for precision in kernel_names.PRECISIONS:
            launch(op, precision, sizes)
    finally:
        launch_table.use_version(op)


@pytest.mark.parametrize(
    "op, sizes, message",
    [
        ("linear", dict(N=1, C=2**31, O=1), "C must be less than 2^31, got 2147483648"),
        ("conv2d", dict(N=1, H=2**16, W=2**16, C=1, O=1, R=1, S=1), "H' W' must be less than 2^31, got"),
        ("group_norm", dict(N=1, H=2**15, W=2**15, G=1, width=2), "H W C / G must be less than 2^31, got 2147483648"),
        ("timestep_embedding", dict(N=1, half=2**30), "width must be less than 2^31, got 2147483648"),
        ("attention", dict(N=2**20, L=2**16, M=1, A=1, D=1), "the sizes must be such that a GPU has blocks enough, 2147"),
    ],
)
def test_a_size_is_refused_by_its_name(op, sizes, message):
    launch_table.use_version(op, "v1")
    try:
        with pytest.raises(ValueError, match=re.escape(f"{op}: {message}")):
            launch(op, "fp32", sizes)
    finally:
        launch_table.use_version(op)
