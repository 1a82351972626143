"""What only the cpu backend has: its switches, the versions of conv2d, threads among other threads and processes."""

import itertools
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.checks import backend_or_skip, normal
from tests.kernels.comparison import assert_same
from tests.kernels.conftest import KERNELS
from tests.kernels.rows import ROWS
from tests.kernels.test_against_reference import check


@pytest.fixture
def cpu():
    backend_or_skip("cpu")
    from tinydiff.backends import cpu

    before = cpu.instruction_set(), cpu.threads()
    yield cpu
    cpu.use_instruction_set(before[0])
    cpu.use_threads(before[1])
    cpu.use_conv2d_version("fastest")


def test_instruction_sets(cpu):
    names = cpu.instruction_sets()
    assert names[0] == "baseline" and cpu.instruction_set() in names
    for name in names:
        cpu.use_instruction_set(name)
        assert cpu.instruction_set() == name
    with pytest.raises(ValueError, match="instruction set .*'mmx'"):
        cpu.use_instruction_set("mmx")
    assert cpu.instruction_set() == names[-1]


def test_threads(cpu):
    for n in (1, 3):
        cpu.use_threads(n)
        assert cpu.threads() == n
    for bad in (0, -1, 1025):
        with pytest.raises(ValueError, match=r"the number of threads must lie in 1 \.\. 1024, got"):
            cpu.use_threads(bad)
    assert cpu.threads() == 3


def test_more_tasks_than_threads_can_claim_one_by_one(cpu):
    """Each sample of a group norm is one; of a million and more a thread takes several at a time."""
    x, one = normal(0, 2**20 + 3, 1, 1, 4, dtype=np.float32), np.ones(4, np.float32)
    made = []
    for n in (1, 3):
        cpu.use_threads(n)
        made.append(cpu.CpuBackend().group_norm.forward(x, one, one, groups=1)[0])
    assert_same(made[1], made[0], "3 threads:")


def test_memory_is_used_again(cpu):
    """After a few rounds nothing more is taken from the system: what is in use and what is kept stay the same."""
    backend, held = cpu.CpuBackend(), []
    cpu.use_threads(1)  # with more, how many blocks are needed at once depends on who is faster
    for _ in range(6):
        h, caches = normal(0, 2, 28, 28, 16, dtype=np.float32), []
        for _ in range(5):
            h, cache = backend.conv2d.forward(h, normal(1, 3, 3, 16, 16, dtype=np.float32), padding=1)
            caches.append(cache)
        for cache in reversed(caches):
            h, dw, _, _ = backend.conv2d.backward(h, cache)
        del h, dw, cache, caches
        held.append(sum(cpu.memory()))
    assert held[-1] == held[-2] == held[-3]


PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "bf16"])
VERSIONS = pytest.mark.parametrize("version", ["direct", "winograd_2", "winograd_4"])


@PRECISIONS
@VERSIONS
def test_every_version_of_conv2d(cpu, version, precision):
    """Where ``fastest`` would not choose it too."""
    assert version in cpu.CONV2D_VERSIONS
    cpu.use_conv2d_version(version)
    kernels = KERNELS["cpu"](backend_or_skip("cpu", precision))
    for seed, sizes in enumerate(ROWS["conv2d"].always):
        check(kernels, "conv2d", sizes, seed, (1, 3))
    for H, W in itertools.product(range(1, 10), range(1, 6)):  # every way a tile can be cut off
        check(kernels, "conv2d", dict(N=1 + (H + W) % 3, H=H, W=W, C=3, O=5), H, (1,))


