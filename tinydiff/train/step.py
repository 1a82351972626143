"""One training step, all of it computed from counters and arrays: so that it can be captured, or written down."""

from __future__ import annotations


def training_step(model, optimizer, corrupt, images, labels, step_quantiles, *, batch, label_dropout, seed):
    """Draw a batch, corrupt it, and learn from it.

    model, optimizer  a U-Net or MLP and its ``AdamW``, prepared: its number says which step this is
    corrupt           a ``Corruptor``
    images, labels    the data set: (n, ...) bytes or floats, (n,) int64
    step_quantiles    (P,) int64, noise steps as evenly likely parts (``noise.density``)

    Returns loss () and gradient norm before clipping (1,), the noisy input and the prediction, (batch, ...).
    """
    backend, number = model.backend, optimizer.number
    index, part, labels = backend.draw_batch.forward(
        labels,
        number,
        batch=batch,
        noise_steps=len(step_quantiles),  # as many parts of their probability, drawn evenly
        classes=model.config.classes,
        dropout=label_dropout,
        seed=seed,
    )
    step = backend.take(step_quantiles, part)
    x, target, weight = corrupt.draw(images, index, step, number, seed=seed)
    loss, norm, prediction = learn(model, optimizer, x, target, weight, step.astype(corrupt.table.dtype), labels)
    return loss, norm, x, prediction


def learn(model, optimizer, x, target, weight, step, labels):
    """What a step does with its batch: forward, loss, backward, clip, AdamW, average.

    x and target (N, ...), weight and step (N,) floats, labels (N,) integers or None -> loss (), gradient norm before
    clipping (1,), prediction (N, ...).
    """
    prediction, cache = model.forward(x, step, labels)
    loss, loss_cache = model.backend.mse_loss.forward(prediction, target, weight)
    dprediction, _, _ = model.backend.mse_loss.backward(1.0, loss_cache, prediction_only=True)
    model.backward(dprediction, cache)
    return loss, optimizer.step(), prediction
