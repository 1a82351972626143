"""A student in training: a diffusion model that learns from its teacher to draw in fewer steps.

Stage by stage (``distill_config``) the student begins as its teacher and learns ``noise.distillation.lesson``s: to do
in one step of DDIM what the teacher does in two; in the next stage it is the teacher. A teacher with classes or texts
is guided, by a guidance drawn anew for every sample, which the student is told: from then on one evaluation does the
work of two.

Source: Salimans and Ho, "Progressive distillation for fast sampling of diffusion models", 2022, algorithm 2; Meng et
al., "On distillation of guided diffusion models", 2023, whose two stages, first guidance and then the steps, are one
here.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tinydiff.generate import IMAGE_RANGE, Trajectory
from tinydiff.model.unet import UNet
from tinydiff.noise import distillation
from tinydiff.noise.distillation import Lessons, lesson
from tinydiff.noise.guidance import extrapolated
from tinydiff.ranks import alone
from tinydiff.train.checkpoint import TEACHER
from tinydiff.train.step import loss_and_gradients
from tinydiff.train.trainer import Trainer

TOLD = "time_embedding.cond_proj.weight"  # what a student has and its first teacher has not


class Distiller(Trainer):
    """The ``Training`` of a student, by a ``DistillConfig``. What it learns from is its ``teacher``, which a new one
    has from ``learn_from``."""

    TENSORS = {"x": "the noisy input", "target": "the teacher's target", "prediction": "the prediction"}

    def __init__(self, config, dataset, backend, *, ranks=alone(), captured=True):
        super().__init__(config, dataset, backend, ranks=ranks, captured=captured)
        self.places = backend.asarray(np.arange(config.batch)) if self.slot is None else self.slot
        self._enter(config.stage_at(0))

    def _enter(self, stage):
        """Make ready for a ``Stage``, all but the parameters of its teacher."""
        config, backend, self.stage = self.config, self.backend, stage
        model = config.model if stage.told else dataclasses.replace(config.model, guidance_width=0)
        self.teacher = UNet(model, backend, frozen=True)
        self.teacher.texts = self.model.texts
        lessons = distillation.consistency if stage.consistency else distillation.halving
        steps = stage.teacher_steps if stage.consistency else stage.steps
        lessons = lessons(self.schedule, config.prediction, steps)
        self.step_quantiles = backend.asarray(lessons.step.astype(np.int64))  # each as often
        self.lessons = Lessons(*(backend.asarray(each, np.float32) for each in lessons))
        self.capture()

    def learn_from(self, checkpoint):
        """Begin as a teacher, with the averaged parameters of its ``Checkpoint``. Raises ``ValueError`` naming the
        first that does not fit."""
        learned = checkpoint.parts["average"]
        self._load_teacher(learned)
        new = [each for each in self.parameters if each.name == TOLD and not self.stage.told]
        for flat in (self.parameters.values, self.average):
            self.parameters.load(flat, {**learned, **{each.name: np.zeros(each.shape) for each in new}})

    def _load_teacher(self, named):
        """Have the teacher's parameters on the backend, which may round them, and for checkpoints as they are."""
        self.teacher.parameters.load(self.teacher.parameters.values, named)
        self._learned = {name: np.array(each, np.float32) for name, each in named.items()}

    @property
    def frozen(self):
        return {"teacher": self.teacher.parameters}

    @property
    def tables(self):
        """{name: array} of what a step reads beside the data."""
        lessons = {f"lessons.{name}": array for name, array in self.lessons._asdict().items()}
        places = {"places": self.places} if self.slot is None else {}
        teacher = {f"teacher.{each.name}": each.operand for each in self.teacher.parameters}
        return {**super().tables, **lessons, **places, **teacher}

    def train_step(self):
        stage = self.config.stage_at(self.step + 1)
        if stage != self.stage:  # the student becomes a teacher
            learned = self.parameters.to_numpy(self.average)
            self._enter(stage)
            self._load_teacher(learned)
            self.optimizer.keep_average()
        return super().train_step()

    def one_part(self):
        """The gradients of a part, or of an undivided batch. Returns its loss, the noisy input, target and
        prediction."""
        batch = self.drawn()
        batch = batch._replace(guidance=self._guidance())
        batch = batch._replace(target=self.target(batch))
        loss, prediction = loss_and_gradients(self.model, batch, self.config.parts)
        return {"loss": loss, "x": batch.x, "target": batch.target, "prediction": prediction}

    def _guidance(self):
        """That of each sample, (N,), or None for a student that is not told any."""
        if not self.model.takes_guidance:
            return None
        low, high = self.config.guidance_range
        places, number = self.places, self.optimizer.number
        drawn = self.backend.philox.forward(self.config.seed, "guidance", places, number, (1,), kind="uniform")
        return drawn.reshape(-1) * (high - low) + low

    def target(self, batch):
        """What the teacher has a student predict of a ``Batch``: as its x, (N, ...)."""
        backend, of_each = self.backend, (-1, *[1] * (batch.x.ndim - 1))
        columns = Lessons(*(backend.take(each, batch.quantile) for each in self.lessons))
        at = Lessons(*(each.reshape(*of_each) for each in columns))

        def teacher_at(step):
            return lambda x: self._taught(x, step, batch, of_each)

        def student(x):
            return self.model.predict(x, columns.middle, batch.labels, **_told(batch.guidance))

        second = student if self.stage.consistency else teacher_at(columns.middle)
        clip = self.config.drawing.get("clip", IMAGE_RANGE)
        return lesson(teacher_at(columns.step), second, batch.x, at, clip)

    def _taught(self, x, step, batch, of_each):
        """What the teacher predicts at x and a noise step, (N,), of each sample, guided."""
        teacher, labels, guidance = self.teacher, batch.labels, batch.guidance
        if guidance is None or self.stage.told:
            return teacher.predict(x, step, labels, **_told(guidance))
        null_labels = self.backend.zeros(labels.shape, labels.dtype) + teacher.classes
        twice = self.backend.empty(2 * len(step))
        twice[: len(step)], twice[len(step) :] = step, step
        predict = lambda x, step, labels: teacher.predict(x, twice, labels)
        return extrapolated(predict, labels, null_labels, guidance.reshape(*of_each), self.backend)(x, step)

    def teacher_trajectory(self, count, **options):
        """A ``Trajectory`` of so many images of the stage's teacher."""
        options = {**self.config.drawing, **options}
        return Trajectory(self.teacher, self.schedule, self.config.prediction, count, **options)

    def checkpoint(self):
        checkpoint = super().checkpoint()
        return checkpoint._replace(parts={**checkpoint.parts, TEACHER: self._learned})

    def restore(self, checkpoint):
        self._enter(self.config.stage_at(checkpoint.step))
        self._load_teacher(checkpoint.parts[TEACHER])
        super().restore(checkpoint)


def _told(guidance):
    return {} if guidance is None else {"guidance": guidance}
