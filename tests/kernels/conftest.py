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
    use: Any
    before: tuple  # the way and the threads that were in use
    threads: tuple  # numbers of threads worth trying, 1 first
    examples: int  # how many problems of drawn sizes it has time for

    def each(self, threads=(1,)):
        """(way, n) with that way and number of threads in use, one after the other."""
        for way in self.ways:
            for n in threads:
                self.use(way, n)
                yield way, n


def _cpu(backend):
    from tinydiff.backends import cpu

    def use(way, threads):
        cpu.use_instruction_set(way)
        cpu.use_threads(threads)

    before = cpu.instruction_set(), cpu.threads()
    return Kernels(backend, cpu.instruction_sets(), use, before, threads=(1, 2, 3, 5), examples=100)


def _emulator(backend):
    from tinydiff.backends import launch_table

    def use(way, threads):
        backend.launcher.use_seed(threads)
        for op in launch_table.TABLE:
            launch_table.use_version(op, way if way in launch_table.versions(op) else None)

    ways = sorted({version for op in launch_table.TABLE for version in launch_table.versions(op)})
    return Kernels(backend, ways, use, (None, 0), threads=(1, 2), examples=50)


def _cuda(backend):
    kernels = _emulator(backend)
    return dataclasses.replace(kernels, backend=OnHost(backend))


KERNELS = {"cpu": _cpu, "emulator": _emulator, "cuda": _cuda}


@pytest.fixture(scope="module", params=COMPILED)
def kernels(request):
    kernels = KERNELS[request.param](backend_or_skip(request.param))
    yield kernels
    kernels.use(*kernels.before)
