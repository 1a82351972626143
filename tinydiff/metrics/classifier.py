"""A classifier of MNIST's digits, trained by this engine: its features measure FID, its answers the accuracy of samples.

It has the size of a LeNet, 126,826 parameters, recognises 99.45 % of the test images, and comes with the package as
float16 (``classifier.safetensors``, 255 kB):

    28x28x1 -> conv 16 -> 14x14x32 -> 7x7x64 -> 4x4x64 -> linear 64 (the features) -> linear 10

every convolution 3x3, of stride 2 where the image halves, each followed by group norm + SiLU. To make the weights again
(about six minutes on two CPU cores; the same bits on the same backend and instruction set):

    python -m tinydiff.metrics.classifier

Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998 (the size, and shifted images).
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from tinydiff import backends
from tinydiff.data import mnist
from tinydiff.data.dataset import bytes_to_signed
from tinydiff.files import write_atomically
from tinydiff.metrics import cross_entropy
from tinydiff.metrics.fid import FeatureNet
from tinydiff.model.layers import Conv2d, GroupNorm, Linear
from tinydiff.model.parameters import Parameters
from tinydiff.progress import progress_bar
from tinydiff.train.adamw import AdamW

SIZE, CLASSES = 28, 10
WIDTHS = (16, 32, 64, 64)  # of the convolutions; all but the first halve the image
LOWEST = 4  # height and width after the last: 28, 14, 7, 4
FEATURES = 64
WEIGHTS = "classifier.safetensors"
NAME = f"tinydiff's MNIST classifier, {FEATURES} features"
BATCH = 250  # images at a time where no gradient is asked for

# how the weights were trained
EPOCHS, TRAIN_BATCH, LEARNING_RATE, WEIGHT_DECAY, LARGEST_SHIFT = 8, 100, 2e-3, 0.05, 2


class Cache(NamedTuple):
    blocks: list  # of (conv, group norm)
    hidden: Any
    silu: Any
    output: Any


class Classifier:
    """x (N, 28, 28, 1) in [-1, 1] -> logits (N, 10)."""

    def __init__(self, backend, dtype=np.float32):
        self.backend = backend
        self.parameters = parameters = Parameters(backend, dtype)
        self.blocks = []
        for i, (C, O) in enumerate(zip((1, *WIDTHS), WIDTHS)):
            conv = Conv2d(parameters, f"blocks.{i}.conv", C, O, 3, stride=2 if i else 1, padding=1)
            self.blocks.append((conv, GroupNorm(parameters, f"blocks.{i}.norm", O, 8, 1e-5, silu=True)))
        self.hidden = Linear(parameters, "hidden", LOWEST * LOWEST * WIDTHS[-1], FEATURES)
        self.output = Linear(parameters, "output", FEATURES, CLASSES)
        parameters.allocate()

    def features(self, x):
        """x (N, 28, 28, 1) -> features (N, 64), caches. Raises ``ValueError`` for images of another shape."""
        if x.shape[1:] != (SIZE, SIZE, 1):
            raise ValueError(f"the classifier takes images of {SIZE}x{SIZE}x1, got {'x'.join(map(str, x.shape[1:]))}")
        h, blocks = x, []
        for conv, norm in self.blocks:
            h, conv_cache = conv.forward(h)
            h, norm_cache = norm.forward(h)
            blocks.append((conv_cache, norm_cache))
        h, hidden = self.hidden.forward(h.reshape(len(x), -1))
        features, silu = self.backend.silu.forward(h)
        return features, (blocks, hidden, silu)

    def forward(self, x):
        """x (N, 28, 28, 1) -> logits (N, 10), cache."""
        features, caches = self.features(x)
        logits, output = self.output.forward(features)
        return logits, Cache(*caches, output)

    def backward(self, dlogits, cache):
        """dlogits (N, 10) -> dx (N, 28, 28, 1)."""
        dh = self.output.backward(dlogits, cache.output)
        dh = self.backend.silu.backward(dh, cache.silu)
        dh = self.hidden.backward(dh, cache.hidden)
        dh = dh.reshape(len(dlogits), LOWEST, LOWEST, WIDTHS[-1])
        for (conv, norm), (conv_cache, norm_cache) in zip(reversed(self.blocks), reversed(cache.blocks)):
            dh, _, _ = norm.backward(dh, norm_cache)
            dh, _ = conv.backward(dh, conv_cache)
        return dh


@functools.cache
def load(backend_name="auto"):
    """The trained classifier on the backend of that name. Raises as ``trained``."""
    return trained(backends.get(backend_name))


def trained(backend):
    """A trained classifier of one's own. Raises ``ValueError`` if its weights are missing or damaged."""
    model = Classifier(backend)
    try:
        named = safetensors.numpy.load(_weights())
        model.parameters.load(model.parameters.values, named)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"the classifier's weights cannot be read: {error}") from None
    return model


