"""The training step and its state, apart from files, clocks and signals (those are in ``run``)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tinydiff import __version__
from tinydiff.generate import Trajectory, generate
from tinydiff.model.layers import Dropped
from tinydiff.model.unet import UNet
from tinydiff.noise import schedules
from tinydiff.noise.corrupt import Corruptor
from tinydiff.noise.density import step_quantiles
from tinydiff.ranks import alone
from tinydiff.train.adamw import AdamW
from tinydiff.train.checkpoint import PARTS, Checkpoint
from tinydiff.train.feed import Feed
from tinydiff.train.step import gradients, learn


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
    a checkpoint needs for training to continue bit for bit. On a GPU the data set lies there if it fits (else see
    ``feed``), and a whole step is one captured graph; ``captured=False`` runs it piece by piece, to the same bits.

    ranks  who shares the parts of a batch, to the same bits (``tinydiff.ranks``); each has such a trainer, of the same
           config and data set, takes every step with the others, and ends with the same state

    Raises ``ValueError`` for a data set or a number of parts that does not fit.

    A graph cannot be copied, so a trainer cannot: that is a ``TypeError``. Its ``model`` and ``averaged_model`` can.
    """

    def __init__(self, config, dataset, backend, *, ranks=alone(), captured=True):
        model = config.model
        if dataset.name != config.data:
            raise ValueError(f"the run is on {config.data}, got the data set {dataset.name}")
        expect_fits(model, dataset)
        self.config, self.dataset, self.backend, self.ranks = config, dataset, backend, ranks
        self.ranks.expect_to_share(config.parts)
        self.ranks.expect_same(self._decides_the_bits())
        self.schedule = schedules.get(config.schedule, config.noise_steps)
        self.corrupt = Corruptor(self.schedule, config.prediction, config.loss_weight, backend)
        self.step_quantiles = backend.asarray(step_quantiles(config.noise_steps, config.step_power))
        self.feed = None if backend.has_room_for(dataset.images.nbytes) else Feed(config, dataset, backend, self.ranks)
        self.images = self.feed.images if self.feed else backend.asarray(dataset.images)
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
        capture = backend.capture if captured else lambda function: function
        if config.parts == 1:
            self.slot = None
            self._run_step = capture(self.one_step)
        else:
            self.slot = backend.zeros(config.part, np.int64)  # the places of the part that is computed
            self._run_part, self._run_update = capture(self.one_part), capture(self.optimizer.step)

    @property
    def program(self):
        """The ``Program`` that a step is, or each part of it, where the backend runs it as one; else None."""
        return getattr(self._run_step if self.config.parts == 1 else self._run_part, "program", None)

    def _decides_the_bits(self):
        """{name: value} of all that a run's bits depend on."""
        config = self.config.to_dict()
        fields = {**{f"model.{name}": value for name, value in config.pop("model").items()}, **config}
        return {"version": __version__, **self.backend.identity, **fields, "data set": self.dataset.identity}

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
        loss, norm, first_bad = self._undivided() if self.config.parts == 1 else self._in_parts()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NonFinite(
                f"training step {number}: loss {loss:g}, gradient norm {norm:g}; "
                f"the first tensor that is not finite is {first_bad() or 'a sum of finite numbers that overflows'}"
            )
        self.step = number
        return Metrics(number, loss, norm, learning_rate)

    def _undivided(self):
        """Take the step. Returns loss, gradient norm and a function that looks for the first bad tensor."""
        self._bring(part=0)
        loss, norm, x, prediction = self._run_step()
        return self._number(loss), self._number(norm), lambda: self._first_bad(x, prediction)

    def _in_parts(self):
        """The same part by part, with all ranks."""
        losses = []
        self.ranks.sum_tree(self.parameters.grads, self.config.parts, lambda part: losses.append(self._part(part)[0]))
        norm = self._number(self._run_update())
        losses = [loss for of_rank in self.ranks.gather(losses) for loss in of_rank]
        return math.fsum(losses) / len(losses), norm, self._first_bad_of_parts

    def _part(self, part):
        """Compute the gradients of a part; returns its loss, the noisy input and the prediction."""
        count = len(self.slot)
        self._bring(part)
        self.slot[...] = self.backend.asarray(part * count + np.arange(count))
        loss, x, prediction = self._run_part()
        return self._number(loss), x, prediction

    def _bring(self, part):
        if self.feed:
            self.feed.bring(self.step + 1, part)

    def _number(self, array):
        return float(self.backend.to_numpy(array).reshape(()))

    def one_step(self):
        """All that a step computes, from what the optimizer has prepared: what is captured, but of a batch in parts, where
        ``one_part`` is. Returns loss and gradient norm, the noisy input and the prediction."""
        loss, x, prediction = self.one_part()
        return loss, self.optimizer.step(), x, prediction

    def one_part(self):
        """The gradients of a part, or of an undivided batch. Returns loss, the noisy input and the prediction."""
        config = self.config
        return gradients(
            self.model,
            self.optimizer.number,
            self.corrupt,
            self.images,
            self.labels,
            self.step_quantiles,
            self.slot,
            self.feed.place if self.feed else None,
            batch=config.batch,
            parts=config.parts,
            label_dropout=config.label_dropout,
            flip=config.flip,
            seed=config.seed,
        )

    def learn(self, x, target, weight, step, labels):
        """What a step does with its batch (``train.step.learn``), which comes from outside."""
        dropped = Dropped(self.config.seed, self.optimizer.number)
        return learn(self.model, self.optimizer, x, target, weight, step, labels, dropped)

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
        """The first tensor that is not finite, in the order a step computes them, or None."""
        tensors = [("the noisy input", x), ("the prediction", prediction)]
        tensors += [(f"the gradient of {each.name}", each.grad) for each in reversed(list(self.parameters))]
        for name, tensor in tensors:
            if not np.isfinite(self.backend.to_numpy(tensor)).all():
                return name
        return None

    def _first_bad_of_parts(self):
        """The same of the first part that has one, and who computed it: all parts are computed once more."""
        found = None
        for part in self.ranks.share(self.config.parts):
            _, x, prediction = self._part(part)
            if bad := self._first_bad(x, prediction):
                found = f"{bad}, in part {part} of {self.config.parts}"
                if self.ranks.size > 1:
                    found += f" (rank {self.ranks.rank})"
                break
        return next(filter(None, self.ranks.gather(found)), None)
