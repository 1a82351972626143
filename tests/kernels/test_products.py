"""The products of bfloat16, and of integers, under every convolution, in instruction sets that hardly a machine has.

A small program (products.cpp) is compiled with csrc/cpu/gemm.h for each:

    baseline   what every machine runs
    amx        twice, as few machines have tiles: on a stand-in for the compiler's intrinsics, which is plain C++; and
               compiled as the backend is, each instruction on tiles computed by the stand-in when the machine traps it
               (where it does not, for having tiles, it is they that are tested). GCC 12 is not told that they read
               memory: on the stand-in nobody would see what it makes of that
    neon_bf16  by a cross compiler, and run by QEMU
"""

import dataclasses
import itertools
import os
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.checks import assert_as_good, backend_or_skip, normal
from tests.test_install import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the program protects pages as POSIX does")

CPU, HERE = ROOT / "csrc" / "cpu", ROOT / "tests" / "kernels"
FLAGS = ["-std=c++17", "-O0", "-Wno-psabi", f"-I{CPU}"]
NATIVE = shlex.split(os.environ.get("CXX", "c++"))
AMX_FLAGS = [f"-mavx512{part}" for part in ("f", "vl", "bw", "dq", "bf16", "vnni")] + ["-mfma", "-mamx-tile", "-mamx-bf16"]
ARM = "aarch64-linux-gnu-g++"
ARM_FLAGS = {"baseline": [], "neon_bf16": ["-march=armv8.2-a+bf16"]}
ROWS, GATHERED, TRANSPOSED, ROUNDING, FIXED = range(5)
LENGTH = 32767  # of a row of integers (csrc/cpu/fixed_point.h)


@dataclasses.dataclass
class Build:
    """How to make and run the program."""

    name: str  # of the instruction set
    width: int  # floats a vector
    gathered: int = 12  # rows that lie anywhere, at most
    compiler: list = dataclasses.field(default_factory=lambda: NATIVE)
    flags: list = ()
    sources: list = ()  # besides
    runner: list = ()


BUILDS = {
    "baseline": Build("baseline", 4, 6),
    "amx": Build("amx", 16, flags=["-D__AMX_BF16__", f"-I{HERE / 'amx'}"]),
    "amx, compiled": Build("amx", 16, flags=["-O3", *AMX_FLAGS], sources=[HERE / "amx" / "traps.cpp"]),
    "neon_bf16": Build(
        "neon_bf16",
        4,
        compiler=[ARM],
        flags=[*ARM_FLAGS["neon_bf16"], "-static"],
        runner=["qemu-aarch64", "-cpu", "max"],
    ),
}


def build(name, to, sources=CPU):
    """The program for one of ``BUILDS``; where a compiler or an emulator is missing the test is skipped."""
    own = BUILDS[name]
    if name == "amx, compiled":
        backend_or_skip("cpu")
        from tinydiff.backends import cpu

        if sys.platform != "linux" or "avx512_bf16" not in cpu.instruction_sets():
            pytest.skip("all but the tiles must be there, and Linux")
    for needed in (own.compiler[0], *own.runner[:1]):
        if shutil.which(needed) is None:
            pytest.skip(f"{needed} is not here")
    flags = [*FLAGS, f"-DTINYDIFF_ISA={own.name}", f"-DTINYDIFF_W={own.width}", *own.flags]
    files = [HERE / "products.cpp", sources / "gemm.cpp", sources / "tiles.cpp", *own.sources]
    subprocess.run([*own.compiler, *flags, *files, "-o", to / "products"], check=True)
    return Program(own, [*own.runner, to / "products"])


