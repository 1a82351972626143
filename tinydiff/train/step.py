"""One training step, all of it computed from counters and arrays: so that it can be captured, or written down."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from tinydiff.model.layers import Dropped


class Batch(NamedTuple):
    """What a model learns from in one step, or in a part of it: N samples."""

    x: Any  # (N, ...), the noisy input
    target: Any  # (N, ...), what is to be predicted
    weight: Any  # (N,) floats, of each sample in the loss
    step: Any  # (N,) floats, the noise step
    labels: Any  # (N,) integers, or None
    dropped: Dropped | None = None  # what dropout drops
    guidance: Any = None  # (N,) floats, of a model that is told it
    quantile: Any = None  # (N,) integers, of which part of their probability the noise step was drawn


def training_step(model, optimizer, corrupt, images, labels, step_quantiles, **options):
    """Draw a batch, corrupt it, and learn from it.

    model, optimizer  a U-Net or MLP and its ``AdamW``, prepared: its number says which step this is

    The others as for ``drawn``. Returns loss () and gradient norm before clipping (1,), the noisy input and the
    prediction, (batch, ...).
    """
    batch = drawn(model, optimizer.number, corrupt, images, labels, step_quantiles, **options)
    loss, norm, prediction = learn(model, optimizer, batch)
    return loss, norm, batch.x, prediction


def drawn(
    model,
    number,
    corrupt,
    images,
    labels,
    step_quantiles,
    slot=None,
    place=None,
    *,
    image_of=None,
    batch,
    label_dropout,
    flip=False,
    seed,
):
    """Draw a batch and corrupt it, all of it or a part: a ``Batch``.

    number          (1,) int64, which training step this is: 1, 2, ...
    corrupt         a ``Corruptor``
    images, labels  the data set: (n, ...) bytes or floats, (n,) int64; or of ``image_of``, (m,) int64, which image each of
                    m labels is of
    step_quantiles  (P,) int64, noise steps as evenly likely parts (``noise.density``)
    slot            the part's places in the batch, (batch / parts,) int64; None: all
    place           where in ``images`` those of the part lie, (batch / parts,) int64, if that is not the data set
    label_dropout   how often to train without the label
    flip            whether to mirror half of the images
    seed            of everything random, here and in the model's dropout
    """
    backend = model.backend
    # as many noise steps as parts of their probability, drawn evenly
    draw = functools.partial(backend.draw_batch.forward, batch=batch, noise_steps=len(step_quantiles), seed=seed)
    index, quantile, labels = draw(labels, number, classes=model.classes, dropout=label_dropout)
    if image_of is not None and place is None:
        _, _, index = draw(image_of, number, classes=len(images), dropout=0.0)  # of the same places
    if slot is not None:
        index, quantile = backend.take(index, slot), backend.take(quantile, slot)
        labels = None if labels is None else backend.take(labels, slot)
    step = backend.take(step_quantiles, quantile)
    index = index if place is None else place
    x, target, weight = corrupt.draw(images, index, step, number, slot, seed=seed, flip=flip)
    step, dropped = step.astype(corrupt.table.dtype), Dropped(seed, number, slot)
    return Batch(x, target, weight, step, labels, dropped, quantile=quantile)


def learn(model, optimizer, batch):
    """What a step does with its ``Batch``: forward, loss, backward, clip, AdamW, average -> loss (), gradient norm
    before clipping (1,), prediction (N, ...)."""
    loss, prediction = loss_and_gradients(model, batch)
    return loss, optimizer.step(), prediction


def loss_and_gradients(model, batch, parts=1):
    """Forward, loss, backward of a ``Batch`` -> loss (), its own mean, prediction (N, ...); the model's gradients are
    those of the loss divided by ``parts``."""
    told = {} if batch.guidance is None else {"guidance": batch.guidance}
    prediction, cache = model.forward(batch.x, batch.step, batch.labels, **dropping(model, batch.dropped), **told)
    loss, loss_cache = model.backend.mse_loss.forward(prediction, batch.target, batch.weight)
    dprediction, _, _ = model.backend.mse_loss.backward(1.0 / parts, loss_cache, prediction_only=True)
    model.backward(dprediction, cache)
    return loss, prediction


def dropping(model, dropped):
    """What a model's forward takes in training beside x, step and labels: ``dropped``, if it has dropout."""
    return {"dropped": dropped} if getattr(model.config, "dropout", 0) else {}
