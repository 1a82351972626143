"""The training step and its state, apart from files, clocks and signals (those are in ``run``)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tinydiff.generate import Trajectory, generate
from tinydiff.model.unet import UNet
from tinydiff.noise import schedules
from tinydiff.noise.corrupt import Corruptor
from tinydiff.noise.density import step_quantiles
from tinydiff.train.adamw import AdamW
from tinydiff.train.checkpoint import PARTS, Checkpoint
from tinydiff.train.step import learn, training_step


class Metrics(NamedTuple):
    """What one training step reports; the same for the same run, so no clock in it."""

    step: int
    loss: float
    grad_norm: float  # before clipping
    learning_rate: float


class NonFinite(ArithmeticError):
    """A loss or gradient became infinite or NaN."""


def expect_fits(model, dataset):
    """Raise ``ValueError`` unless images and classes of a data set are those of a model's config."""
    if dataset.images.shape[1:] != model.shape:
        raise ValueError(f"{dataset.name} has images of {dataset.images.shape[1:]}, the model takes {model.shape}")
    if model.classes and dataset.classes != model.classes:
        raise ValueError(f"{dataset.name} has {dataset.classes} classes, the model {model.classes}")


class Trainer:
    """A model in training. State: parameters, their average, two moments and the step number.

    Every random number is a function of (seed, purpose, step, place in the batch), so the state above is all
    a checkpoint needs for training to continue bit for bit. On a GPU the data set lies there, and a whole step is one
    captured graph; ``captured=False`` runs it piece by piece, to the same bits.

    A graph cannot be copied, so a trainer cannot: that is a ``TypeError``. Its ``model`` and ``averaged_model`` can.
    """

    def __init__(self, config, dataset, backend, *, captured=True):
        model = config.model
        if dataset.name != config.data:
            raise ValueError(f"the run is on {config.data}, got the data set {dataset.name}")
        expect_fits(model, dataset)
        self.config, self.dataset, self.backend = config, dataset, backend
        self.schedule = schedules.get(config.schedule, config.noise_steps)
        self.corrupt = Corruptor(self.schedule, config.prediction, config.loss_weight, backend)
        self.step_quantiles = backend.asarray(step_quantiles(config.noise_steps, config.step_power))
        self.images = backend.asarray(dataset.images)
        self.labels = backend.asarray(dataset.labels, np.int64)

        self.model = UNet(model, backend)
        self.averaged_model = UNet(model, backend)  # its parameters are the average
        self.parameters = self.model.parameters
        self.average = self.averaged_model.parameters.values
        self.parameters.initialise(config.seed)
        self.optimizer = AdamW(
            self.parameters,
            clip=config.clip,
            weight_decay=config.weight_decay,
            average_decay=config.average_decay,
            average=self.average,
        )
        self.step = 0
        self._run_step = backend.capture(self.one_step) if captured else self.one_step

    @property
    def program(self):
        """The ``Program`` that a step is, where the backend runs it as one; else None."""
        return getattr(self._run_step, "program", None)

    def __reduce__(self):
        raise TypeError(
            "a Trainer is neither copied nor pickled: make another of the same config and data set, and give it this "
            "one's state: other.restore(trainer.checkpoint())"
        )

    def train_step(self):
        """One step: batch, corrupt, forward, loss, backward, clip, AdamW, average. Returns its ``Metrics``.

        Raises ``NonFinite``, naming the first bad tensor, with the state as it was before the step.
        """
        number = self.step + 1
        learning_rate = self.config.learning_rate_at(number)
        self.optimizer.prepare(number, learning_rate)
        loss, norm, x, prediction = self._run_step()

        loss, norm = float(self.backend.to_numpy(loss)), float(self.backend.to_numpy(norm)[0])
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NonFinite(
                f"training step {number}: loss {loss:g}, gradient norm {norm:g}; "
                f"the first tensor that is not finite is {self._first_bad(x, prediction)}"
            )
        self.step = number
        return Metrics(number, loss, norm, learning_rate)

    def one_step(self):
        """All that a step computes, from what the optimizer has prepared: what is captured. Returns loss and gradient
        norm, the noisy input and the prediction."""
        config = self.config
        return training_step(
            self.model,
            self.optimizer,
            self.corrupt,
            self.images,
            self.labels,
            self.step_quantiles,
            batch=config.batch,
            label_dropout=config.label_dropout,
            seed=config.seed,
        )

    def learn(self, x, target, weight, step, labels):
        """What a step does with its batch (``train.step.learn``), which comes from outside."""
        return learn(self.model, self.optimizer, x, target, weight, step, labels)

    def sample(self, labels, **options):
        """The states of drawing these labels with the averaged parameters (see ``generate``)."""
        return generate(self.averaged_model, self.schedule, self.config.prediction, labels, **options)

    def trajectory(self, count, **options):
        """A ``Trajectory`` of so many images with the averaged parameters, as they are whenever it draws."""
        return Trajectory(self.averaged_model, self.schedule, self.config.prediction, count, **options)

    def checkpoint(self):
        """The state, as a ``Checkpoint``."""
        parts = {part: self.parameters.to_numpy(flat) for part, flat in self.state().items()}
        return Checkpoint(self.step, self.config, parts, self.dataset.identity, self.backend.precision)

    def restore(self, checkpoint):
        """Continue from a checkpoint: of this run, or of the one that this is ``lengthened`` from.

        Raises ``ValueError`` naming the first parameter that does not fit.
        """
        for part, flat in self.state().items():
            self.parameters.load(flat, checkpoint.parts[part])
        if self.config.restarts != checkpoint.config.restarts:
            self.optimizer.keep_average()
        self.step = checkpoint.step

    def state(self):
        """The flat arrays that a checkpoint holds, by the name of the part they make."""
        moments = self.optimizer.mean, self.optimizer.mean_square
        return dict(zip(PARTS, (self.parameters.values, self.average, *moments), strict=True))

    def _first_bad(self, x, prediction):
        """The first tensor that is not finite, in the order a step computes them."""
        tensors = [("the noisy input", x), ("the prediction", prediction)]
        tensors += [(f"the gradient of {each.name}", each.grad) for each in reversed(list(self.parameters))]
        for name, tensor in tensors:
            if not np.isfinite(self.backend.to_numpy(tensor)).all():
                return name
        return "a sum of finite numbers that overflows"
