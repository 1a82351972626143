"""The training loop on one page: any model and data set in memory, no files, nothing to resume.

(``Trainer`` takes the same step, and adds all that a long run wants.)
"""

from __future__ import annotations

import numpy as np

from tinydiff.data.dataset import bytes_to_signed
from tinydiff.model.layers import Dropped
from tinydiff.noise.corrupt import Corruptor
from tinydiff.progress import progress_bar
from tinydiff.train.adamw import AdamW
from tinydiff.train.step import dropping


def fit(
    model,
    dataset,
    schedule,
    prediction,
    *,
    steps,
    batch=256,
    learning_rate=2e-3,
    label_dropout=0.1,
    only_step=None,
    seed=0,
):
    """Train a model (U-Net or MLP) in place and leave the average of its parameters in it; return the losses (steps,).

    dataset        a ``Dataset``; its labels are used if the model has classes
    prediction     what the model is to predict: "eps", "x0" or "v"
    learning_rate  its peak: it falls to 0 on a cosine
    label_dropout  how often a sample is trained without its label
    only_step      None: every noise step, uniformly. A number: that step alone
    """
    backend, classes = model.backend, model.classes
    rng = np.random.default_rng(seed)
    corrupt = Corruptor(schedule, prediction, "simple", backend)
    model.parameters.initialise(seed)
    optimizer, losses = AdamW(model.parameters), np.empty(steps)
    for i in progress_bar(range(steps), leave=False):
        chosen = rng.integers(len(dataset), size=batch)
        x0 = bytes_to_signed(dataset.images[chosen])
        eps = rng.standard_normal(x0.shape, dtype=np.float32)
        step = rng.integers(schedule.T, size=batch) if only_step is None else np.full(batch, only_step)
        labels = None
        if classes:
            labels = np.where(rng.random(batch) < label_dropout, classes, dataset.labels[chosen])
            labels = backend.asarray(labels, np.int32)

        x, target, weight = corrupt(backend.asarray(x0), backend.asarray(eps), backend.asarray(step, np.int64))
        optimizer.prepare(i + 1, learning_rate * 0.5 * (1 + np.cos(np.pi * i / steps)))
        dropped = dropping(model, Dropped(seed, optimizer.number))
        y, cache = model.forward(x, backend.asarray(step, np.float32), labels, **dropped)
        loss, loss_cache = backend.mse_loss.forward(y, target, weight)
        dy, _, _ = backend.mse_loss.backward(1.0, loss_cache)
        model.backward(dy, cache)
        optimizer.step()
        losses[i] = float(backend.to_numpy(loss))
    optimizer.keep_average()
    return losses
