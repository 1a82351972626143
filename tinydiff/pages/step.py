"""A training step by its ops: calls, operations and bytes, and programs by which a page measures the time of each."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import NamedTuple

import numpy as np

from tinydiff import backends
from tinydiff.program import file, plan, runs, text
from tinydiff.program.record import Recording

BATCH = 8  # of the programs, so that a phone has the memory


class Share(NamedTuple):
    """What one op is of a training step."""

    calls: int
    flops: float  # parts of those of the step
    bytes: float


def shares(config):
    """{op: Share} of a run's training step; "array" are additions and copies between ops."""
    calls, flops, moved = Counter(), Counter(), Counter()
    for call in _recorded(config).program.calls:
        calls[call.op] += 1
        flops[call.op] += text.flops(call)
        moved[call.op] += text.bytes_of(call)
    return {op: Share(calls[op], flops[op] / flops.total(), moved[op] / moved.total()) for op in calls}


def program_files(config):
    """The files of programs "OP.VERB", each of all such calls in a step on ``BATCH`` images; all arrays are zeros."""
    recording = _recorded(dataclasses.replace(config, batch=BATCH))
    for array in recording.kept.values():
        array[...] = 0
    _keep_integers(recording)
    calls = {}
    for call in recording.program.calls:
        verb = "backward" if call.verb == "backward" else "forward"
        calls.setdefault(f"{call.op}.{verb}", []).append(call)
    part = lambda some: dataclasses.replace(recording.program, calls=some, names={}, inputs=(), outputs=())
    parts = {name: Recording(part(some), recording.kept, None) for name, some in calls.items()}
    return file.contents(file.gather(parts, about={"batch": BATCH, "programs": list(parts)}))


def _keep_integers(recording):
    """Give what is an index memory of its own: the programs run in any order, and no other's numbers are in range."""
    for call in recording.program.calls:
        for each in call.operands.values():
            buffer = recording.program.buffers[each.buffer]
            if each.dtype == "int64" and buffer.role == "temporary":
                buffer.role = "kept"
                recording.kept[each.buffer] = np.zeros(buffer.nbytes // 8, np.int64)
    plan.place(recording.program)


def _recorded(config):
    return runs.train(runs.without_data(config, backends.get("numpy")))
