"""What the numpy backend takes of memory, found out by doing a little of the work: with one sample and with two.

The references are NumPy's own expressions, whose intermediate arrays nobody has listed; but Python knows of every one
while it is there (``tracemalloc``). Within an op all of them grow by the same amount with every sample, so what an op
takes with N is known from what it takes with one and with two. Which op takes the most differs with N, so each is
measured by itself.
"""

from __future__ import annotations

import tracemalloc

from tinydiff.backends.numpy import NumpyBackend
from tinydiff.ops import OPS


def peak(step):
    """What a step takes with any number of samples: a function of the number that returns bytes, the most that there are
    at one time, beside what there was when the step began.

    step  (backend, n) -> a function of no arguments that takes the step with n samples, its arrays made by ``backend``
    """
    one, two = (list(map(min, _peaks(step, n), _peaks(step, n))) for n in (1, 2))  # Python fills caches the first time
    return lambda count: max(alone + (count - 1) * (both - alone) for alone, both in zip(one, two, strict=True))


def _peaks(step, n):
    """The most that there was before each op, within it, and after the last."""
    backend, meter = NumpyBackend(), _Meter()
    run = step(backend, n)
    was_tracing = tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        with backend.recorded_by(meter):
            run()
        meter.note()
    finally:
        if not was_tracing:
            tracemalloc.stop()
    return [peak - before for peak in meter.peaks]


class _Meter:
    """Stands where a recorder would; does what it is asked for with a numpy backend that nobody records."""

    def __init__(self):
        self._plain, self.peaks = NumpyBackend(), []
        self.ops = {name: _MeteredOp(self, op) for name, op in OPS.items()}

    def note(self):
        """What there was at most since the last time."""
        self.peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.reset_peak()

    def __getattr__(self, name):
        return getattr(self._plain, name)


class _MeteredOp:
    def __init__(self, meter, op):
        self._meter, self._op = meter, op

    def __getattr__(self, verb):
        function = getattr(self._op, verb)

        def metered(*arguments, **options):
            self._meter.note()
            try:
                return function(*arguments, **options)
            finally:
                self._meter.note()

        return metered
