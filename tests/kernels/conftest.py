"""The compiled backends, each with every way it can compute: an entry of KERNELS."""

import dataclasses
from typing import Any

import pytest

from tests.checks import COMPILED, backend_or_skip
from tests.kernels.on_host import OnHost


@dataclasses.dataclass
class Kernels:
    """A backend and its switches. ``use(way, threads)`` decides how it computes from then on.

    In the emulator, the order in which threads run takes the place of their number: it too must not change a bit.
    """

    backend: Any
    ways: list  # names; for a CPU its instruction sets
    ways_of: Any  # op -> those in which it differs
    use: Any
    before: tuple  # the way and the threads that were in use
    threads: tuple  # numbers of threads worth trying, 1 first
    examples: int  # how many problems of drawn sizes it has time for

    def each(self, threads=(1,), op=None):
        """(way, n) with that way and number of threads in use, one after the other; of an op only ways that differ."""
        for way in self.ways_of(op) if op else self.ways:
            for n in threads:
                self.use(way, n)
                yield way, n


def _cpu(backend):
    from tinydiff.backends import cpu

    def use(way, threads):
        cpu.use_instruction_set(way)
        cpu.use_threads(threads)

    before = cpu.instruction_set(), cpu.threads()
    ways = cpu.instruction_sets()
    return Kernels(backend, ways, lambda op: ways, use, before, threads=(1, 2, 3, 5), examples=100)


def _emulator(backend):
    from tinydiff.backends import launch_table

    def use(way, threads):
        backend.launcher.use_seed(threads)
        for op in launch_table.TABLE:
            launch_table.use_version(op, way if way in launch_table.versions(op) else None)

    every = (launch_table.versions(op, backend.precision) for op in launch_table.TABLE)
    ways = sorted({version for versions in every for version in versions})
    ways_of = lambda op: launch_table.versions(op, backend.precision)
    return Kernels(backend, ways, ways_of, use, (None, 0), threads=(1, 2), examples=50)


def _cuda(backend):
    kernels = _emulator(backend)
    return dataclasses.replace(kernels, backend=OnHost(backend))


KERNELS = {"cpu": _cpu, "emulator": _emulator, "cuda": _cuda}
IN_BFLOAT16 = [pytest.param((name, "bf16"), id=f"{name} bf16") for name in COMPILED]
IN_BOTH_PRECISIONS = [*(pytest.param((name, "fp32"), id=name) for name in COMPILED), *IN_BFLOAT16]


@pytest.fixture(scope="module", params=COMPILED)
def kernels(request):
    yield from in_use(request.param, "fp32")


@pytest.fixture(scope="module", params=IN_BFLOAT16)
def kernels_bf16(request):
    yield from in_use(*request.param)


def in_use(name, precision):
    kernels = KERNELS[name](backend_or_skip(name, precision))
    yield kernels
    kernels.use(*kernels.before)
