"""AdamW over all parameters of a model: its state and its step."""

from __future__ import annotations

import numpy as np

from tinydiff.train.averaging import decay_at


class AdamW:
    """Two moments and the running average of the parameters, all flat.

    average  where the average is kept, (count,); by default an array of its own. It begins as the parameters are

    What differs from step to step is in arrays of one element, put there by ``prepare``; so ``step`` may be captured.
    """

    def __init__(self, parameters, *, clip=1.0, weight_decay=0.0, average_decay=0.999, average=None):
        self.parameters, self.clip = parameters, clip
        self.weight_decay, self.average_decay = weight_decay, average_decay
        zeros = parameters.backend.zeros
        self.mean, self.mean_square = zeros(parameters.count), zeros(parameters.count)
        self.average = zeros(parameters.count) if average is None else average
        self.average[...] = parameters.values
        self.number, self._learning_rate, self._decay = zeros(1, np.int64), zeros(1), zeros(1)

    @property
    def each_step(self):
        """{name: array} of what ``prepare`` says."""
        return {"number": self.number, "learning_rate": self._learning_rate, "average_decay": self._decay}

    def prepare(self, number, learning_rate):
        """Say which step comes next, 1, 2, ..., and its learning rate."""
        self.number[...] = number
        self._learning_rate[...] = learning_rate
        self._decay[...] = decay_at(number, self.average_decay)

    def step(self):
        """One step along the gradients that a backward left in ``parameters.grads``; returns their norm, (1,)."""
        parameters, backend = self.parameters, self.parameters.backend
        norm = backend.global_norm.forward(parameters.grads)
        backend.adamw.forward(
            parameters.values,
            parameters.grads,
            self.mean,
            self.mean_square,
            self.average,
            parameters.rounded,
            learning_rate=self._learning_rate,
            step_number=self.number,
            norm=norm,
            limit=self.clip,
            average_decay=self._decay,
            decayed=parameters.decayed,
            weight_decay=self.weight_decay,
        )
        return norm

    def keep_average(self):
        """The average becomes the parameters."""
        self.parameters.values[...] = self.average
        self.parameters.refresh()
