"""The compiled backends, each with every way it can compute: an entry of KERNELS."""

import dataclasses
from typing import Any

import pytest

from tests.checks import COMPILED, backend_or_skip

THREADS = (1, 2, 3, 5)


@dataclasses.dataclass
class Kernels:
    """A backend and its switches. ``use(way, threads)`` decides how it computes from then on."""

    backend: Any
    ways: list  # names; for a CPU its instruction sets
    use: Any
    before: tuple  # the way and the threads that were in use

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

    return Kernels(backend, cpu.instruction_sets(), use, (cpu.instruction_set(), cpu.threads()))


KERNELS = {"cpu": _cpu}


@pytest.fixture(scope="module", params=COMPILED)
def kernels(request):
    kernels = KERNELS[request.param](backend_or_skip(request.param))
    yield kernels
    kernels.use(*kernels.before)
