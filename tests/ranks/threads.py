"""Ranks that are threads of one process, for what need not be seen across processes."""

import queue
import threading
from concurrent.futures import ThreadPoolExecutor

from tinydiff.ranks import Ranks


class World:
    """What the ranks of one run share."""

    def __init__(self, size):
        self.size, self.given = size, [None] * size
        self.barrier = threading.Barrier(size, timeout=60)
        self.sent = {(i, j): queue.Queue() for i in range(size) for j in range(size)}


class ThreadRanks(Ranks):
    transport = "threads"

    def __init__(self, world, rank):
        super().__init__()
        self._world, self.rank, self.size = world, rank, world.size
        self.local_rank, self.local_size = rank, world.size
        self.sends = 0

    def _exchange(self, sends, source, like):
        for rank, array in sends:
            self.sends += 1
            self._world.sent[self.rank, rank].put(array.copy())
        return None if source is None else self._world.sent[source, self.rank].get(timeout=60)

    def gather(self, value):
        self._world.given[self.rank] = value
        self._world.barrier.wait()
        given = list(self._world.given)
        self._world.barrier.wait()
        return given

    def broadcast(self, value):
        return self.gather(value)[0]

    def barrier(self):
        self._world.barrier.wait()


def run(size, function, kind=ThreadRanks):
    """[what ``function(ranks)`` returns on each of so many ranks]. An error on one of them is raised."""
    world = World(size)

    def guarded(rank):
        try:
            return function(kind(world, rank))
        except BaseException:
            world.barrier.abort()  # so that nobody waits for it
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(guarded, rank) for rank in range(size)]
    errors = [future.exception() for future in futures if future.exception()]
    for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
    return [future.result() for future in futures]
