"""Timing on a GPU, by its own clock and from a cold cache, and what it reaches at best; on the emulator by ours."""

from __future__ import annotations

import time

import numpy as np

from tinydiff.backends.graph import WARM_UPS

FLUSHED = 256 * 2**20  # bytes written before every measurement: several times the L2 cache of any GPU
COPIED = 2**30
MATRIX = 8192


class GpuTimer:
    """Seconds of work on the GPU, each time with none of its data in the cache.

    The work is captured first, so that no time of Python lies between its kernels; the launch of the graph counts. What
    others launch cannot always be captured, and runs as it is.
    """

    def __init__(self, backend):
        self.backend, self.cupy = backend, backend.launcher.xp
        self.flushed = backend.empty(FLUSHED // 4)

    def __call__(self, work, repeats, *, capture=True):
        captured = self.backend.capture(work) if capture else work
        for _ in range(WARM_UPS + 2):
            captured()
        return [self._once(captured) for _ in range(repeats)]

    def _once(self, captured):
        start, end = (self.cupy.cuda.Event() for _ in range(2))
        self.flushed.fill(0)  # while it runs, the launches behind it queue up
        start.record()
        captured()
        end.record()
        end.synchronize()
        return self.cupy.cuda.get_elapsed_time(start, end) / 1e3


class CpuTimer:
    """Seconds of the clock, for the emulator: where a program is tried, not where it is measured."""

    def __init__(self, backend):
        self.backend = backend

    def __call__(self, work, repeats, *, capture=True):
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        return seconds


def timer(backend):
    return GpuTimer(backend) if backend.name == "cuda" else CpuTimer(backend)


def copy_bandwidth(timed, repeats, *, bytes=COPIED):
    """Bytes a second of a copy within the device's memory, those read and those written, at the median."""
    backend = timed.backend
    a, b = backend.zeros(bytes // 4), backend.zeros(bytes // 4)

    def copy():
        b[...] = a

    return 2 * bytes / float(np.median(timed(copy, repeats)))


def matrix_rate(timed, repeats, precision, *, size=MATRIX):
    """Operations a second of the vendor's matrix product in this precision, at the median; None where nobody here has
    it.

    float32 by the array library; bfloat16 by PyTorch, where it sees the same GPU.
    """
    backend = timed.backend
    if precision == "fp32":
        a = backend.asarray(np.full((size, size), 0.5, np.float32))
        return 2 * size**3 / float(np.median(timed(lambda: a @ a, repeats, capture=False)))
    try:
        import torch
    except ImportError:
        return None
    if backend.name != "cuda" or not torch.cuda.is_available():
        return None
    a = torch.full((size, size), 0.5, dtype=torch.bfloat16, device="cuda")
    seconds = []
    for _ in range(2 + repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        a @ a
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3)
    return 2 * size**3 / float(np.median(seconds[2:]))
