"""The exchange of arrays between GPUs, one a rank."""

from __future__ import annotations

import cupy
from cupy.cuda import nccl


class Nccl:
    """A communicator of all ranks. Raises ``ValueError`` where CuPy has no NCCL."""

    def __init__(self, ranks):
        if not nccl.available:
            raise ValueError("ranks on GPUs need NCCL: pip install 'tinydiff[cuda]'")
        identity = ranks.broadcast(nccl.get_unique_id() if ranks.rank == 0 else None)
        self._communicator = nccl.NcclCommunicator(ranks.size, identity, ranks.rank)

    def exchange(self, sends, source, like):
        """As ``Ranks._exchange``, of float32, on the current stream: nobody waits for it."""
        stream = cupy.cuda.get_current_stream().ptr
        received = None if source is None else cupy.empty_like(like)
        nccl.groupStart()
        for rank, array in sends:
            self._communicator.send(array.data.ptr, array.size, nccl.NCCL_FLOAT32, rank, stream)
        if source is not None:
            self._communicator.recv(received.data.ptr, received.size, nccl.NCCL_FLOAT32, source, stream)
        nccl.groupEnd()
        return received
