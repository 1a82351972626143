"""The page lab.html: programs that train on points in the plane, and draw with what was learned.

    lab/program.json         for each width W of the network
                               initialise.W      draw its parameters from ``seed``; nothing is learned yet
                               train.W           one training step; gives ``loss.W``
                               predict.W         one evaluation of the averaged parameters; gives ``network``
                               predict_guided.W  the same with ``guidance``
                             for each kind of prediction K
                               split.K           both parts of ``network`` at x, given ``rates``, signal and noise:
                                                 ``eps`` and, kept within ``CLIP``, ``prediction``, the clean points,
                                                 from which samplers go on
                             "start" and the samplers' stages of ``program.web``; and "counters", random numbers
    lab/weights.safetensors  of each set SET.points and SET.labels: ``TRAINED`` to train on, the rest are fresh; and
                             the tables noise.K

A set may have fewer classes than the network; those it has not are never met. So one program fits all sets. And what a
kind of prediction is to training is data: ``noise``, the table that corrupts, becomes ``noise.K``.

The seed draws the initial parameters, the batches, and their noise. Points are rounded, in the tab and in Python alike.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff import backends
from tinydiff.data import points2d
from tinydiff.metrics import mmd
from tinydiff.model.mlp import MLP, MLPConfig
from tinydiff.noise import schedules
from tinydiff.noise.corrupt import Corruptor
from tinydiff.noise.density import step_quantiles
from tinydiff.noise.predictions import eps_of, x0_of
from tinydiff.pages import PREDICTIONS, SAMPLERS
from tinydiff.program import file, web
from tinydiff.program.record import record
from tinydiff.program.stages import MOST_NUMBERS, Stages
from tinydiff.train.adamw import AdamW
from tinydiff.train.step import training_step

FOLDER = "lab"
WIDTHS = (32, 64, 128)
CLASSES = 8
NOISE_STEPS = 200
BATCH, LABEL_DROPOUT = 256, 0.1
TRAINED, FRESH = 2048, 400  # points of a set; MMD needs two halves of the fresh ones
COUNT = 300  # points at a time
STEPS = (4, 8, 16, 32, 64, 128)
CLIP = (-1.5, 1.5)  # where the points of all sets lie
GRAIN = 1 / 512  # to which they are rounded: so a set is 10 kB


def make(checkpoint):
    """(facts, files) of the page, see ``build.contents``."""
    types = {f"{name}.points": "F16" for name in points2d.SHAPES}
    files = file.contents(stored(backends.get("numpy")), types=types)
    return facts(), {f"{FOLDER}/{name}": content for name, content in files.items()}


def facts():
    """What the page states: {name: text}."""
    return {
        "batch": f"{BATCH}",
        "trained": f"{TRAINED:,}",
        "count": f"{COUNT}",
        "compared": f"{FRESH // 2}",
        "fewest": f"{min(STEPS)}",
        "most": f"{max(STEPS)}",
        "splits": f"{mmd.SPLITS}",
        "clip": f"{CLIP[1]:g}",
        "noise_steps": f"{NOISE_STEPS}",
    }


def points(name):
    """The points (n, 2) float32 and labels (n,) uint8 of a set, as the page has them."""
    found = points2d.load(name, TRAINED + FRESH)
    return (np.round(found.images / GRAIN) * GRAIN).astype(np.float32), found.labels.astype(np.uint8)


class Data(NamedTuple):
    """What training reads, whatever the network."""

    images: np.ndarray  # (TRAINED, 2)
    labels: np.ndarray  # (TRAINED,)
    seed: np.ndarray  # (1,)
    corrupt: Corruptor
    quantiles: np.ndarray  # (NOISE_STEPS,)

    @classmethod
    def empty(cls, backend, kind):
        corrupt = Corruptor(schedules.get("cosine", NOISE_STEPS), kind, "simple", backend)
        images, labels = backend.zeros((TRAINED, 2)), backend.zeros(TRAINED, np.int64)
        return cls(images, labels, backend.zeros(1, np.uint64), corrupt, step_quantiles(NOISE_STEPS))

    def step(self, model, optimizer):
        """One training step; its loss, ()."""
        options = dict(batch=BATCH, label_dropout=LABEL_DROPOUT, seed=self.seed)
        of = self.corrupt, self.images, self.labels, self.quantiles
        return training_step(model, optimizer, *of, **options)[0]


def network(width, backend):
    """One to train and, of as many parameters, their average."""
    return tuple(MLP(MLPConfig(width=width, classes=CLASSES), backend) for _ in range(2))


def stored(backend):
    """The ``Stored`` of the page."""
    data = Data.empty(backend, PREDICTIONS[0])
    data.corrupt.table[...] = 0  # which one it shall be the page says
    schedule = schedules.get("cosine", NOISE_STEPS)
    stages = Stages(backend, schedule, "x0", (COUNT, 2), clip=None)
    stages.arrays |= {"network": backend.zeros((COUNT, 2)), "eps": backend.zeros((COUNT, 2))}
    ways = web.ways_of(stages, {sampler: STEPS for sampler in SAMPLERS})
    recordings = dict(stages.recordings)
    asked = web.Asked.of(backend, COUNT)
    for width in WIDTHS:
        recordings |= _of_width(width, data, stages, asked)
    rates = backend.zeros(2)
    recordings |= {f"split.{kind}": _split(kind, stages, rates) for kind in PREDICTIONS}
    recordings["counters"] = _counters(backend)
    steps = {*range(NOISE_STEPS), *(step for counts in ways.values() for way in counts.values() for _, step, _ in way)}
    about = {
        "count": COUNT,
        "classes": CLASSES,
        "numbers": MOST_NUMBERS,
        "points": TRAINED + FRESH,
        "trained": TRAINED,
        "sets": {name: shape.classes for name, shape in points2d.SHAPES.items()},
        "mixture": {
            "weights": points2d.MIXTURE.weights.tolist(),
            "means": points2d.MIXTURE.means.tolist(),
            "covariances": points2d.MIXTURE.covariances.tolist(),
        },
        "ways": web.described(ways),
        "rates": {repr(step): [web.short(rate) for rate in schedule.rates(step)] for step in sorted(steps)},
    }
    return file.gather(recordings, about=about)


def _of_width(width, data, stages, asked):
    """The ``Recording``s of one width."""
    backend = stages.backend
    model, averaged = network(width, backend)
    optimizer = AdamW(model.parameters, average=averaged.parameters.values)
    flat = model.parameters.values, optimizer.average, optimizer.mean, optimizer.mean_square
    names = (f"{name}.{width}" for name in ("parameters", "average", "mean", "mean_square"))
    state, seed = dict(zip(names, flat)), {"training_seed": data.seed}
    what = {"images": data.images, "classes": data.labels, "noise": data.corrupt.table, "quantiles": data.quantiles}

    def initialise():
        values, average, *moments = map(backend.recorder.as_recorded, flat)
        model.parameters.initialise(data.seed, values)
        average[...] = values
        for moment in moments:
            moment[...] = 0

    each_step = {f"{name}.{width}": array for name, array in optimizer.each_step.items()}
    made = {
        "initialise": record(initialise, backend, inputs=seed, state=state),
        "train": record(
            lambda: {f"loss.{width}": data.step(model, optimizer)},
            backend,
            inputs={**each_step, **seed},
            state={**state, **what},
        ),
        **web.evaluations(averaged, stages, asked, state={**stages.arrays, **state}, into="network"),
    }
    return {f"{name}.{width}": recording for name, recording in made.items()}


def _split(kind, stages, rates):
    """The ``Recording`` of what a prediction of that kind says of x."""
    backend, x, predicted = stages.backend, stages.arrays["x"], stages.arrays["network"]
    a, s = rates[:1].reshape(()), rates[1:].reshape(())

    def split():
        in_program = map(backend.recorder.as_recorded, (predicted, x, a, s))
        of = kind, *in_program
        stages.keep("prediction", x0_of(*of).clip(*CLIP))
        stages.keep("eps", eps_of(*of))

    return record(split, backend, inputs={"rates": rates}, state=stages.arrays)


def _counters(backend):
    """The ``Recording`` of random numbers for what the page makes itself, as ``points2d`` has them for its points.

    It names all that the file holds beside programs, too.
    """
    index = backend.zeros(TRAINED + FRESH, np.int64)
    seed = backend.zeros(1, np.uint64)

    def draw():
        forward = backend.philox.forward
        uniform = forward(seed, "data", index, 0, (1,), kind="uniform")
        return {"uniform": uniform, "normal": forward(seed, "data", index, 1, (2,), kind="normal")}

    sets = {}
    for name in points2d.SHAPES:
        sets[f"{name}.points"], sets[f"{name}.labels"] = points(name)
    tables = {f"noise.{kind}": Data.empty(backend, kind).corrupt.table for kind in PREDICTIONS}
    return record(draw, backend, inputs={"index": index}, state={"counters.seed": seed, **sets, **tables})