@PRECISIONS
@pytest.mark.parametrize(
    "sizes",
    [
        dict(N=1, H=7, W=7, C=16, O=32),  # by Winograd, all points at once
        dict(N=1, H=9, W=11, C=13, O=70),  # one panel after another
        dict(N=1, H=2, W=2, C=65, O=7),  # directly
        dict(N=1, H=4, W=6, C=33, O=64, R=1, S=1, padding=0),  # were it not prepared, as it stands
        dict(N=1, H=5, W=7, C=1, O=48, stride=2, padding=(0, 1)),
    ],
    ids=str,
)
def test_prepared_filters_give_the_same_bits(cpu, precision, sizes):
    kernels = KERNELS["cpu"](backend_or_skip("cpu", precision))
    (x, w, b, _), options = ROWS["conv2d"].inputs(np.random.default_rng(0), **sizes)
    x, w = (each.astype(kernels.backend.conv2d.dtype("w")) for each in (x, w))

    def function():
        return [kernels.backend.conv2d.forward(x, w, b, **options)[0] for _ in range(2)]

    captured, frozen = (kernels.backend.capture(function, frozen_weights=is_frozen) for is_frozen in (False, True))
    for way, n in kernels.each((1, 3)):
        expected = function()
        for each in (captured, frozen):
            assert_same(each(), expected, f"{way}, {n} threads: prepared filters change")
            is_prepared = each.load().prepared.nbytes > w.nbytes / 2
            assert is_prepared or precision == "fp32"  # where few pixels meet them as they stand
    w *= w.dtype.type(2)
    if is_prepared:
        assert_same(frozen(), expected, "filters that are not frozen change")
    assert_same(captured(), function(), "prepared filters are not those of now:")


@PRECISIONS
@pytest.mark.parametrize("rows, where", [(49, ["fp32", "bf16"]), (1, ["bf16"]), (600, [])])
def test_a_prepared_matrix_gives_the_same_bits(cpu, precision, rows, where):
    """Of a linear layer that few rows meet, which one group of them reads no better than as it stands."""
    kernels = KERNELS["cpu"](backend_or_skip("cpu", precision))
    (x, w, b), _ = ROWS["linear"].inputs(np.random.default_rng(0), leading=[rows], C=33, O=64)
    x, w = (each.astype(kernels.backend.linear.dtype("w")) for each in (x, w))
    function = lambda: kernels.backend.linear.forward(x, w, b)[0]
    captured = kernels.backend.capture(function, frozen_weights=True)
    for way, n in kernels.each((1, 3)):
        assert_same(captured(), function(), f"{way}, {n} threads: a prepared matrix changes")
        assert (captured.load().prepared.nbytes >= w.nbytes) == (precision in where)


def test_versions_of_conv2d(cpu):
    assert cpu.CONV2D_VERSIONS[0] == "fastest"
    with pytest.raises(ValueError, match="version of conv2d must be one of fastest, .*, got 'slowest'"):
        cpu.use_conv2d_version("slowest")


def test_it_says_which_version_of_conv2d_it_takes(cpu):
    few, x, w = (normal(0, *shape, dtype=np.float32) for shape in ((1, 1, 1, 16), (4, 16, 16, 16), (3, 3, 16, 16)))
    for precision in ("fp32", "bf16"):
        conv2d = backend_or_skip("cpu", precision).conv2d
        few, x, w = (each.astype(conv2d.dtype("x")) for each in (few, x, w))
        assert conv2d.version(x, w, padding=1) == "winograd_4" and conv2d.version(few, w, padding=1) == "direct"
        for version in cpu.CONV2D_VERSIONS[1:]:
            cpu.use_conv2d_version(version)
            assert conv2d.version(x, w, padding=1) == version
            assert conv2d.version(x, w, stride=2, padding=1) == "direct"
        cpu.use_conv2d_version("fastest")


def product(cpu):
    x, w = normal(0, 200, 64, dtype=np.float32), normal(1, 64, 96, dtype=np.float32)
    assert cpu.threads() == 3
    return cpu.linear("fp32").forward(x, w)[0]


def test_threads_of_python_do_not_disturb_each_other(cpu):
    cpu.use_threads(3)
    expected = product(cpu)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(each, expected) for each in pool.map(lambda i: product(cpu), range(200)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_computes_too(cpu):
    cpu.use_threads(3)
    expected = product(cpu)
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # should it wait for threads that it does not have
        os._exit(0 if np.array_equal(product(cpu), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