@dataclasses.dataclass
class Program:
    of: Build
    command: list

    def solve(self, problems):
        """What it makes of each problem's c."""
        asked = b"".join(problem.text() for problem in problems)
        done = subprocess.run(self.command, input=asked, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        results = np.frombuffer(done.stdout, np.float32)
        ends = np.cumsum([problem.c.size for problem in problems])
        assert results.size == ends[-1]
        return [part.reshape(problem.c.shape) for part, problem in zip(np.split(results, ends), problems, strict=False)]


@pytest.fixture(scope="module", params=BUILDS)
def program(request, tmp_path_factory):
    return build(request.param, tmp_path_factory.mktemp("products"))


def bfloat16(x):
    """x rounded to nearest, to even, as float32."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1) >> 16 << 16) & 0xFFFFFFFF).astype(np.uint32).view(np.float32)


def words(low, high):
    """Pairs of bfloat16."""
    low, high = (np.ascontiguousarray(x, np.float32).view(np.uint32) >> 16 for x in (low, high))
    return low | high << 16


@dataclasses.dataclass
class Problem:
    """c = or += a b: a (rows, 2 K) and b (2 K, columns) as numbers, and how they lie, as words."""

    kind: int
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray  # (rows, ldc): what is there before
    accumulate: bool
    stored_a: np.ndarray  # (K, lda) where transposed, else (rows, lda)
    stored_b: np.ndarray
    K: int
    columns: int
    segments: int = 1
    starts: tuple = ()  # of FIXED the scales

    def text(self):
        lda, ldb, ldc = (x.shape[-1] for x in (self.stored_a, self.stored_b, self.c))
        sizes = [self.stored_a.size, self.stored_b.size, self.c.size]
        numbers = [self.kind, len(self.c), self.columns, self.segments, self.K, lda, ldb, ldc, self.accumulate, *sizes]
        parts = [np.array(numbers, np.int64), *self.starts, self.stored_a, self.stored_b, self.c]
        return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)

    def check(self, result):
        """Every float of the result; beyond the columns nothing is written."""
        product = lambda dtype: self.a.astype(dtype) @ self.b.astype(dtype)
        before = self.c[:, : self.columns] * self.accumulate
        what = f"kind {self.kind}, {len(self.c)} rows, {self.K} words, {self.columns} columns"
        truth = product(np.float64) + before
        entering = np.max(np.abs(self.a)) * np.max(np.abs(self.b))
        assert_as_good(
            result[:, : self.columns], truth, product(np.float32) + before, times=8, entering=entering, name=what
        )
        assert np.array_equal(result[:, self.columns :], self.c[:, self.columns :])


def problem(kind, rows, K, columns, accumulate=False, extra=0, segments=1, seed=0):
    """``extra`` words and floats lie between rows, NaN where nobody may look."""
    a, b = bfloat16(normal(seed, rows, 2 * K * segments)), bfloat16(normal(seed + 1, 2 * K * segments, columns))
    c = normal(seed + 2, rows, columns + extra, dtype=np.float32)
    nan = np.uint32(0x7FC07FC0)
    stored_b = np.full((K * segments, columns + extra), nan)
    stored_b[:, :columns] = words(b[0::2], b[1::2])
    left, starts = words(a[:, 0::2], a[:, 1::2]), ()
    if kind == TRANSPOSED:
        left = left.T
    if kind == GATHERED:  # rows of a segment, in an order of their own
        left = left.reshape(rows * segments, K)
        order = np.random.default_rng(seed).permutation(len(left))
        left = left[np.argsort(order)]
        places = order.reshape(rows, segments).T
        starts = places * (K + extra), np.arange(segments) * K * stored_b.shape[1]
    stored_a = np.full((left.shape[0], left.shape[1] + extra), nan)
    stored_a[:, : left.shape[1]] = left
    return Problem(kind, a, b, c, accumulate, stored_a, stored_b, K, columns, segments, starts)


def rows_and_depths():
    yield from itertools.product((1, 2, 11, 15, 16, 17, 31, 32, 33, 49, 96), (1, 15, 16, 17, 40))
    yield from itertools.product((7, 12, 32, 45), (31, 64, 127, 128, 129, 300))


def every_problem(of):
    """All that go through other branches, whatever the instruction set."""
    for seed, (rows, K) in enumerate(rows_and_depths()):
        for vectors, accumulate in itertools.product((1, 2), (False, True)):
            given = dict(accumulate=accumulate, extra=(0, 3)[seed % 2], seed=seed)
            yield problem(ROWS, rows, K, vectors * of.width, **given)
            yield problem(TRANSPOSED, rows, K, (vectors + 2 * (seed % 3)) * of.width, **given)
            if rows <= of.gathered:
                yield problem(GATHERED, rows, K, vectors * of.width, segments=1 + seed % 4, **given)


def test_every_product(program):
    problems = list(every_problem(program.of))
    for each, result in zip(problems, program.solve(problems), strict=True):
        each.check(result)


def integers(seed, rows, K):
    """Rows of 2 K integers of the largest length there is; among them one that is a single number."""
    x = normal(seed, rows, 2 * K)
    x[-1] *= np.arange(2 * K) == 1
    return np.rint(x * (LENGTH / np.linalg.norm(x, axis=1, keepdims=True))).astype(np.int16)


def test_products_of_integers_are_exact(program):
    """Also the largest: of rows with themselves."""
    problems, expected = [], []
    for seed, (rows, K) in enumerate(rows_and_depths()):
        columns, extra = (1 + seed % 2) * program.of.width, (0, 3)[seed % 2]
        a, b = integers(seed, rows, K), integers(seed + 1, columns, K)
        b[: min(rows, columns)] = a[: min(rows, columns)]
        scales = [normal(seed, n, dtype=np.float32) for n in (rows, columns)]
        stored_a, stored_b = np.full((rows, K + extra), -1), np.full((K, columns + extra), -1)
        stored_a[:, :K], stored_b[:, :columns] = a.view(np.int32), np.ascontiguousarray(b).view(np.int32).T
        c = normal(seed, rows, columns + extra, dtype=np.float32)
        stored = (each.astype(np.int32) for each in (stored_a, stored_b))
        problems.append(Problem(FIXED, None, None, c, False, *stored, K, columns, starts=scales))
        sums = a.astype(np.int64) @ b.T.astype(np.int64)
        assert 0.99 < np.abs(sums).max() / LENGTH**2 < 1.01
        made = c.copy()
        made[:, :columns] = sums.astype(np.float32) * (scales[0][:, None] * scales[1])
        expected.append(made)
    for result, made in zip(program.solve(problems), expected, strict=True):
        assert np.array_equal(result, made)


def test_the_bits_of_a_row_do_not_depend_on_the_others(program):
    """How rows are divided may depend on the number of threads."""
    for kind, K in itertools.product((ROWS, TRANSPOSED), (16, 37)):
        whole = problem(kind, 45, K, 2 * program.of.width)
        cuts = [(i, j) for i, j in itertools.pairwise((0, 1, 6, 23, 45))]
        rows = lambda x, i, j: x[:, i:j] if kind == TRANSPOSED else x[i:j]
        part = lambda i, j: dataclasses.replace(whole, c=whole.c[i:j], stored_a=rows(whole.stored_a, i, j))
        result, *parts = program.solve([whole, *(part(*cut) for cut in cuts)])
        assert np.array_equal(np.concatenate(parts), result)


def test_rounding(program):
    """To nearest, to even at a tie; numbers too small to be normal may be zeros."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    bits = np.concatenate([upper | lower for lower in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)])
    x = bits.view(np.float32)
    x = x[np.isfinite(x) & ((np.abs(x) >= np.finfo(np.float32).tiny) | (x == 0))]
    x = np.concatenate([x, np.zeros(-x.size % program.of.width, np.float32)])
    nothing = np.zeros((0, 0), np.uint32)
    [result] = program.solve([Problem(ROUNDING, None, None, x, False, nothing, nothing, 0, 0)])
    assert np.array_equal(result.view(np.uint32), bfloat16(x).view(np.uint32))
    [result] = program.solve(
        [Problem(ROUNDING, None, None, np.full(program.of.width, np.nan, np.float32), False, nothing, nothing, 0, 0)]
    )
    assert np.isnan(result).all()


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("stride_b = ldb *", "stride_b = (ldb + 1) *"),
        ("_tile_loadd(7, b + W,", "_tile_loadd(7, b,"),
        ("lanes<(lane & distance ? 16 + lane : lane + distance)...>", "lanes<(lane & distance ? 16 + lane : lane)...>"),
    ],
)
def test_an_error_would_be_seen(right, wrong, tmp_path):
    sources = shutil.copytree(CPU, tmp_path / "cpu")
    text = (sources / "tiles.cpp").read_text()
    assert right in text
    (sources / "tiles.cpp").write_text(text.replace(right, wrong))
    with pytest.raises(AssertionError):
        test_every_product(build("amx", tmp_path, sources))


