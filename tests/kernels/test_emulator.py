"""The emulator finds what is wrong with a kernel, and its instructions do what the manual says: on kernels of
``faults/`` that were written for this."""

import importlib.util
import os
import runpy
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.checks import backend_or_skip, normal
from tests.kernels.test_sanitizers import library
from tests.test_install import ROOT, python
from tinydiff.backends.launchers import EmulatorLauncher

FAULTS = ROOT / "tests" / "kernels" / "faults"
EMULATOR, CUDA = ROOT / "csrc" / "emulator", ROOT / "csrc" / "cuda"
FAULTY_KERNELS = [(path, "fp32") for path in sorted(FAULTS.glob("*.cu"))]
SEEDS = range(20)


def compiler_and_includes():
    """What it takes to compile the emulator: the compiler, its includes, and ``wrap`` of wrap.py."""
    pybind11 = pytest.importorskip("pybind11")
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler} here")
    includes = [f"-I{path}" for path in (EMULATOR, CUDA, pybind11.get_include(), sysconfig.get_path("include"))]
    return compiler, includes, runpy.run_path(str(EMULATOR / "wrap.py"))["wrap"]


def build(folder, *flags, name="faults", kernels=FAULTY_KERNELS, of_kernels=()):
    """The emulator with these kernels, (.cu file, precision), in place of csrc/cuda's, as a module of this name, which
    no other in the process may have. The flags are for all files, those ``of_kernels`` for the kernels alone."""
    compiler, includes, wrap = compiler_and_includes()
    sources = [(path, ()) for path in EMULATOR.glob("*.cpp")]
    for path, precision in kernels:
        sources.append((folder / f"{path.stem}_{precision}.cpp", of_kernels))
        sources[-1][0].write_text(wrap(path, precision))
    target = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    options = ["-std=c++17", "-fPIC", "-fvisibility=hidden", f"-DTINYDIFF_MODULE={name}", *flags]

    def compiled(source):
        path, more = source
        to = folder / f"{path.stem}.o"
        subprocess.run([compiler, *options, *more, *includes, "-c", path, "-o", to], check=True)
        return to

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, sources))
    subprocess.run([compiler, "-shared", *flags, *objects, "-o", target], check=True)
    return target


