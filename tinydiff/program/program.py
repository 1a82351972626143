"""A program: what a function of no arguments did to arrays, as plain data.

    buffers   stretches of one memory, each at an offset of its own
    calls     what is done, in order: an op, a verb, the arrays it reads and writes, its options
    names     the arrays that are known outside: inputs, parameters and other state, outputs

Memory begins with what lives across runs (role "kept": parameters, moments, images, constants); what lives within a
run (role "temporary") shares the arena behind it. Nothing here computes: ``tinydiff.backends`` runs programs.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

from tinydiff.program.text import render

LINE = 64  # bytes of a cache line, to which every buffer is aligned
# of each dtype that a program knows: NumPy knows bfloat16 only once ml_dtypes has been imported
BYTES = {"float32": 4, "bfloat16": 2, "int64": 8, "uint64": 8, "uint8": 1}


class Operand(NamedTuple):
    """An array as a call sees it: a view of a buffer."""

    buffer: int  # which, by its place in ``Program.buffers``
    offset: int  # from the buffer's start, in bytes
    shape: tuple[int, ...]
    dtype: str  # one of ``BYTES``
    strides: tuple[int, ...] | None = None  # in bytes; None where values lie densely, the last axis fastest

    @property
    def size(self):
        """How many values."""
        return math.prod(self.shape)

    @property
    def itemsize(self):
        """Bytes of a value."""
        return BYTES[self.dtype]

    @property
    def nbytes(self):
        return self.size * self.itemsize

    @property
    def extent(self):
        """How many bytes of the buffer it spans."""
        if self.strides is None:
            return self.nbytes
        last = sum((n - 1) * stride for n, stride in zip(self.shape, self.strides))
        return last + self.itemsize


class Call(NamedTuple):
    """One kernel's work. Arrays by the names that the op's docstring gives them; None where one is left out."""

    op: str  # of ``tinydiff.ops``, or "array"
    verb: str  # "forward", "backward"; of "array" what is done
    reads: dict[str, Operand | None]
    writes: dict[str, Operand | None]  # some are read too, where ``updates`` names them
    options: dict[str, Any]  # numbers, strings and tuples of them
    updates: tuple[str, ...] = ()

    @property
    def operands(self):
        """{name: operand} of all arrays that there are."""
        return {name: each for name, each in {**self.reads, **self.writes}.items() if each is not None}


@dataclasses.dataclass
class Buffer:
    """A stretch of memory. ``first`` and ``last`` number the calls between which a temporary one holds something."""

    role: str  # "kept" or "temporary"
    nbytes: int
    first: int | None = None
    last: int | None = None
    offset: int | None = None  # of its first byte in the memory, once planned

    @property
    def room(self):
        """Its bytes, rounded up to whole cache lines."""
        return -(-max(self.nbytes, 1) // LINE) * LINE


@dataclasses.dataclass
class Program:
    """Buffers, calls and names; see the head of this file.

    inputs   names of what the caller gives before a run
    outputs  names of what it finds after one
    written  names of kept arrays that a run changes
    """

    buffers: list[Buffer]
    calls: list[Call]
    names: dict[str, Operand]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    kept: int = 0  # bytes of memory that live across runs; temporaries lie behind them
    arena: int = 0  # bytes of the temporaries together

    @property
    def memory(self):
        """All bytes it needs; a kernel's own scratch space comes on top."""
        return self.kept + self.arena

    def __str__(self):
        return render(self)

    @property
    def temporaries(self):
        """The buffers that hold something within a run."""
        return [each for each in self.buffers if each.role == "temporary" and each.first is not None]

    def address(self, operand):
        """Where an operand's first value lies in the memory, in bytes."""
        return self.buffers[operand.buffer].offset + operand.offset

    @property
    def written(self):
        """The names of kept arrays that a run changes."""
        changed = {each.buffer for call in self.calls for each in call.writes.values() if each is not None}
        kept = (name for name, each in self.names.items() if self.buffers[each.buffer].role == "kept")
        return tuple(name for name in kept if self.names[name].buffer in changed)

    def expect_float32(self, where):
        """Raise ``ValueError``, which begins with ``where`` it would go, for a program that computes in bfloat16."""
        for number, call in enumerate(self.calls):
            if any(each.dtype == "bfloat16" for each in call.operands.values()):
                raise ValueError(
                    f"{where}: programs go there in float32, and call {number} of this one, {call.op}.{call.verb}, is "
                    "in bfloat16; record it on a backend of precision fp32"
                )

    def check(self):
        """Raise ``ValueError`` unless every value is there when it is read: no array reaches beyond its buffer, none is
        read before it is written, and no two buffers that hold something at one time share memory."""
        holds = {i for i, buffer in enumerate(self.buffers) if buffer.role == "kept"}
        for number, call in enumerate(self.calls):
            where = f"call {number}, {call.op}.{call.verb}"
            for name, each in call.operands.items():
                buffer = self.buffers[each.buffer]
                if each.offset < 0 or each.offset + each.extent > buffer.nbytes:
                    raise ValueError(f"program: {where}: {name} reaches beyond its buffer")
                if buffer.role == "temporary" and not buffer.first <= number <= buffer.last:
                    raise ValueError(f"program: {where}: {name} lies in a buffer that holds nothing then")
                is_read = name in call.reads or name in call.updates
                if is_read and each.buffer not in holds:
                    raise ValueError(f"program: {where}: {name} is read before it is written")
            holds |= {each.buffer for each in call.writes.values() if each is not None}
        for name in self.outputs:
            if self.names[name].buffer not in holds:
                raise ValueError(f"program: the output {name} is never written")
        self._expect_disjoint()

    def _expect_disjoint(self):
        """Sweep over the calls with the buffers that hold something, in the order of their offsets."""
        kept = [each for each in self.buffers if each.role == "kept"]
        starting = {}
        for buffer in self.buffers:
            if buffer.role == "temporary" and buffer.first is not None:
                starting.setdefault(buffer.first, []).append(buffer)
            start, end = (0, self.kept) if buffer.role == "kept" else (self.kept, self.memory)
            if buffer.role == "kept" or buffer.first is not None:
                if not start <= buffer.offset <= end - buffer.nbytes:
                    raise ValueError(f"program: a {buffer.role} buffer lies outside the memory of such")
        live = []
        for now, new in [(-1, kept), *sorted(starting.items())]:
            live = [each for each in live if each.role == "temporary" and each.last >= now] + new
            live.sort(key=lambda buffer: buffer.offset)
            for one, other in zip(live, live[1:]):
                if one.offset + one.nbytes > other.offset:
                    raise ValueError(f"program: two buffers share memory at call {max(now, 0)}")
