"""What a convolution makes of its filters before it uses them depends on the filters alone: a program that meets the
same ones again and again, as a sampler does, makes it once.

Which form that is and how much memory it takes is the kernels' to say, for each instruction set, so this belongs to how
a program is run and is no part of it. The values are those that each call would make for itself: the same bits.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from tinydiff.program.kernel_calls import BF16, FORWARD, GEOMETRY, PREPARED, KernelCall, as_convolution, lower
from tinydiff.program.program import LINE


class Prepared(NamedTuple):
    """A place in the memory of prepared filters, in bytes."""

    offset: int


class Plan(NamedTuple):
    """The kernel calls of a program in two parts, and how many bytes the first fills for the second."""

    before: list[KernelCall]
    calls: list[KernelCall]
    nbytes: int


def plan(program, bytes_of, *, at_least=2):
    """Split what a program does: filters that so many calls use, and that none writes, are prepared before.

    bytes_of  the dtype of filters, the geometry of a convolution as its kernel takes it -> how many bytes they are once
              they are prepared, or 0 where they are used as they stand
    """
    calls, keys = lowered(program, matrices=True)
    uses = Counter(keys)
    places, before, top = {}, [], 0
    for i, key in enumerate(keys):
        if key is None or uses[key] < at_least:
            continue
        if key not in places:
            w, geometry = key
            nbytes = bytes_of(w.dtype, geometry)
            places[key] = Prepared(top) if nbytes else None
            if nbytes:
                prepare = calls[i].kernel.replace("forward", "prepare")
                before.append(KernelCall(prepare, (w, places[key], *geometry)))
                top += -(-nbytes // LINE) * LINE
        if places[key]:
            arguments = list(calls[i].arguments)
            arguments[PREPARED] = places[key]
            calls[i] = calls[i]._replace(arguments=tuple(arguments))
    return Plan(before, calls, top)


def lowered(program, *, matrices=False):
    """The kernel calls of a program, and of each what decides how its filters are prepared, or None. With ``matrices``
    linear layers are the convolutions that they are, for theirs to be prepared too."""
    calls, written = [lower(call) for call in _without_unread(program)], _written(program)
    calls = [as_convolution(call) for call in calls] if matrices else calls
    return calls, [_key(call, written) for call in calls]


def _without_unread(program):
    """The program's calls, without what nobody reads: in training the gradients of images and of steps, and of weights
    that stay as they are. A kernel that has more to do leaves that part of its work."""
    wanted = {place for place, each in enumerate(program.buffers) if each.role == "kept"}
    wanted |= {each.buffer for each in program.names.values()}
    calls = []
    for call in reversed(program.calls):
        unread = {name for name, each in call.writes.items() if each is not None and each.buffer not in wanted}
        if len(unread) == sum(each is not None for each in call.writes.values()):
            continue
        if call.op in ("conv2d", "linear") and (left := unread & {"dx", "dw", "db"}):
            call = call._replace(writes={**call.writes, **dict.fromkeys(left)})
        wanted |= {each.buffer for each in call.reads.values() if each is not None}
        calls.append(call)
    return calls[::-1]


def _key(call, written):
    """What decides the prepared form: the filters and the geometry; None of a call that has none, or whose filters
    change in the program."""
    if call.kernel not in (FORWARD, FORWARD + BF16):
        return None
    w = call.arguments[1]
    start, stop = w.offset, w.offset + w.nbytes
    if any(first < stop and start < last for first, last in written.get(w.buffer, ())):
        return None
    return w, call.arguments[GEOMETRY:]


def _written(program):
    """{buffer: (start, stop) of all that a run writes there}."""
    written = {}
    for call in program.calls:
        for each in call.writes.values():
            if each is not None:
                written.setdefault(each.buffer, set()).add((each.offset, each.offset + each.extent))
    return written
