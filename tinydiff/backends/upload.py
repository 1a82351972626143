"""Arrays brought to a GPU by one thread while another has it compute: written to page-locked memory, copied on a stream
of their own, and handed over without either thread waiting for the device."""

from __future__ import annotations

import numpy as np

BUFFERS = 2  # one is read by the step while the other is filled


class Uploads:
    """Arrays of one shape and dtype. ``send`` belongs to one thread, ``put`` to one, which may be another."""

    def __init__(self, cupy, shape, dtype):
        from cupyx import empty_pinned

        self._cupy, self._device = cupy, cupy.cuda.Device()  # a new thread's would be the first
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._on_host = [empty_pinned(shape, dtype) for _ in range(BUFFERS)]
        self._on_device = [cupy.empty(shape, dtype) for _ in range(BUFFERS)]
        self._sent, self._read = [None] * BUFFERS, [None] * BUFFERS  # events
        self._next = 0

    def send(self, fill):
        """Have ``fill(array)`` write a NumPy array, and start its copy; returns what ``put`` takes, once."""
        buffer, self._next = self._next, (self._next + 1) % BUFFERS
        with self._device:
            if self._sent[buffer]:
                self._sent[buffer].synchronize()  # it was copied, long ago
            fill(self._on_host[buffer])
            if self._read[buffer]:
                self._stream.wait_event(self._read[buffer])
            self._on_device[buffer].set(self._on_host[buffer], stream=self._stream)
            self._sent[buffer] = self._stream.record()
        return buffer

    def put(self, buffer, into):
        """Let the current stream copy what was sent into an array of the device, before all that it does later."""
        stream = self._cupy.cuda.get_current_stream()
        stream.wait_event(self._sent[buffer])
        into[...] = self._on_device[buffer]
        self._read[buffer] = stream.record()


class NoUploads:
    """The same where arrays are NumPy's."""

    def __init__(self, shape, dtype):
        self._shape, self._dtype = shape, dtype

    def send(self, fill):
        array = np.empty(self._shape, self._dtype)
        fill(array)
        return array

    def put(self, array, into):
        into[...] = array
