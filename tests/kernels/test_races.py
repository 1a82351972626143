"""Every access to shared memory has a barrier between it and those it must not meet: seen, not left to the order in
which threads happen to run. For this the kernels are compiled once more, so that the emulator sees their accesses."""

import itertools
import re

import numpy as np
import pytest

from tests.checks import backend_or_skip
from tests.kernels.conftest import KERNELS
from tests.kernels.rows import ROWS
from tests.kernels.test_emulator import CUDA, FAULTY_KERNELS, SEEDS, X, aligned, build, load, run
from tests.kernels.test_sanitizers import drawn, forward_and_backward, ops_without_a_row
from tinydiff import backends
from tinydiff.backends.cuda import CudaBackend

pytestmark = pytest.mark.slow  # they compile every kernel once more
BARRIER_OF_ATTENTION = re.compile(r"            __syncwarp\(\);  // all have read .*\n")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
    """With the kernels of csrc/cuda and of ``faults/``, and those of attention without a barrier, as ``bare_<name>``."""
    backend_or_skip("emulator", "bf16")
    folder = tmp_path_factory.mktemp("races")
    text, count = BARRIER_OF_ATTENTION.subn("", (CUDA / "attention.cu").read_text())
    assert count == 1
    bare = folder / "bare.cu"
    bare.write_text(text.replace(" void attention_", " void bare_attention_"))
    kernels = [*itertools.product(sorted(CUDA.glob("*.cu")), backends.PRECISIONS)]
    kernels += [*FAULTY_KERNELS, (bare, "fp32")]
    return load(build(folder, "-O1", name="races", kernels=kernels, of_kernels=["-fsanitize=thread"]))


def in_every_way(emulator, precision):
    backend = CudaBackend("emulator", precision, emulator)
    return backend, KERNELS["emulator"](backend)


@pytest.mark.parametrize("op", ROWS)
@pytest.mark.parametrize("precision", backends.PRECISIONS)
def test_no_kernel_has_a_race(emulator, op, precision):
    backend, kernels = in_every_way(emulator, precision)
    rng = np.random.default_rng(0)
    for _ in kernels.each(op=op):
        for sizes in drawn(ROWS[op].sizes, 10):
            forward_and_backward(getattr(backend, op), rng, *ROWS[op].inputs(rng, **sizes))
    kernels.use(*kernels.before)


def test_nor_have_those_of_random_numbers_and_of_training(emulator):
    backend, kernels = in_every_way(emulator, "fp32")
    for _ in kernels.each():
        ops_without_a_row(backend, (41, 13), 1003)
    kernels.use(*kernels.before)


@pytest.mark.parametrize(
    "kernel, threads", [("right", 64), ("maximum", 32), ("passed_on", 32), ("halves_of_words", 64), ("copied", 16)]
)
def test_what_is_in_order_is_no_race(emulator, kernel, threads):
    for seed in SEEDS:
        emulator.use_seed(seed)
        y, sizes = emulator.empty(64), (np.int32(64),) if kernel == "copied" else ()
        emulator.launch(kernel, (2, 1, 1), (threads, 1, 1), 256, (aligned(X), y, *sizes))


RACE = r"a race for byte \d+ of array \d+ of shared memory: between a (read|write) by thread \d+, "


@pytest.mark.parametrize(
    "kernel, threads, message",
    [
        ("missing_barrier", 64, RACE + "at once, and an access by thread"),
        ("missing_second_barrier", 64, RACE + r"after __syncthreads\(\) at barriers.cu"),
        ("maximum_by_shuffles", 32, RACE + r"after __shfl_xor_sync\(\) at common.cuh"),
        ("maximum_by_votes", 32, RACE + r"after __ballot_sync\(\) at races.cu"),
        ("maximum_without_a_lane", 32, r"a race .* by thread (0, .* thread 7|7, .* thread 0) there is no barrier"),
        ("halves", 32, RACE + r"after __syncwarp\(\) at races.cu:\d+, and an access by thread"),
        ("written_twice", 64, "a race for byte 0 .* write by thread (0,.* thread 32|32,.* thread 0) there"),
        ("product_without_barrier", 32, RACE + "after ldmatrix at ptx.cu"),
        ("read_without_barrier", 8, RACE),
    ],
)
def test_a_race_is_found_in_every_order(emulator, kernel, threads, message):
    for seed in SEEDS:
        with pytest.raises(RuntimeError, match=rf"^{kernel}, block \(0, 0, 0\): {message}"):
            run(emulator, kernel, aligned(X), threads=threads, shared=512, seed=seed)


@pytest.mark.parametrize("name, raises", [("attention", False), ("bare_attention", True)])
def test_the_barrier_of_attention(emulator, name, raises):
    """Without it the values are right in every order: each lane has read what lane 0 will write, as it has passed on
    what it made of it. But nothing tells the compiler to let the reading go first."""
    q, k, v = (emulator.asarray(np.ones((1, 1, 1, 1), np.float32)) for _ in range(3))
    arguments = q, k, v, emulator.empty(q.shape), emulator.empty((1, 1, 1)), *map(np.int32, (1, 1, 1, 1)), np.float32(1)
    arguments = *arguments, None, np.int32(0)  # all keys, and not causal
    launch = f"{name}_forward_v2_one_pass", (1, 1, 1), (128, 1, 1), 49152, arguments
    if raises:
        with pytest.raises(RuntimeError, match=RACE + r"after __shfl_xor_sync\(\)"):
            emulator.launch(*launch)
    else:
        emulator.launch(*launch)
