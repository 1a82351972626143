"""One training step, all of it computed from counters and arrays: so that it can be captured, or written down."""

from __future__ import annotations

from tinydiff.model.layers import Dropped


def training_step(model, optimizer, corrupt, images, labels, step_quantiles, **options):
    """Draw a batch, corrupt it, and learn from it.

    model, optimizer  a U-Net or MLP and its ``AdamW``, prepared: its number says which step this is

    The others as for ``gradients``. Returns loss () and gradient norm before clipping (1,), the noisy input and the
    prediction, (batch, ...).
    """
    loss, x, prediction = gradients(model, optimizer.number, corrupt, images, labels, step_quantiles, **options)
    return loss, optimizer.step(), x, prediction


def gradients(
    model,
    number,
    corrupt,
    images,
    labels,
    step_quantiles,
    slot=None,
    place=None,
    *,
    batch,
    parts=1,
    label_dropout,
    flip=False,
    seed,
):
    """Draw a batch, corrupt it, and leave the gradients of its loss in the model: of all of it, or of a part.

    number          (1,) int64, which training step this is: 1, 2, ...
    corrupt         a ``Corruptor``
    images, labels  the data set: (n, ...) bytes or floats, (n,) int64
    step_quantiles  (P,) int64, noise steps as evenly likely parts (``noise.density``)
    slot            the part's places in the batch, (batch / parts,) int64; None: all
    place           where in ``images`` those of the part lie, (batch / parts,) int64, if that is not the data set
    parts           of how many the gradients are to be added
    label_dropout   how often to train without the label
    flip            whether to mirror half of the images
    seed            of everything random, here and in the model's dropout

    Returns loss (), the part's own mean, the noisy input and the prediction.
    """
    backend = model.backend
    index, quantile, labels = backend.draw_batch.forward(
        labels,
        number,
        batch=batch,
        noise_steps=len(step_quantiles),  # as many parts of their probability, drawn evenly
        classes=model.classes,
        dropout=label_dropout,
        seed=seed,
    )
    if slot is not None:
        index, quantile = backend.take(index, slot), backend.take(quantile, slot)
        labels = None if labels is None else backend.take(labels, slot)
    step = backend.take(step_quantiles, quantile)
    index = index if place is None else place
    x, target, weight = corrupt.draw(images, index, step, number, slot, seed=seed, flip=flip)
    step, dropped = step.astype(corrupt.table.dtype), Dropped(seed, number, slot)
    loss, prediction = loss_and_gradients(model, x, target, weight, step, labels, dropped, parts)
    return loss, x, prediction


def learn(model, optimizer, x, target, weight, step, labels, dropped=None):
    """What a step does with its batch: forward, loss, backward, clip, AdamW, average.

    Arguments as of ``loss_and_gradients`` -> loss (), gradient norm before clipping (1,), prediction (N, ...).
    """
    loss, prediction = loss_and_gradients(model, x, target, weight, step, labels, dropped)
    return loss, optimizer.step(), prediction


def loss_and_gradients(model, x, target, weight, step, labels, dropped=None, parts=1):
    """Forward, loss, backward.

    x and target (N, ...), weight and step (N,) floats, labels (N,) integers or None, dropped a ``Dropped`` or None
    -> loss (), prediction (N, ...); the model's gradients are those of the loss divided by ``parts``.
    """
    prediction, cache = model.forward(x, step, labels, **dropping(model, dropped))
    loss, loss_cache = model.backend.mse_loss.forward(prediction, target, weight)
    dprediction, _, _ = model.backend.mse_loss.backward(1.0 / parts, loss_cache, prediction_only=True)
    model.backward(dprediction, cache)
    return loss, prediction


def dropping(model, dropped):
    """What a model's forward takes in training beside x, step and labels: ``dropped``, if it has dropout."""
    return {"dropped": dropped} if getattr(model.config, "dropout", 0) else {}