HAS = """
#include <cstdio>
#include "machine.h"
int main() { std::printf("%d %d %d", tinydiff::has_avx512_bf16(), tinydiff::has_amx(), tinydiff::has_neon_bf16()); }
"""


@pytest.mark.parametrize("processor, has", [("max", "0 0 1"), ("cortex-a72", "0 0 0")])
def test_an_arm_machine_says_what_it_has(processor, has, tmp_path):
    for needed in (ARM, "qemu-aarch64"):
        if shutil.which(needed) is None:
            pytest.skip(f"{needed} is not here")
    (tmp_path / "has.cpp").write_text(HAS)
    subprocess.run([ARM, *FLAGS, "-static", tmp_path / "has.cpp", "-o", tmp_path / "has"], check=True)
    command = ["qemu-aarch64", "-cpu", processor, tmp_path / "has"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == has


@pytest.mark.slow
@pytest.mark.parametrize("name", ARM_FLAGS)
def test_every_kernel_compiles_for_arm(name):
    if shutil.which(ARM) is None:
        pytest.skip(f"{ARM} is not here")
    flags = [*FLAGS, f"-DTINYDIFF_ISA={name}", "-DTINYDIFF_W=4", *ARM_FLAGS[name], "-fsyntax-only"]
    for source in sorted(CPU.glob("*.cpp")):
        if not source.name.startswith("bindings"):
            subprocess.run([ARM, *flags, source], check=True)
