"""The memory plan: every temporary of a program gets a place in one arena, two of them the same where their times do
not meet.

That is packing of rectangles, with time along one axis, where a temporary is fixed, and memory along the other. No way
is known that is fast and always best; two simple ones are tried, which err at different programs:

    in time    as an allocator would: each takes the smallest free gap when it begins, the largest first of those that
               begin together. Near the best for a sampler, where few things live at one time
    by size    the largest first, whenever it lives: each takes the lowest gap between those already placed that it
               meets. Near the best for training, where much lives long

The lower bound of any plan is the largest sum of what holds something at one call.

Source: Wilson et al., "Dynamic storage allocation: a survey and critical review", 1995 (best fit); Pisarchyk and Lee,
"Efficient memory management for deep neural net inference", 2020 (greedy by size).
"""

from __future__ import annotations

import bisect

ENOUGH = 1.02  # times the lower bound: then the second way is not tried


def place(program):
    """Give every buffer of a program its offset: what lives across runs side by side, then the temporaries."""
    end = 0
    for buffer in program.buffers:
        if buffer.role == "kept":
            buffer.offset, end = end, end + buffer.room
    program.kept = end
    temporaries = [buffer for buffer in program.buffers if buffer.role == "temporary" and buffer.first is not None]
    offsets, program.arena = arrange([(each.first, each.last, each.room) for each in temporaries])
    for buffer, offset in zip(temporaries, offsets):
        buffer.offset = program.kept + offset


def lower_bound(spans):
    """The largest sum of bytes that live at one time; spans are (first, last, bytes), both ends included."""
    changes = {}
    for first, last, size in spans:
        changes[first] = changes.get(first, 0) + size
        changes[last + 1] = changes.get(last + 1, 0) - size
    live = most = 0
    for now in sorted(changes):
        live += changes[now]
        most = max(most, live)
    return most


def arrange(spans):
    """An offset for each span (first, last, bytes) such that no two that meet overlap, and the bytes in all."""
    bound = lower_bound(spans)
    best = _in_time(spans)
    if best[1] > ENOUGH * bound:
        best = min(best, _by_size(spans), key=lambda found: found[1])
    return best


def _in_time(spans):
    starting, ending = {}, {}
    for i, (first, last, _) in enumerate(spans):
        starting.setdefault(first, []).append(i)
        ending.setdefault(last, []).append(i)
    offsets, top = [0] * len(spans), 0
    gaps = []  # (start, end), rising; behind ``top`` all is free
    for now in sorted({*starting, *ending}):
        for i in sorted(starting.get(now, ()), key=lambda i: -spans[i][2]):
            size = spans[i][2]
            fitting = [gap for gap in gaps if gap[1] - gap[0] >= size]
            if fitting:
                start, end = min(fitting, key=lambda gap: gap[1] - gap[0])
                gaps.remove((start, end))
                if end - start > size:
                    bisect.insort(gaps, (start + size, end))
            else:  # the last gap, if it reaches the top, grows
                start = gaps.pop()[0] if gaps and gaps[-1][1] == top else top
                top = start + size
            offsets[i] = start
        for i in ending.get(now, ()):
            _free(gaps, offsets[i], offsets[i] + spans[i][2])
    return offsets, top


def _free(gaps, start, end):
    at = bisect.bisect(gaps, (start, end))
    if at < len(gaps) and gaps[at][0] == end:
        end = gaps.pop(at)[1]
    if at and gaps[at - 1][1] == start:
        start = gaps.pop(at - 1)[0]
        at -= 1
    gaps.insert(at, (start, end))


def _by_size(spans):
    order = sorted(range(len(spans)), key=lambda i: (-spans[i][2], spans[i][0]))
    meeting = _Placed(max((last for _, last, _ in spans), default=0))
    offsets, top = [0] * len(spans), 0
    for i in order:
        first, last, size = spans[i]
        best, smallest, end = None, None, 0  # the smallest gap that is large enough; ``end`` of those before it
        for start, stop in meeting.between(first, last):
            if start - end >= size and (best is None or start - end < smallest):
                best, smallest = end, start - end
            end = max(end, stop)
        offsets[i] = end if best is None else best
        top = max(top, offsets[i] + size)
        meeting.add(first, last, offsets[i], offsets[i] + size)
    return offsets, top


class _Placed:
    """Spans already placed, found by the times they meet: listed under every stretch of ``WIDTH`` calls they touch."""

    WIDTH = 16

    def __init__(self, last):
        self._by_stretch = [[] for _ in range(last // self.WIDTH + 1)]

    def add(self, first, last, start, stop):
        for stretch in range(first // self.WIDTH, last // self.WIDTH + 1):
            self._by_stretch[stretch].append((first, last, start, stop))

    def between(self, first, last):
        """(start, stop) in memory of those that live at any call from first to last, by start."""
        stretches = range(first // self.WIDTH, last // self.WIDTH + 1)
        return sorted(
            {
                (start, stop)
                for stretch in stretches
                for begins, ends, start, stop in self._by_stretch[stretch]
                if begins <= last and ends >= first
            }
        )
