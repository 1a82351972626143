"""Which GPU a rank takes, and what goes between them: on stand-ins for CuPy and NCCL."""

import collections
import itertools
import queue
import subprocess
import sys
import types

import numpy as np
import pytest

from tests.ranks.test_mpiexec import MPIEXEC, said
from tests.ranks.test_sum_tree import tree, values
from tests.ranks.threads import ThreadRanks, run

CUPY = r"""
import os
from types import SimpleNamespace

buses = os.environ["BUSES"].split("/")[int(os.environ["PMI_RANK"]) % len(os.environ["BUSES"].split("/"))].split(",")


class Device:
    def __init__(self, number=0):
        self.number, self.pci_bus_id = number, buses[number]

    def use(self):
        os.write(1, f"takes {self.pci_bus_id}\n".encode())  # at once: lines of two ranks would mix


cuda = SimpleNamespace(Device=Device, runtime=SimpleNamespace(getDeviceCount=lambda: len(buses)))
"""
TAKE = r"""
import os

from tinydiff import ranks

try:
    ranks.of_this_process().take_gpu()
except ValueError as error:
    os.write(1, f"tinydiff: {error}\n".encode())
"""


@pytest.mark.parametrize(
    "buses, taken",
    [
        ("a,b", ["a", "b"]),  # both see both
        ("a,b,c", ["a", "b"]),
        ("a/b", ["a", "b"]),  # the launcher shows each its own
    ],
)
def test_each_rank_of_a_machine_takes_another(tmp_path, monkeypatch, buses, taken):
    assert sorted(take(tmp_path, monkeypatch, buses)) == [f"takes {each}" for each in taken]


def test_more_ranks_than_gpus(tmp_path, monkeypatch):
    [one, other] = said("\n".join(take(tmp_path, monkeypatch, "a")))
    assert one == other and one.startswith("tinydiff: backend cuda takes a GPU for each rank, and ")
    assert one.endswith(" has 1 for 2; fewer ranks, or --backend cpu")


def take(tmp_path, monkeypatch, buses):
    (tmp_path / "cupy.py").write_text(CUPY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("BUSES", buses)
    done = subprocess.run([MPIEXEC, "-n", "2", sys.executable, "-c", TAKE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


class Array:
    """As much of a CuPy array as ``sum_tree`` needs."""

    pointers = itertools.count(1)
    at = {}

    def __init__(self, data):
        self.numbers, self.size = data, data.size
        self.data = types.SimpleNamespace(ptr=next(self.pointers))
        self.at[self.data.ptr] = self

    def copy(self):
        return Array(self.numbers.copy())

    def __iadd__(self, other):
        self.numbers += other.numbers
        return self


class Communicator:
    """NCCL's rule: what is asked for within a group happens at its end, and there a receive waits for its send."""

    wires = collections.defaultdict(queue.Queue)
    group = None

    def __init__(self, size, identity, rank):
        assert identity == "identity of rank 0"
        self.rank = rank

    def send(self, pointer, count, kind, rank, stream):
        array = Array.at[pointer]
        assert (count, kind, stream) == (array.size, "float32", 7)
        self.wires[self.rank, rank].put(array.numbers.copy())

    def recv(self, pointer, count, kind, rank, stream):
        array = Array.at[pointer]
        assert (count, kind, stream) == (array.size, "float32", 7)
        array.numbers[...] = self.wires[rank, self.rank].get(timeout=30)


@pytest.fixture
def nccl(monkeypatch):
    """The module ``tinydiff.ranks.nccl`` over stand-ins."""
    library = types.ModuleType("cupy.cuda.nccl")
    library.available, library.NCCL_FLOAT32, library.NcclCommunicator = True, "float32", Communicator
    library.get_unique_id = lambda: "identity of rank 0"
    library.groupStart = library.groupEnd = lambda: None
    cupy = types.ModuleType("cupy")
    cupy.cuda = types.ModuleType("cupy.cuda")
    cupy.cuda.get_current_stream = lambda: types.SimpleNamespace(ptr=7)
    cupy.cuda.nccl = library
    cupy.empty_like = lambda array: Array(np.full_like(array.numbers, np.nan))
    for name, module in {"cupy": cupy, "cupy.cuda": cupy.cuda, "cupy.cuda.nccl": library}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "tinydiff.ranks.nccl", raising=False)
    import tinydiff.ranks.nccl

    yield tinydiff.ranks.nccl
    sys.modules.pop("tinydiff.ranks.nccl")


@pytest.mark.parametrize("size, parts", [(2, 2), (2, 6), (3, 6), (4, 4)])
def test_gradients_on_gpus_are_added_in_the_same_order(nccl, size, parts):
    class GpuRanks(ThreadRanks):
        def _exchange(self, sends, source, like):
            if not hasattr(self, "nccl"):
                self.nccl = nccl.Nccl(self)
            return self.nccl.exchange(sends, source, like)

    rows = values(parts)

    def summed(ranks):
        flat = Array(np.full(rows.shape[1], np.nan, np.float32))
        ranks.sum_tree(flat, parts, lambda part: flat.numbers.__setitem__(..., rows[part]))
        return flat.numbers.tobytes()

    assert run(size, summed) == [tree(rows).tobytes()] * size


def test_without_nccl(nccl):
    nccl.nccl.available = False
    with pytest.raises(ValueError, match=r"ranks on GPUs need NCCL: pip install 'tinydiff\[cuda\]'"):
        nccl.Nccl(ThreadRanks)