def feature_net(backend_name="auto"):
    """The classifier as a ``FeatureNet``."""
    model = load(backend_name)
    fingerprint = hashlib.sha256(_weights()).hexdigest()[:16]

    def features(images):
        return _in_batches(model, images, lambda x: model.features(x)[0])

    return FeatureNet(NAME, fingerprint, features)


def classify(images, backend_name="auto"):
    """images (N, 28, 28, 1) uint8, or float32 in [-1, 1] -> the digit each looks like, (N,) integers."""
    model = load(backend_name)
    return _in_batches(model, images, lambda x: model.forward(x)[0]).argmax(axis=1)


def _in_batches(model, images, function):
    backend = model.backend
    batches = (backend.asarray(bytes_to_signed(images[i : i + BATCH])) for i in range(0, len(images), BATCH))
    return np.concatenate([backend.to_numpy(function(x)) for x in batches])


def _weights():
    return (resources.files(__package__) / WEIGHTS).read_bytes()


def train(dataset, backend, *, epochs=EPOCHS, seed=0, progress=True):
    """Train a ``Classifier`` on a ``Dataset`` of 28x28 digits; return it with the average of its parameters.

    Each epoch shows every image once, shifted by up to ``LARGEST_SHIFT`` pixels. AdamW, learning rate on a cosine.
    """
    model, rng = Classifier(backend), np.random.default_rng(seed)
    model.parameters.initialise(seed)
    optimizer = AdamW(model.parameters, weight_decay=WEIGHT_DECAY)
    steps_an_epoch = len(dataset) // TRAIN_BATCH
    total = epochs * steps_an_epoch
    for step in (bar := progress_bar(range(total), shown=progress)):
        if step % steps_an_epoch == 0:
            order = rng.permutation(len(dataset))
        first = step % steps_an_epoch * TRAIN_BATCH
        chosen = order[first : first + TRAIN_BATCH]
        x = backend.asarray(bytes_to_signed(_shifted(dataset.images[chosen], rng)))

        logits, cache = model.forward(x)
        loss, loss_cache = cross_entropy.forward(backend.to_numpy(logits), dataset.labels[chosen])
        dlogits, _ = cross_entropy.backward(1.0, loss_cache)
        model.backward(backend.asarray(dlogits), cache)
        optimizer.prepare(step + 1, LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * step / total)))
        optimizer.step()
        bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
    optimizer.keep_average()
    return model


def _shifted(images, rng):
    """images (N, 28, 28, 1), each shifted down and to the right by -2 .. 2 pixels; 0 comes in from outside."""
    edge = LARGEST_SHIFT
    padded = np.pad(images, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (SIZE, SIZE), axis=(1, 2))  # (N, 5, 5, 1, 28, 28)
    down, right = rng.integers(0, 2 * edge + 1, (2, len(images)))
    return np.ascontiguousarray(windows[np.arange(len(images)), down, right].transpose(0, 2, 3, 1))


def main(argv=None):
    """Train, say how good it is with its weights as they are stored, and store them."""
    parser = argparse.ArgumentParser(description="Train the classifier that the metrics use and write its weights.")
    parser.add_argument("--out", default=str(resources.files(__package__) / WEIGHTS), help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--backend", choices=backends.NAMES, default="auto")
    args = parser.parse_args(argv)
    backend = backends.get(args.backend)
    model = train(mnist.load("train"), backend, epochs=args.epochs)

    named = {
        name: array.astype(np.float16) for name, array in model.parameters.to_numpy(model.parameters.values).items()
    }
    model.parameters.load(model.parameters.values, named)
    test = mnist.load("test")
    logits = _in_batches(model, test.images, lambda x: model.forward(x)[0])
    accuracy = float((logits.argmax(axis=1) == test.labels).mean())
    description = json.dumps({"data": "mnist", "epochs": args.epochs, "seed": 0, "test accuracy": accuracy})
    write_atomically(args.out, safetensors.numpy.save(named, {"tinydiff": description}))
    print(f"wrote {args.out}: {accuracy:.2%} of {len(test):,} test images recognised")


if __name__ == "__main__":
    main()
