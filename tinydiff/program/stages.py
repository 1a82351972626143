"""A sampler's way as small programs, so that whoever has no Python may choose sampler, steps and guidance.

A way is a sampler's alone: the network is asked between its stages, by whoever walks it. A stage takes the prediction to
where the network is asked next. Its numbers, which follow from schedule and grid, are read from an array; so the stages of
a sampler are a few programs, however many steps it takes, and a way is a list: which stage, with which numbers, and the
step that the network is asked about before it.

Nothing of a sampler is written here a second time. It runs, recorded, with a network that only notes when it is asked; what
was written down is cut there, and parts that differ in numbers alone are one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.noise.predictions import denoiser
from tinydiff.program import plan
from tinydiff.program.program import Buffer, Program
from tinydiff.program.record import Recording, record
from tinydiff.samplers import SAMPLERS

MOST_NUMBERS = 16  # of a stage
MEMORYLESS = ("ddpm", "ddim")  # samplers whose every step depends on x alone


class Step(NamedTuple):
    """One part of a way: the network is asked about x at ``step``, then the stage runs with its numbers."""

    stage: str
    step: float
    numbers: tuple[float, ...]


class Stages:
    """The stages of any number of ways for one batch, and the arrays that they meet in.

    prediction  what the network predicts: "eps", "x0" or "v"
    shape       (N, ...) of x
    clip        the range to which every x0_hat is clipped, or None

    Arrays: ``x`` is what the network is asked about, at the end the finished sample; ``prediction`` what it says;
    ``x0_hat`` what a stage made of that. ``seed``, ``sample`` and ``draw``, the number of the step from 0 on, are
    philox's; ``numbers`` the stage's. ``carried`` are what one stage leaves for a later one.
    """

    def __init__(self, backend, schedule, prediction, shape, *, clip):
        self.backend, self.schedule, self.kind, self.clip = backend, schedule, prediction, clip
        zeros = backend.zeros
        self.arrays = {"x": zeros(shape), "prediction": zeros(shape), "x0_hat": zeros(shape)}
        self.arrays |= {"seed": zeros(1, np.uint64), "sample": zeros(shape[0], np.int64), "draw": zeros(1, np.int64)}
        self.arrays |= {"numbers": zeros(MOST_NUMBERS)}
        self.carried = []
        self.recordings = {"start": record(self._start, backend, state=self.arrays)}
        self._known = {}  # what a stage does -> its name

    def way(self, sampler, steps, *, apart=False, **options):
        """The ``Step``s of a sampler; stages that are new join ``recordings``.

        apart  whether nothing is carried from one to the next, so that whoever puts an x there may begin with any of
               them. Raises ``ValueError`` for samplers that remember more than x: all but ``MEMORYLESS``
        """
        run, spacing = SAMPLERS[sampler]
        grid = self.schedule.grid(steps, spacing)
        if not apart:
            return self._walked(sampler, run, grid, options)
        if sampler not in MEMORYLESS:
            raise ValueError(f"apart are the steps of {' and '.join(MEMORYLESS)} alone, not those of {sampler}")
        return [self._walked(sampler, run, grid[i : i + 2], options)[0] for i in range(steps)]  # each as a first one

    def _walked(self, sampler, run, grid, options):
        """The ``Step``s of a sampler along a grid."""
        asked = []  # (calls before the network is asked, step)
        is_x0_hat = self.kind == "x0" and self.clip is None  # which a sampler may want when the next has been asked for

        def walk():
            recorder = self.backend.recorder

            def predict(x, step):
                self.keep("x", x)
                asked.append((len(recorder.calls), step))
                prediction = recorder.as_recorded(self.arrays["prediction"])
                return prediction.copy() if is_x0_hat else prediction

            denoise = denoiser(predict, self.schedule, self.kind, clip=self.clip)
            noise = lambda i: self._normal("sampler", self.arrays["draw"])
            start = recorder.as_recorded(self.arrays["x"]).copy()  # as a later stage finds another x there
            for state in run(denoise, start, self.schedule, grid, noise=noise, **options):
                self.keep("x0_hat", state.x0_hat)
            self.keep("x", state.x)

        recording = record(walk, self.backend, state=self.arrays)
        cuts = [0, *(calls for calls, _ in asked[1:]), len(recording.program.calls)]
        slots = _Slots(recording.program, self)
        way = []
        for (_, step), start, end in zip(asked, cuts, cuts[1:]):
            numbers = []
            stage = self._stage(recording, start, end, slots.during(start, end), numbers)
            does = repr(stage.program.calls) + repr([id(stage.kept[i]) for i in sorted(stage.kept)])
            if does not in self._known:
                count = sum(name.startswith(f"{sampler}.") for name in self.recordings)
                self._known[does] = f"{sampler}.{count}"
                self.recordings[f"{sampler}.{count}"] = stage
            way.append(Step(self._known[does], step, tuple(numbers)))
        return way

    def keep(self, name, value):
        """Within a recording: put a value where it outlives the program."""
        recorder = self.backend.recorder
        recorder.assign(recorder.as_recorded(self.arrays[name]), value)

    def _start(self):
        self.keep("x", self._normal("start", 0))

    def _normal(self, purpose, draw):
        seed, sample, x = (self.arrays[name] for name in ("seed", "sample", "x"))
        return self.backend.philox.forward(seed, purpose, sample, draw, x.shape[1:], kind="normal")

    def _stage(self, recording, start, end, slots, numbers):
        """Some calls of a way as a ``Recording`` of their own, its numbers put into ``numbers``."""
        buffers, kept, moved = [], {}, {}

        def move(operand):
            if operand is None:
                return None
            place = operand.buffer
            if place not in moved:
                moved[place] = len(buffers)
                array = self.carried[slots[place]] if place in slots else recording.kept.get(place)
                if array is not None:
                    kept[len(buffers)] = array
                buffers.append(
                    Buffer("temporary" if array is None else "kept", recording.program.buffers[place].nbytes)
                )
            return operand._replace(buffer=moved[place])

        calls = []
        in_memory = recording.program.names["numbers"]
        for call in recording.program.calls[start:end]:
            reads, options = dict(call.reads), dict(call.options)
            if "number" in options:
                reads["number"] = in_memory._replace(offset=4 * len(numbers), shape=())
                numbers.append(options.pop("number"))
            reads, writes = ({name: move(each) for name, each in some.items()} for some in (reads, call.writes))
            calls.append(call._replace(reads=reads, writes=writes, options=options))
        if len(numbers) > MOST_NUMBERS:
            raise ValueError(f"a stage has {len(numbers)} numbers, more than the {MOST_NUMBERS} there is room for")
        for number, call in enumerate(calls):
            for each in call.operands.values():
                buffer = buffers[each.buffer]
                buffer.first, buffer.last = (number if buffer.first is None else buffer.first), number
        program = Program(buffers, calls, {})
        plan.place(program)
        return Recording(program, kept, None)


class _Slots:
    """Where each array lies that a later stage reads: the first of ``carried`` that is free by then."""

    def __init__(self, program, stages):
        self._program, self._stages = program, stages
        self._of = {}  # buffer -> number of its slot

    def during(self, start, end):
        """Of a stage's buffers, those that it was left or leaves: {buffer: slot}."""
        buffers = self._program.buffers
        of = self._of = {place: slot for place, slot in self._of.items() if buffers[place].last >= start}
        for place, buffer in enumerate(buffers):
            if buffer.role == "temporary" and buffer.first is not None and start <= buffer.first < end <= buffer.last:
                of[place] = min(set(range(len(of) + 1)) - set(of.values()))
                if of[place] == len(self._stages.carried):
                    self._stages.carried.append(self._stages.backend.zeros(self._stages.arrays["x"].shape))
        return of
