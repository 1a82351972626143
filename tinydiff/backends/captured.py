"""Work on a CPU recorded once, as a program, and run by C++ from then on: what a step costs Python is then one call."""

from __future__ import annotations

import ctypes
import threading
from typing import NamedTuple

import numpy as np

import tinydiff.backends._cpu as _cpu
from tinydiff.program import prepare
from tinydiff.program.kernel_calls import words
from tinydiff.program.program import LINE, Operand
from tinydiff.program.record import record

NUMBERS = {name: number for number, name in enumerate(_cpu.program_kernels())}


class Loaded(NamedTuple):
    """A program as the kernels of one instruction set run it."""

    instruction_set: str  # it decides how filters are prepared
    words: _cpu.Program
    checks: dict  # position in the words -> the ``Range`` that is checked there
    prepared: np.ndarray  # the memory of prepared filters


class Captured:
    """A function of no arguments and its program; a call does what a call of the function does, to the same bits.

    Nothing is computed by recording it, so already the first call is the program's. All that changes from call to call
    must lie in arrays; the function may not look at values, nor make arrays of the host's. What it returns are the same
    arrays every time, overwritten by the next call.

    With ``frozen_weights`` the filters of convolutions keep the values they have at the first call.
    """

    def __init__(self, backend, function, frozen_weights=False):
        self._backend, self._function, self._frozen = backend, function, frozen_weights
        self._recording = self._arena = self._loaded = None
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
        loaded = self._loaded  # stays whole while it runs, whatever another thread loads meanwhile
        if loaded is None or loaded.instruction_set != _cpu.instruction_set():
            loaded = self.load()
        failed = loaded.words.run()
        if failed >= 0:
            self._explain(loaded.checks[failed])
        return self._outputs

    def load(self):
        """Take the memory and put addresses in place of offsets; return what the instruction set in use will run."""
        program = self.program
        with self._making:
            if self._arena is None:
                self._arena = _memory(program.arena)
                self._starts = [
                    np.lib.array_utils.byte_bounds(self._recording.kept[place])[0]
                    if buffer.role == "kept"
                    else self._arena.ctypes.data + (buffer.offset or 0) - program.kept
                    for place, buffer in enumerate(program.buffers)
                ]
                self._outputs = self._arrays(self._recording.outputs)
            instruction_set = _cpu.instruction_set()
            at_least = 1 if self._frozen else 2
            before, calls, nbytes = prepare.plan(program, _cpu.prepared_bytes, at_least=at_least)
            prepared = _memory(nbytes)

            def address(place):
                if isinstance(place, prepare.Prepared):
                    return prepared.ctypes.data + place.offset
                return self._address(place)

            if self._frozen:
                _cpu.Program(words(before, NUMBERS, address)[0]).run()
                before = []
            made, checks = words([*before, *calls], NUMBERS, address)
            self._loaded = Loaded(instruction_set, _cpu.Program(made), checks, prepared)
            return self._loaded

    def _address(self, operand):
        return self._starts[operand.buffer] + operand.offset

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
