"""AdamW over all parameters of a model, for training loops that want no more than that."""

from __future__ import annotations

import numpy as np

from tinydiff.train.averaging import decay_at


class AdamW:
    """The optimizer's state and its step; ``average`` holds the running average of the parameters, flat.

    (``Trainer`` keeps the same state itself, as it writes it to checkpoints.)
    """

    def __init__(self, parameters, *, clip=1.0, weight_decay=0.0, average_decay=0.999):
        self.parameters, self.clip = parameters, clip
        self.weight_decay, self.average_decay = weight_decay, average_decay
        zeros = parameters.backend.zeros
        self.mean, self.mean_square = zeros(parameters.count), zeros(parameters.count)
        self.average = zeros(parameters.count)
        self.average[...] = parameters.values
        self.number = 0  # of steps taken

    def step(self, learning_rate):
        """One step along the gradients that a backward left in ``parameters.grads``; returns their norm."""
        self.number += 1
        parameters, backend = self.parameters, self.parameters.backend
        norm = backend.global_norm.forward(parameters.grads)
        backend.adamw.forward(
            parameters.values,
            parameters.grads,
            self.mean,
            self.mean_square,
            self.average,
            learning_rate=backend.asarray([learning_rate], np.float32),
            step_number=backend.asarray([self.number], np.int64),
            norm=norm,
            limit=self.clip,
            average_decay=backend.asarray([decay_at(self.number, self.average_decay)], np.float32),
            decayed=parameters.decayed,
            weight_decay=self.weight_decay,
        )
        return float(backend.to_numpy(norm)[0])
