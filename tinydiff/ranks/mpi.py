"""Ranks that MPI started and joins. Arrays of a GPU go by NCCL, from device to device; all else goes by MPI."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time

import numpy as np

from tinydiff import terminal
from tinydiff.backends import cores
from tinydiff.ranks.ranks import Ranks

os.environ.setdefault("MPIR_CVAR_SUPPRESS_ABORT_MESSAGE", "1")  # of MPICH: why it ends is said by whoever ends it
from mpi4py import MPI  # it starts MPI

PATIENCE = 1.0  # seconds that other ranks leave to rank 0, which fails as they do where all were asked for the same
READ_PATIENCE = 10.0  # seconds that what was said has to be read: once all are aborted, a busy launcher drops the rest


class MpiRanks(Ranks):
    """The ranks of an MPI communicator, by default of all that were started; ``last_words``: what speaks for this one
    should it be killed."""

    def __init__(self, world=MPI.COMM_WORLD, last_words=None):
        super().__init__()
        self._world, self._last_words = world, last_words
        self.rank, self.size = world.Get_rank(), world.Get_size()
        self._local = world.Split_type(MPI.COMM_TYPE_SHARED)
        self.local_rank, self.local_size = self._local.Get_rank(), self._local.Get_size()
        if last_words:
            last_words.beside(self._local.allgather(last_words.place))
        self.threads = cores.fair_share(self._local.allgather(cores.allowed_cores()), self.local_rank)
        name, version = MPI.get_vendor()
        self.transport = f"MPI ({name} {'.'.join(map(str, version))})"

    @classmethod
    def of_launcher(cls, size, last_words):
        """Those whom a launcher started, ``size`` by its own word. Raises ``ValueError`` if MPI does not see as many."""
        ranks = cls(last_words=last_words)
        if ranks.size != size:
            raise ValueError(
                f"the launcher started {size} processes, of which {ranks.transport} sees {ranks.size}: they need the "
                f"mpiexec of the same MPI (or srun --mpi=pmi2 for MPICH, --mpi=pmix for Open MPI)"
            )
        return ranks

    def _exchange(self, sends, source, like):
        if not isinstance(like, np.ndarray):
            return self._nccl.exchange(sends, source, like)
        requests = [self._world.Isend(array, rank) for rank, array in sends]
        received = None
        if source is not None:
            received = np.empty_like(like)
            requests.append(self._world.Irecv(received, source))
        MPI.Request.Waitall(requests)
        return received

    @functools.cached_property
    def _nccl(self):
        from tinydiff.ranks.nccl import Nccl

        return Nccl(self)

    def take_gpu(self):
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
        device = cupy.cuda.Device(self.local_rank % count)
        # a name that is the same for all, however few a launcher lets each of them see
        taken = self._local.allgather(device.pci_bus_id)
        if len(set(taken)) < len(taken):
            raise ValueError(
                f"backend cuda takes a GPU for each rank, and {self.host} has {len(set(taken))} for {len(taken)}; fewer "
                "ranks, or --backend cpu"
            )
        device.use()

    def gather(self, value):
        return self._world.allgather(value)

    def broadcast(self, value):
        return self._world.bcast(value)

    def barrier(self):
        self._world.Barrier()

    def abort(self, status, reason):
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        if self.rank:
            # whoever is first ends the others before they say it too
            time.sleep(PATIENCE * (1 + self.rank / self.size))
            reason = f"rank {self.rank} of {self.size}, on {self.host}: {reason}"
        if reason:
            terminal.complain(reason)
        for stream in (sys.stdout, sys.stderr):
            terminal.wait_until_read(stream, READ_PATIENCE)
        if self._last_words:
            self._last_words.leave()
        terminal.point_nowhere(sys.stderr)  # where MPI would say that it was aborted
        self._world.Abort(status)
