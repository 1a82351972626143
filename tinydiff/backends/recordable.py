"""Ops and array services that can be recorded: a backend of NumPy arrays lends them to a recorder for the length of a
function (``tinydiff.program.record``), so that nothing above the backends need know."""

from __future__ import annotations

import contextlib
import threading


class Recordable:
    """The part of a backend that knows who records it. Recording is of one thread; others compute meanwhile."""

    def __init__(self):
        self._recorders = threading.local()

    @property
    def recorder(self):
        """Who records this thread's use of the backend, or None."""
        return getattr(self._recorders, "now", None)

    @contextlib.contextmanager
    def recorded_by(self, recorder):
        """Within: whatever this thread asks of the backend is written down by the recorder instead of done."""
        if self.recorder is not None:
            raise ValueError("a recording cannot begin within another")
        self._recorders.now = recorder
        try:
            yield
        finally:
            self._recorders.now = None


class Op:
    """An op of such a backend, whoever asks for it: computed by ``op``, or written down."""

    def __init__(self, backend, name, op):
        self._backend, self._name, self._op = backend, name, op

    def _now(self):
        recorder = self._backend.recorder
        return self._op if recorder is None else recorder.ops[self._name]

    def __getattr__(self, name):
        """``forward``, ``backward`` and whatever else the op has."""
        return getattr(self._now(), name)
