"""Work on a CPU recorded once, as a program, and run by C++ from then on: what a step costs Python is then one call."""

from __future__ import annotations

import ctypes
import threading

import numpy as np

import tinydiff.backends._cpu as _cpu
from tinydiff.program import prepare
from tinydiff.program.kernel_calls import words
from tinydiff.program.program import LINE, Operand
from tinydiff.program.record import record

NUMBERS = {name: number for number, name in enumerate(_cpu.program_kernels())}


class Captured:
    """A function of no arguments and its program; a call does what a call of the function does, to the same bits.

    Nothing is computed by recording it, so already the first call is the program's. All that changes from call to call
    must lie in arrays; the function may not look at values, nor make arrays of the host's. What it returns are the same
    arrays every time, overwritten by the next call.

    With ``frozen_weights`` the filters of convolutions keep the values they have at the first call.
    """

    def __init__(self, backend, function, frozen_weights=False):
        self._backend, self._function, self._frozen = backend, function, frozen_weights
        self._recording = self._run = self._instruction_set = None
        self._making = threading.Lock()

    @property
    def program(self):
        """The ``Program``, recorded when it is first asked for."""
        with self._making:
            if self._recording is None:
                self._recording = record(self._function, self._backend)
                self._function = None  # and all that it holds
            return self._recording.program

    def __call__(self):
        if self._instruction_set != _cpu.instruction_set():
            self._load(self.program)
        failed = self._run.run()
        if failed >= 0:
            self._explain(self._checks[failed])
        return self._outputs

    def _load(self, program):
        """Take memory, and put addresses in place of offsets."""
        with self._making:
            if self._run is None:
                self._arena = _memory(program.arena)
                self._starts = [
                    np.lib.array_utils.byte_bounds(self._recording.kept[place])[0]
                    if buffer.role == "kept"
                    else self._arena.ctypes.data + (buffer.offset or 0) - program.kept
                    for place, buffer in enumerate(program.buffers)
                ]
                self._outputs = self._arrays(self._recording.outputs)
            instruction_set = _cpu.instruction_set()  # which decides how filters are prepared
            before, calls, nbytes = prepare.plan(program, _cpu.prepared_floats, at_least=1 if self._frozen else 2)
            self._prepared = _memory(nbytes)
            if self._frozen:
                _cpu.Program(words(before, NUMBERS, self._address)[0]).run()
                before = []
            made, self._checks = words([*before, *calls], NUMBERS, self._address)
            self._run = _cpu.Program(made)
            self._instruction_set = instruction_set

    def _address(self, place):
        if isinstance(place, prepare.Prepared):
            return self._prepared.ctypes.data + place.offset
        return self._starts[place.buffer] + place.offset

    def _arrays(self, outputs):
        """What the function returned, with arrays for operands."""
        if isinstance(outputs, Operand):
            memory = self._recording.kept.get(outputs.buffer, self._arena)
            at = self._address(outputs) - memory.ctypes.data
            return np.ndarray(outputs.shape, outputs.dtype, memory, at, outputs.strides)
        if isinstance(outputs, dict):
            return {key: self._arrays(each) for key, each in outputs.items()}
        if isinstance(outputs, (tuple, list)):
            parts = [self._arrays(each) for each in outputs]
            return type(outputs)(*parts) if hasattr(outputs, "_fields") else type(outputs)(parts)
        return outputs

    def _explain(self, wrong):
        found = (ctypes.c_int64 * wrong.operand.size).from_address(self._address(wrong.operand))
        low, high = min(found), max(found)
        raise ValueError(f"{wrong.name} must lie in [{wrong.low}, {wrong.high}), got {low} .. {high}")


def _memory(nbytes):
    """So many bytes, at least one cache line, that the kernels' own memory is made of."""
    return _cpu.empty([-(-max(nbytes, LINE) // 4)]).view(np.uint8)
