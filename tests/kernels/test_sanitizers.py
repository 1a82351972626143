"""csrc/cpu and csrc/cuda under AddressSanitizer and UndefinedBehaviorSanitizer: no kernel touches what is not its own.

For each of the two a copy of the package is built with both sanitizers, and without the recycling of memory. There
this file, run as a program, computes every op in every way, on arrays of which the first byte beyond the last value is
an error to touch.
"""

import ctypes
import inspect
import itertools
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.checks import backend_or_skip
from tests.test_install import copy_to_build, python

pytestmark = pytest.mark.slow  # all kernels are compiled once more
SANITIZE = "-fsanitize=address,undefined -fno-sanitize-recover=all"
CXXFLAGS = f"{SANITIZE} -fno-wrapv -fno-omit-frame-pointer -O1 -g1 -UNDEBUG -DTINYDIFF_NO_RECYCLING"
THREADS = (1, 3)


@pytest.fixture(scope="module")
def sanitized(request, tmp_path_factory):
    """(folder, environment) in which Python finds the sanitized kernels of a backend, and those of no other."""
    backend_or_skip(request.param)
    libraries = [library(name) for name in ("libasan.so", "libubsan.so", "libstdc++.so")]
    folder = copy_to_build(tmp_path_factory.mktemp("sanitized"))
    setup, both = folder / "setup.py", "ext_modules=[cpu, emulator]"
    assert both in setup.read_text()
    setup.write_text(setup.read_text().replace(both, f"ext_modules=[{request.param}]"))
    compiler = {"CC": "gcc", "CXX": "g++", "CXXFLAGS": CXXFLAGS, "LDFLAGS": SANITIZE}
    said = python("setup.py", "build_ext", "--inplace", cwd=folder, **compiler)
    # GCC 12 takes what lies in a frame that is kept after its return to be aligned to 64 bytes, as it lays out vectors of
    # AVX-512 in memory; it is not, and the first store of such a vector ends the program
    kept = 0 if request.param == "cpu" else 1
    built = [path.name.partition(".")[0] for path in folder.glob("tinydiff/backends/_*.so")]
    assert built == [f"_{request.param}"], said
    return folder, {
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": f"detect_leaks=0:detect_stack_use_after_return={kept}",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }


def library(name):
    """The path of a library that comes with g++; where there is none the test is skipped."""
    if not sys.platform.startswith("linux") or shutil.which("g++") is None:
        pytest.skip("the sanitizers are those of g++ on Linux")
    command = ["g++", f"-print-file-name={name}"]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if not os.path.isabs(path):
        pytest.skip(f"g++ comes without {name} here")
    return path


def of(backend, *cases):
    """These cases of a test with the sanitized kernels of a backend."""
    return [pytest.param(backend, *case) for case in cases]


@pytest.mark.parametrize(
    "sanitized, what",
    [*of("cpu", ["every op"]), *of("emulator", ["every CUDA kernel"])],
    indirect=["sanitized"],
    scope="module",
)
def test_every_op_in_every_way(sanitized, what):
    folder, environment = sanitized
    python("-m", __name__, what, cwd=folder, **environment)


@pytest.mark.parametrize("sanitized", [*of("cpu", []), *of("emulator", [])], indirect=True)
def test_every_promise(sanitized):
    folder, environment = sanitized
    run_pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    python(*run_pytest, "tests/kernels/test_promises.py", "tests/ops/test_contract.py", cwd=folder, **environment)


@pytest.mark.parametrize("sanitized", of("cpu", []), indirect=True)
def test_programs(sanitized):
    """Without Python between the calls, and with prepared filters."""
    folder, environment = sanitized
    which = "every_op or prepared_filters or points or operators or out_of_range or rounds"
    run_pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", which]
    files = "tests/program/test_captured.py", "tests/kernels/test_cpu.py", "tests/kernels/test_rounding.py"
    python(*run_pytest, *files, cwd=folder, **environment)


@pytest.mark.parametrize(
    "sanitized, error, report",
    [
        *of(
            "cpu",
            ["read beyond an input", "located 0 bytes .* 124-byte region"],
            ["read beyond an output", "located 0 bytes .* 124-byte region"],
            ["read an output that is gone", "heap-use-after-free"],
            ["overflow", "signed integer overflow"],
        ),
        *of(
            "emulator",
            ["read beyond a CUDA kernel's input", "silu_forward_v(.|\n)*located 0 bytes .* 124-byte region"],
        ),
    ],
    indirect=["sanitized"],
    scope="module",
)
def test_an_error_would_be_seen(sanitized, error, report):
    folder, environment = sanitized
    with pytest.raises(AssertionError, match=report):
        python("-m", __name__, error, cwd=folder, **environment)


# The program, run where ``tinydiff`` has sanitized kernels.


def main(what):
    from tinydiff import backends

    if what == "every op":
        return every_op()
    if what == "every CUDA kernel":
        return every_cuda_kernel()
    if what == "read beyond a CUDA kernel's input":
        return backends.get("emulator").silu.forward(longer(at_the_end(np.ones(31, np.float32))))

    from tinydiff.backends import _cpu, cpu

    silu = cpu.silu("fp32").forward
    if what == "read beyond an input":
        silu(longer(at_the_end(np.ones(31, np.float32))))
    elif what == "read beyond an output":
        silu(longer(silu(np.ones(31, np.float32))[0]))
    elif what == "read an output that is gone":
        address = silu(np.ones(31, np.float32))[0].ctypes.data
        silu(np.frombuffer((ctypes.c_float * 31).from_address(address), np.float32))
    elif what == "overflow":
        _cpu.fp32.upsample2x_backward(np.ones((1, 2, 2, 1), np.float32), (1, 2**62, 1, 1))


def longer(x):
    """x with one value more than it has."""
    return np.lib.stride_tricks.as_strided(x, (x.size + 1,))


def at_the_end(values, start=0, dtype=np.float32):
    """A copy that ends with its block of memory; half of the time it also begins with it, else anywhere inside."""
    before = max(0, start - 8)
    block = np.empty(before + values.size, dtype)
    array = block[before:].reshape(values.shape)
    array[...] = values
    return array


def every_op():
    from tests.kernels import rows
    from tests.kernels.conftest import KERNELS
    from tests.train import tiny
    from tinydiff import backends
    from tinydiff.backends import cpu
    from tinydiff.train import Trainer

    rows.between_nans = at_the_end
    rng, conv2d = np.random.default_rng(0), rows.ROWS["conv2d"]
    every_cut = [dict(N=1 + (H + W) % 2, H=H, W=W, C=3, O=5) for H, W in itertools.product(range(1, 10), range(1, 6))]
    for precision in backends.PRECISIONS:
        backend = backends.get("cpu", precision)
        kernels = KERNELS["cpu"](backend)
        for op, row in rows.ROWS.items():
            for sizes in [*row.always, *drawn(row.sizes)]:
                for _ in kernels.each(THREADS):
                    forward_and_backward(getattr(backend, op), rng, *row.inputs(rng, **sizes))

        for version in cpu.CONV2D_VERSIONS[1:]:
            cpu.use_conv2d_version(version)
            for sizes in [*conv2d.always, *every_cut]:
                for _ in kernels.each(THREADS):
                    forward_and_backward(backend.conv2d, rng, *conv2d.inputs(rng, **sizes))
        cpu.use_conv2d_version("fastest")

        for _ in kernels.each(THREADS):
            for model in ({}, {"film": True}):
                Trainer(tiny.trainer(model=model).config, tiny.dataset(), backend).train_step()
    for _ in kernels.each(THREADS):
        ops_without_a_row(backend, (401, 13), 20_003)


def every_cuda_kernel():
    """At sizes that an emulator has time for."""
    from tests.kernels import rows
    from tests.kernels.conftest import KERNELS
    from tinydiff import backends

    rows.between_nans = at_the_end
    rng = np.random.default_rng(0)
    for precision in backends.PRECISIONS:
        backend = backends.get("emulator", precision)
        kernels = KERNELS["emulator"](backend)
        for op, row in rows.ROWS.items():
            for _ in kernels.each(op=op):
                for sizes in drawn(row.sizes, 8):
                    forward_and_backward(getattr(backend, op), rng, *row.inputs(rng, **sizes))
    for _ in kernels.each():
        ops_without_a_row(backend, (41, 13), 1003)


def ops_without_a_row(backend, largest, most):
    """Up to a largest shape and a largest number of parameters."""
    from tests.kernels import test_adamw
    from tinydiff.ops.philox import KINDS
    from tinydiff.precision import bfloat16

    for kind, shape in itertools.product(KINDS, [(), (0,), (3,), largest]):
        backend.philox.forward(5, "noise", np.array([3, 1, 2]), 7, shape, kind=kind)
    labels, number = np.arange(7) % 2, np.array([1])
    options = dict(batch=9, noise_steps=5, classes=2, dropout=0.5, seed=5)
    index, step, _ = backend.draw_batch.forward(labels, number, **options)
    for shape, dtype in itertools.product([(3,), largest], [np.uint8, np.float32]):
        images = np.ones((7, *shape), dtype)
        table = at_the_end(np.ones((5, 5), np.float32))
        backend.corrupt.forward(images, index, step, table, number, seed=5)
        backend.corrupt.forward(images.reshape(7, 1, -1, 1), index, step, table, number, seed=5, flip=True)
    for P in (1, 7, 33, most):
        start = [np.ones(P, np.float32) for _ in test_adamw.BUFFERS]
        options = {"decayed": P // 2, "weight_decay": 0.1}
        test_adamw.train(backend.adamw, start, start[:2], options, at_the_end)
        options["copy"] = at_the_end(np.ones(P // 2), dtype=bfloat16()) if P > 1 else None
        test_adamw.train(backend.adamw, start[:3], start[:2], options, at_the_end)


def forward_and_backward(op, rng, inputs, options):
    from tests.kernels.rows import floats

    def stored(name, x):
        """As the op takes it."""
        dtype = op.dtype(name) if hasattr(op, "dtype") else np.float32
        is_other = isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.dtype != dtype
        return at_the_end(x, int(rng.integers(16)), dtype) if is_other else x

    inputs = [stored(name, x) for name, x in zip(inspect.signature(op.forward).parameters, inputs)]
    if not hasattr(op, "backward"):
        op.forward(*inputs, **options)
        return
    y, cache = op.forward(*inputs, **options)
    op.backward(stored("dy", floats(rng, *y.shape)) if y.ndim else 1.5, cache)


def drawn(strategy, count=20):
    """Some values of a strategy, the same every time."""
    values = []

    slow = [HealthCheck.too_slow]  # a busy machine is no reason to fail

    @settings(max_examples=count, phases=[Phase.generate], database=None, derandomize=True, suppress_health_check=slow)
    @given(strategy)
    def draw(value):
        values.append(value)

    draw()
    return values


if __name__ == "__main__":
    main(sys.argv[1])
