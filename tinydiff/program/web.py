"""A model's programs for a page: its network, the stages of its samplers, a step of its training.

In ``about`` of the file:

    config    of the model's run, as in a checkpoint
    count     images at a time, N
    numbers   how many ``numbers`` has room for
    classes   how many; the label of that number stands for "any class". 0: labels are not asked for
    ways      {sampler: {number of steps: [[stage, step, numbers], ...]}}

To draw, set ``labels``, ``seed`` and ``sample`` (the number of each image among all drawn from that seed) and run
"start"; then of each entry of a way: fill ``step``, run "predict" or, where guidance is neither 0 nor 1,
"predict_guided", with ``guidance`` set; set ``numbers`` and ``draw``, the number of the entry; run the stage.
``tinydiff/site/drawing.js`` does that. Guidance 0 is "predict" with the label for any class. A student is told the
guidance, and asked once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.generate import IMAGE_RANGE
from tinydiff.model.unet import UNet
from tinydiff.noise import schedules
from tinydiff.noise.guidance import guided
from tinydiff.program import file, runs
from tinydiff.program.record import record
from tinydiff.program.stages import MOST_NUMBERS, Stages

A_GUIDANCE = 2.0  # neither 0 nor 1, which need no extrapolation


class Asked(NamedTuple):
    """The arrays in which a network is asked about x: ``step`` (N,), ``labels`` (N,), ``guidance`` ()."""

    step: np.ndarray
    labels: np.ndarray
    guidance: np.ndarray

    @classmethod
    def of(cls, backend, count):
        guidance = backend.zeros(())
        guidance[...] = A_GUIDANCE
        return cls(backend.zeros(count), backend.zeros(count, np.int64), guidance)


def drawing(model, schedule, prediction, count, ways, *, clip=IMAGE_RANGE, apart=False):
    """Programs that draw so many images: ({name: Recording}, {sampler: {steps: [Step, ...]}}).

    ways   {sampler: numbers of steps}
    apart  whether one may begin anywhere on a way, see ``Stages.way``
    """
    stages = Stages(model.backend, schedule, prediction, (count, *model.config.shape), clip=clip)
    state = {**stages.arrays, **runs.parameters_of(model.parameters)}
    programs = evaluations(model, stages, Asked.of(model.backend, count), state=state)
    made = ways_of(stages, ways, apart=apart)
    return {**stages.recordings, **programs}, made


def ways_of(stages, ways, *, apart=False):
    """{sampler: {steps: [Step, ...]}} of {sampler: numbers of steps}; ``apart`` as for ``Stages.way``."""
    made = lambda sampler, counts: {steps: stages.way(sampler, steps, apart=apart) for steps in counts}
    return {sampler: made(sampler, counts) for sampler, counts in ways.items()}


def evaluations(model, stages, asked, *, state, into="prediction"):
    """The ``Recording``s "predict" and, with classes, "predict_guided".

    state  {name: array} of what they find
    into   which of the arrays of ``stages`` gets the prediction
    """
    backend, classes, x = model.backend, model.config.classes, stages.arrays["x"]
    step, labels, guidance = asked
    count = len(step)

    def predict(x, step, labels, guidance=1.0):
        told = {"guidance": backend.zeros(count) + guidance} if model.takes_guidance else {}
        return model.predict(x, step, labels if classes else None, **told)

    def predict_both(both_x, _, both_labels):
        both_steps = backend.empty(2 * count)
        both_steps[:count], both_steps[count:] = step, step
        return predict(both_x, both_steps, both_labels)

    def predict_guided():
        if model.takes_guidance:
            return predict(x, step, labels, guidance)
        return guided(predict_both, labels, classes, guidance, backend)(x, None)

    inputs, programs = {"step": step, "labels": labels}, {}
    programs["predict"] = record(
        lambda: stages.keep(into, predict(x, step, labels)), backend, inputs=inputs, state=state
    )
    if classes:
        inputs = {**inputs, "guidance": guidance}
        programs["predict_guided"] = record(
            lambda: stages.keep(into, predict_guided()), backend, inputs=inputs, state=state
        )
    return programs


def of_checkpoint(checkpoint, backend, *, count=1, ways, part="average", images=0, also=None, apart=False):
    """The ``Stored`` of a checkpoint.

    count   of images at a time
    ways    {sampler: numbers of steps}
    part    which parameters draw: "average" or "model"
    images  on how many there shall be a step of training, "train", too: it goes on from the checkpoint, on ``images`` and
            ``train.labels`` that the page gives. 0: there is none
    also    {name: Recording} of further programs on arrays of that backend
    apart   whether one may begin anywhere on a way, see ``Stages.way``
    """
    config = checkpoint.config
    if config.autoencoder:
        raise ValueError("a page draws images themselves, and this run the latents of an autoencoder")
    schedule = schedules.get(config.schedule, config.noise_steps)
    training = {}
    if images:
        trainer = runs.without_data(config, backend, images)
        trainer.restore(checkpoint)
        model = trainer.averaged_model if part == "average" else trainer.model
        training["train"] = runs.train(trainer)
    else:
        model = UNet(config.model, backend)
        model.parameters.load(model.parameters.values, checkpoint.parts[part])
    recordings, made = drawing(model, schedule, config.prediction, count, ways, apart=apart)
    about = {"config": config.to_dict(), "step": checkpoint.step, "count": count, "classes": config.model.classes}
    about["numbers"] = MOST_NUMBERS
    about["ways"] = described(made)
    return file.gather({**recordings, **training, **(also or {})}, about=about)


def described(ways):
    """Ways as ``about`` has them."""
    return {
        sampler: {
            str(steps): [[each.stage, each.step, [short(number) for number in each.numbers]] for each in way]
            for steps, way in counts.items()
        }
        for sampler, counts in ways.items()
    }


def short(number):
    """The float32 that it is in as few digits as tell it from others."""
    return float(str(np.float32(number)))