def load(path):
    spec = importlib.util.spec_from_file_location(Path(path).name.partition(".")[0], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return EmulatorLauncher(module)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
    backend_or_skip("emulator")
    return load(build(tmp_path_factory.mktemp("faults")))


def run(emulator, kernel, x, outputs=None, *, threads=64, shared=256, seed=0):
    """What a kernel of (x, y) makes of x."""
    y = emulator.empty(len(x) if outputs is None else outputs)
    emulator.use_seed(seed)
    emulator.launch(kernel, (1, 1, 1), (threads, 1, 1), shared, (x, y))
    return y


X = normal(0, 64, dtype=np.float32)


def test_a_right_kernel_is_right_in_every_order(emulator):
    for seed in SEEDS:
        assert np.array_equal(run(emulator, "right", X, seed=seed), X[::-1])


def test_a_missing_barrier_is_read_as_poison(emulator):
    for seed in SEEDS:
        y = run(emulator, "missing_barrier", X, seed=seed)
        assert 0 < np.isnan(y).sum() < 64


def test_a_race_depends_on_the_seed(emulator):
    results = {run(emulator, "missing_second_barrier", X, seed=seed).tobytes() for seed in SEEDS}
    assert len(results) > len(SEEDS) // 2


def test_an_unwritten_output_is_poison(emulator):
    y = run(emulator, "unwritten_output", X)
    assert np.isnan(y[0]) and np.array_equal(y[1:], X[1:])


@pytest.mark.parametrize(
    "kernel, message",
    [
        (
            "divergent_barrier",
            r"not all come to __syncthreads\(\) at barriers.cu:\d+: threads 0-31 wait; threads 32-63 have ended",
        ),
        (
            "two_barriers",
            r"not all come to __syncthreads\(\) at barriers.cu:\d+: threads 0-31 wait; "
            r"__syncthreads\(\) at barriers.cu:\d+: threads 32-63 wait",
        ),
        (
            "lanes_that_never_come",
            r"not all come to __shfl_xor_sync\(\) at common.cuh:\d+: threads 0-15 wait; threads 16",
        ),
        ("lane_not_named", r"__shfl_sync\(\) at barriers.cu:\d+: the mask does not name its own lane \(thread \d+\)"),
        ("too_much_shared_memory", "uses 272 bytes of shared memory, was launched with 256"),
        ("different_shared_memory", "the threads of a block divide shared memory differently"),
        ("unaligned", "an access of 16 bytes at an address that is not aligned to them"),
        ("copied_from_unaligned", "an access of 16 bytes at an address that is not aligned to them"),
    ],
)
def test_what_is_undefined_is_an_error_that_says_where(emulator, kernel, message):
    for seed in SEEDS:
        with pytest.raises(RuntimeError, match=rf"^{kernel}, block \(0, 0, 0\): {message}"):
            run(emulator, kernel, X, seed=seed)
        assert np.array_equal(run(emulator, "right", X), X[::-1])  # and the next launch is as good as any


@pytest.mark.parametrize(
    "grid, block, shared, message",
    [
        ((1, 1, 1), (1025, 1, 1), 0, "a block has 1 to 1024 threads, 64 at most in z, got"),
        ((1, 1, 1), (0, 1, 1), 0, "a block has 1 to 1024 threads"),
        ((0, 1, 1), (32, 1, 1), 0, "a grid has 1 to"),
        ((1, 65536, 1), (32, 1, 1), 0, "a grid has 1 to"),
        ((1, 1, 1), (32, 1, 1), 101_377, "a block has 101376 bytes of shared memory at most, got 101377"),
    ],
)
def test_launches_that_no_gpu_takes(emulator, grid, block, shared, message):
    with pytest.raises(RuntimeError, match=f"right: {message}"):
        emulator.launch("right", grid, block, shared, (X, emulator.empty(64)))


def test_arguments_must_have_the_kernels_sizes(emulator):
    y, read_only = emulator.empty(64), emulator.empty(64)
    read_only.flags.writeable = False
    for bad, message in (
        ((X, y, 16), "copied: argument 2 must be a NumPy scalar of int32, got int"),
        ((X, y, np.int64(16)), "copied: argument 2 must be int32, got int64"),
        ((X, y, np.float32(16)), "copied: argument 2 must be int32, got float32"),
        ((X, y, X), "copied: argument 2 must be a NumPy scalar of int32, got float32 numpy.ndarray"),
        ((X.astype(np.float64), y, np.int32(16)), "copied: argument 0 must be float32, got float64"),
        ((X[::2], y, np.int32(16)), "copied: argument 0 must be C-contiguous"),
        ((X, read_only, np.int32(16)), "copied: argument 1 must be writeable"),
        ((X, y), "copied takes 3 arguments, got 2"),
    ):
        with pytest.raises(TypeError, match=message):
            emulator.launch("copied", (1, 1, 1), (16, 1, 1), 256, bad)
    with pytest.raises(KeyError, match="no kernel is called left"):
        emulator.launch("left", (1, 1, 1), (16, 1, 1), 0, ())


def aligned(values):
    """A float32 copy at an address aligned to 16 bytes."""
    block = np.empty(values.size + 4, np.float32)
    start = -block.ctypes.data % 16 // 4
    array = block[start : start + values.size].reshape(values.shape)
    array[...] = values
    return array


@pytest.mark.parametrize("count", [0, 1, 30, 63, 64])
def test_an_asynchronous_copy_arrives_and_fills_with_zeros(emulator, count):
    x, y = aligned(X), emulator.empty(64)
    x[count:] = np.nan
    emulator.launch("copied", (1, 1, 1), (16, 1, 1), 256, (x, y, np.int32(count)))
    assert np.array_equal(y[::-1], np.where(np.arange(64) < count, X, 0))


def test_an_asynchronous_copy_arrives_as_late_as_it_may(emulator):
    y = run(emulator, "read_too_early", aligned(X), threads=8).reshape(8, 2, 4)
    assert np.array_equal(y[:, 0], X.reshape(8, 2, 4)[:, 0]) and np.isnan(y[:, 1]).all()
    for seed in SEEDS:
        y = run(emulator, "read_without_barrier", aligned(X), threads=8, seed=seed)
        assert 0 < np.isnan(y).sum() < 64


def as_bf16(x):
    """Rounded to nearest, ties to even."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def test_bfloat16_rounds_to_nearest(emulator):
    x = np.concatenate([X, [0, -0.0, np.inf, -np.inf, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, 1e-40]]).astype(np.float32)
    y = run(emulator, "rounded", x, threads=len(x) // 2)
    assert np.array_equal(y.view(np.uint32), as_bf16(x).view(np.uint32))
    assert np.isnan(run(emulator, "rounded", np.array([np.nan, 1], np.float32), threads=1)[0])


def test_the_product_of_a_warp(emulator):
    a, b = normal(1, 16, 16, dtype=np.float32), normal(2, 16, 8, dtype=np.float32)
    for seed in SEEDS:
        d = emulator.empty((16, 8))
        emulator.use_seed(seed)
        emulator.launch("product", (1, 1, 1), (32, 1, 1), 768, (a, b, d))
        assert np.allclose(d, as_bf16(a).astype(np.float64) @ as_bf16(b), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """(module, environment) of the same kernels under AddressSanitizer."""
    backend_or_skip("emulator")
    libraries = [library(name) for name in ("libasan.so", "libstdc++.so")]
    module = build(tmp_path_factory.mktemp("sanitized"), "-fsanitize=address", "-fno-omit-frame-pointer", "-g1")
    return module, {"LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": "detect_leaks=0"}


PROGRAM = """
import sys
import numpy as np
from tests.kernels.test_emulator import load, run
x = np.ones(64, np.float32)
emulator = load(sys.argv[1])
for seed in range(3):
    print(run(emulator, sys.argv[2], x, seed=seed).sum())
"""


def test_no_false_alarm(sanitized):
    module, environment = sanitized
    assert python("-c", PROGRAM, module, "right", cwd=ROOT, **environment) == "64.0\n" * 3


@pytest.mark.parametrize("kernel", ["beyond_shared_memory", "beyond_an_input", "beyond_an_output"])
def test_an_access_beyond_an_array_is_found(sanitized, kernel):
    module, environment = sanitized
    with pytest.raises(AssertionError, match=f"heap-buffer-overflow(.|\n)*{kernel}(.|\n)*located 0 bytes .* 256-byte"):
        python("-c", PROGRAM, module, kernel, cwd=ROOT, **environment)
