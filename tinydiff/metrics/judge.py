"""What the networks that judge images have in common: how they are trained, and how they come with the package, as
float16 beside this file.

A network is a model with ``parameters``, ``forward(x) -> logits, cache`` and ``backward(dlogits, cache)``.
"""

from __future__ import annotations

import contextlib
import json
import math
from importlib import resources

import numpy as np
import safetensors
import safetensors.numpy

from tinydiff.files import write_atomically
from tinydiff.metrics import cross_entropy
from tinydiff.progress import progress_bar
from tinydiff.train.adamw import AdamW


def train(
    model,
    batch,
    epochs,
    steps_an_epoch,
    *,
    learning_rate,
    weight_decay,
    progress=True,
    each_epoch=lambda epoch, average: None,
):
    """Train a model for so many epochs and leave it with the average of its parameters.

    batch          batch(step), 0 .., gives images (N, H, W, C) float32 in [-1, 1] and a function of the logits of these,
                   float32, that returns the loss and the logits' gradient
    learning_rate  of AdamW, the highest, of a cosine
    each_epoch     called after each, 1 .., with the average so far, {name: array}
    """
    backend, optimizer, steps = (
        model.backend,
        AdamW(model.parameters, weight_decay=weight_decay),
        epochs * steps_an_epoch,
    )
    for step in (bar := progress_bar(range(steps), shown=progress)):
        x, loss_of = batch(step)
        logits, cache = model.forward(backend.asarray(x))
        loss, dlogits = loss_of(backend.to_numpy(logits).astype(np.float32, copy=False))
        model.backward(backend.asarray(dlogits), cache)
        optimizer.prepare(step + 1, learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps)))
        optimizer.step()
        bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        if (step + 1) % steps_an_epoch == 0:
            each_epoch((step + 1) // steps_an_epoch, model.parameters.to_numpy(optimizer.average))
    optimizer.keep_average()


def surprise(logits, labels, weight=1.0):
    """logits (N, K), labels (N,) -> ``weight`` times their cross-entropy (), its gradient (N, K)."""
    loss, cache = cross_entropy.forward(logits, labels)
    return weight * loss, cross_entropy.backward(weight, cache)[0]


def path_of(name):
    """Where the package keeps the weights of that name."""
    return resources.files(__package__) / name


def load_weights(model, name):
    """Give a model the weights of that name. Raises ``ValueError`` if they are missing or damaged."""
    try:
        named = safetensors.numpy.load(path_of(name).read_bytes())
        model.parameters.load(model.parameters.values, named)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"the weights of {name} cannot be read: {error}") from None


@contextlib.contextmanager
def stored(out, model, about, measured):
    """Within: a function (epoch, average) that stores that average beside the file ``out``, says how good it is, and so
    leaves something of a training that is stopped. In the end the last becomes ``out``.

    model     of the same kind as the one in training; it is given the weights as they are stored
    about     {name: value} that is written with them
    measured  measured() -> {name: share} of that model
    """
    unfinished = out.with_name(f"{out.name}.unfinished")

    def store(epoch, average):
        named = {name: array.astype(np.float16) for name, array in average.items()}
        model.parameters.load(model.parameters.values, named)
        shares = measured()
        description = json.dumps(about | {"epochs": epoch} | shares)
        write_atomically(unfinished, safetensors.numpy.save(named, {"tinydiff": description}))
        print(f"epoch {epoch}: {', '.join(f'{name} {share:.2%}' for name, share in shares.items())}", flush=True)

    yield store
    unfinished.replace(out)
    print(f"wrote {out}")
