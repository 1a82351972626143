"""Programs of a file (``tinydiff.program.file``), run natively: what ``tinydiff/site/engine.js`` does in a browser."""

from __future__ import annotations

import numpy as np

import tinydiff.backends._cpu as _cpu
from tinydiff.backends.captured import NUMBERS
from tinydiff.program import file
from tinydiff.program.kernel_calls import NULL, words_of


class StoredPrograms:
    """The programs of a folder and their memory. They are run as they stand there: a folder that somebody made up may
    reach beyond that memory, so load your own alone."""

    def __init__(self, folder):
        self.stored = stored = file.read(folder)
        self._memory = _cpu.empty([-(-stored.memory // 4)]).view(np.uint8)
        self._memory[...] = 0
        self._arrays = {
            name: np.ndarray(each.shape, each.dtype, self._memory, each.offset) for name, each in stored.arrays.items()
        }
        self._programs = {}
        for name, value in stored.values.items():
            self._arrays[name][...] = value

    def set(self, name, values):
        """Put values, which must have the array's shape, where programs read them."""
        array = self.get(name)
        if np.shape(values) != array.shape:
            raise ValueError(f"{name} must have shape {array.shape}, got {np.shape(values)}")
        array[...] = values

    def get(self, name):
        """An array as it is now: a view, which a later run may change."""
        if name not in self._arrays:
            raise ValueError(f"there is no array {name}")
        return self._arrays[name]

    def run(self, name):
        """Run one program."""
        if name not in self.stored.programs:
            raise ValueError(f"there is no program {name}; there are {', '.join(self.stored.programs)}")
        if name not in self._programs:
            made, checks = [], {}
            for number, call in enumerate(self.stored.programs[name].calls):
                checks[len(made)] = number
                made += words_of(call, NUMBERS, _offset)
            self._programs[name] = _cpu.Program(made, self._memory.ctypes.data), checks
        program, numbers = self._programs[name]
        failed = program.run()
        if failed >= 0:
            call = self.stored.programs[name]
            at, count, low, high = call.calls[numbers[failed]].arguments
            found = self._memory[at : at + 8 * count].view(np.int64)
            raise ValueError(
                f"{call.checks[numbers[failed]]} must lie in [{low}, {high}), got {found.min()} .. {found.max()}"
            )


def _offset(place):
    """Of what stands for an array in a call. No filters are prepared here: who wants speed has ``capture``."""
    return NULL if isinstance(place, file.FiltersOf) else place.offset
