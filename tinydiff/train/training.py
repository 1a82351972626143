"""A model in training, whatever it learns: its state, its steps, whole or in parts, and how it goes on from a checkpoint.
(Files, clocks and signals are in ``run``.)"""

from __future__ import annotations

import math

import numpy as np

from tinydiff import __version__
from tinydiff.ranks import alone
from tinydiff.train.adamw import AdamW
from tinydiff.train.checkpoint import PARTS, Checkpoint
from tinydiff.train.feed import Feed


class NonFinite(ArithmeticError):
    """A loss or gradient became infinite or NaN."""


class Training:
    """State: parameters, their average, two moments and the step number.

    Every random number is a function of (seed, purpose, step, place in the batch), so the state above is all
    a checkpoint needs for training to continue bit for bit. On a GPU the data set lies there if it fits (else see
    ``feed``), and a whole step is one captured graph; ``captured=False`` runs it piece by piece, to the same bits.

    config   a ``RunConfig`` with a ``model``
    dataset  what it is trained on
    ranks    who shares the parts of a batch, to the same bits (``tinydiff.ranks``); each has such a trainer, of the same
             config and data set, takes every step with the others, and ends with the same state

    What it learns a subclass says: the class of its MODEL, ``one_part``, and of what that returns the NUMBERS that METRICS
    report and, in words, the TENSORS that are looked through where one is not finite.

    Raises ``ValueError`` for a data set or a number of parts that does not fit.

    A graph cannot be copied, so a trainer cannot: that is a ``TypeError``. Its ``model`` and ``averaged_model`` can.
    """

    MODEL = METRICS = None
    autoencoder = None  # the ``Checkpoint`` of that in whose latents it works, if it does
    NUMBERS, TENSORS = ("loss",), {}
    frozen = {}  # {which: ``Parameters``} of networks that it asks and does not train

    def __init__(self, config, dataset, backend, *, ranks=alone(), captured=True):
        if dataset.name != config.data:
            raise ValueError(f"the run is on {config.data}, got the data set {dataset.name}")
        config.expect_fits(dataset)
        self.config, self.dataset, self.backend, self.ranks = config, dataset, backend, ranks
        self.ranks.expect_to_share(config.parts)
        self.ranks.expect_same(self._decides_the_bits())
        self.feed = None if backend.has_room_for(dataset.images.nbytes) else Feed(config, dataset, backend, self.ranks)
        self.images = self.feed.images if self.feed else backend.asarray(dataset.images)
        self.labels = backend.asarray(dataset.labels, np.int64)
        self.image_of = None if dataset.image_of is None else backend.asarray(dataset.image_of, np.int64)

        self.model = self.MODEL(config.model, backend)
        self.averaged_model = self.MODEL(config.model, backend)  # its parameters are the average
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
        # the places of the part that is computed
        self.slot = None if config.parts == 1 else backend.zeros(config.part, np.int64)
        self._capture = backend.capture if captured else lambda function: function
        self.capture()

    def capture(self):
        """Have a step captured when it is next taken, as it is by then."""
        if self.slot is None:
            self._run_step = self._capture(self.one_step)
        else:
            self._run_part, self._run_update = self._capture(self.one_part), self._capture(self.optimizer.step)

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
            f"a {type(self).__name__} is neither copied nor pickled: make another of the same config and data set, and "
            "give it this one's state: other.restore(trainer.checkpoint())"
        )

    def train_step(self):
        """One step: batch, forward, loss, backward, clip, AdamW, average. Returns its METRICS.

        Raises ``NonFinite``, naming the first bad tensor, with the state as it was before the step.
        """
        number = self.step + 1
        learning_rate = self.config.learning_rate_at(number)
        self.optimizer.prepare(number, learning_rate)
        numbers, norm, first_bad = self._undivided() if self.config.parts == 1 else self._in_parts()
        loss = numbers["loss"]
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NonFinite(
                f"training step {number}: loss {loss:g}, gradient norm {norm:g}; "
                f"the first tensor that is not finite is {first_bad() or 'a sum of finite numbers that overflows'}"
            )
        self.step = number
        return self.METRICS(step=number, grad_norm=norm, learning_rate=learning_rate, **numbers)

    def _undivided(self):
        """Take the step. Returns {name: number}, the gradient norm and a function that looks for the first bad tensor."""
        self._bring(part=0)
        made = self._run_step()
        return self._numbers(made), self._number(made["norm"]), lambda: self._first_bad(made)

    def _in_parts(self):
        """The same part by part, with all ranks."""
        computed = []
        self.ranks.sum_tree(
            self.parameters.grads, self.config.parts, lambda part: computed.append(self._numbers(self._part(part)))
        )
        norm = self._number(self._run_update())
        computed = [numbers for of_rank in self.ranks.gather(computed) for numbers in of_rank]
        means = {name: math.fsum(each[name] for each in computed) / len(computed) for name in computed[0]}
        return means, norm, self._first_bad_of_parts

    def _part(self, part):
        """Compute the gradients of a part; returns what ``one_part`` does."""
        count = len(self.slot)
        self._bring(part)
        self.slot[...] = self.backend.asarray(part * count + np.arange(count))
        return self._run_part()

    def _bring(self, part):
        if self.feed:
            self.feed.bring(self.step + 1, part)

    def _numbers(self, made):
        """What a step, or a part of it, reports, {name: number}, of what it has made."""
        return {name: self._number(made[name]) for name in self.NUMBERS}

    def _number(self, array):
        return float(self.backend.to_numpy(array).reshape(()))

    def one_step(self):
        """All that a step computes, from what the optimizer has prepared: what is captured, but of a batch in parts, where
        ``one_part`` is. Returns what that does and the gradient norm, {name: array}."""
        made = self.one_part()
        numbers = {name: made[name] for name in self.NUMBERS}
        return {**numbers, "norm": self.optimizer.step(), **made}

    def one_part(self):
        """Leave the gradients of a part, or of an undivided batch, in the model. Returns NUMBERS and TENSORS, {name:
        array}."""
        raise NotImplementedError

    def checkpoint(self):
        """The state, as a ``Checkpoint``."""
        parts = {part: self.parameters.to_numpy(flat) for part, flat in self.state().items()}
        of = self.dataset.identity, self.backend.precision
        return Checkpoint(self.step, self.config, parts, *of, autoencoder=self.autoencoder)

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

    def _first_bad(self, made):
        """The first tensor that is not finite, in the order a step computes them, or None."""
        tensors = [(words, made[name]) for name, words in self.TENSORS.items()]
        tensors += [(f"the gradient of {each.name}", each.grad) for each in reversed(list(self.parameters))]
        for name, tensor in tensors:
            if not np.isfinite(self.backend.to_numpy(tensor)).all():
                return name
        return None

    def _first_bad_of_parts(self):
        """The same of the first part that has one, and who computed it: all parts are computed once more."""
        found = None
        for part in self.ranks.share(self.config.parts):
            if bad := self._first_bad(self._part(part)):
                found = f"{bad}, in part {part} of {self.config.parts}"
                if self.ranks.size > 1:
                    found += f" (rank {self.ranks.rank})"
                break
        return next(filter(None, self.ranks.gather(found)), None)
