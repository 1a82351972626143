"""Work on a GPU recorded once, as a CUDA graph, and replayed: what a step costs the CPU is then one launch."""

from __future__ import annotations

import contextlib

WARM_UPS = 2  # the first compiles kernels and fills the pool, the second finds everything in its place


class Graph:
    """A function of no arguments and its recording; a call does exactly what a call of the function does.

    The first calls are the function itself, on a stream and with a memory pool of their own. The next one runs
    nothing: it is recorded, and from then on replayed, on the stream of the caller. All that changes from call to call
    must lie in arrays; the function may not wait for the device, look at values, or copy from the host. What it
    returns are the same arrays every time, overwritten by the next call.

    The graph keeps the addresses of the pool's memory, so the pool lives as long as the graph, and nobody else takes
    memory from it.
    """

    def __init__(self, launcher, function):
        self._cupy, self._function = launcher.xp, function
        self._pool = self._cupy.cuda.MemoryPool()
        self._malloc = launcher.explaining(self._pool.malloc)
        self._stream = self._cupy.cuda.Stream(non_blocking=True)
        self._calls = 0
        self._graph = self._outputs = None

    def __call__(self):
        self._calls += 1
        if self._calls <= WARM_UPS:
            with self._aside():
                return self._function()
        if self._graph is None:
            with self._aside():
                self._graph, self._outputs = self._record()
        self._graph.launch()
        return self._outputs

    def _record(self):
        self._stream.begin_capture()
        try:
            outputs = self._function()
        except BaseException:
            with contextlib.suppress(Exception):  # the recording is as broken as what broke it, which says more
                self._stream.end_capture()
            raise
        return self._stream.end_capture(), outputs

    @contextlib.contextmanager
    def _aside(self):
        """Within: the own stream, after all that the caller's has outstanding, and the own pool. The caller's goes on
        after it."""
        caller = self._cupy.cuda.get_current_stream()
        self._stream.wait_event(caller.record())
        try:
            with self._stream, self._cupy.cuda.using_allocator(self._malloc):
                yield
        finally:
            caller.wait_event(self._stream.record())
