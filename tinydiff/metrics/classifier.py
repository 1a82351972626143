"""Classifiers trained by this engine: their features measure FID, their answers the accuracy of samples.

Two come with the package, as float16. Every convolution is 3x3, of stride 2 where the image halves, each followed by
group norm + SiLU:

    MNIST     28x28x1 -> conv 16 -> 14x14x32 -> 7x7x64 -> 4x4x64 -> linear 64 (the features) -> linear 10
              the size of a LeNet, 126,826 parameters: recognises 99.45 % of the test images
    CIFAR10   32x32x3 -> conv 32 -> 16x16x64, residual -> 8x8x128, residual -> 4x4x64 -> linear 128 (the features)
              -> linear 10; 669,898 parameters: recognises 85.6 % of the test images, of copies as JPEG, which it was
              trained on too. A mean over the places instead of the first linear layer learns more slowly: after one
              epoch at the same rate its loss is 1.47, not 1.31

To make the weights again (with the same bits on the same backend and instruction set):

    python -m tinydiff.metrics.classifier                       about six minutes on two CPU cores
    python -m tinydiff.metrics.classifier --data cifar10 --precision bf16    about twenty minutes

Images whose height and width are a multiple of those a classifier takes are brought to its size, each pixel the mean of
those that it stands for.

Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998 (the first: its size, and shifted
images); He et al., "Deep residual learning for image recognition", 2016 (the second: its blocks, and flipped images).
"""

from __future__ import annotations

import argparse
import functools
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinydiff import backends, data
from tinydiff.data import cifar10
from tinydiff.data.dataset import bytes_to_signed
from tinydiff.metrics import judge
from tinydiff.metrics.fid import FeatureNet
from tinydiff.model.layers import Conv2d, GroupNorm, Linear, as_activation
from tinydiff.model.parameters import Parameters

BATCH = 250  # images at a time where no gradient is asked for


class Config(NamedTuple):
    """What a ``Classifier`` looks at, and how large it is."""

    size: int  # height and width of the images
    image_channels: int
    widths: tuple[int, ...]  # of the blocks; all but the first halve the image
    residual: tuple[int, ...] = ()  # which of the blocks, 0 .., add two more convolutions to what they made
    features: int = 64
    classes: int = 10

    @property
    def shape(self):
        """Of one image."""
        return self.size, self.size, self.image_channels

    @property
    def lowest(self):
        """Height and width after the last block."""
        return -(-self.size // 2 ** (len(self.widths) - 1))


class Recipe(NamedTuple):
    """How weights are trained."""

    epochs: int
    batch: int
    learning_rate: float  # the highest, of a cosine
    weight_decay: float
    largest_shift: int  # in pixels
    flips: bool  # whether half of the images are shown mirrored


class Kind(NamedTuple):
    """A classifier that comes with the package."""

    title: str  # the data that it was trained on
    weights: str  # the file
    config: Config
    recipe: Recipe


MNIST = Kind(
    "MNIST",
    "classifier.safetensors",
    Config(size=28, image_channels=1, widths=(16, 32, 64, 64)),
    Recipe(epochs=8, batch=100, learning_rate=2e-3, weight_decay=0.05, largest_shift=2, flips=False),
)
CIFAR10 = Kind(
    "CIFAR-10",
    "classifier_cifar10.safetensors",
    Config(size=32, image_channels=3, widths=(32, 64, 128, 64), residual=(1, 2), features=128),
    Recipe(epochs=20, batch=100, learning_rate=1e-3, weight_decay=0.05, largest_shift=4, flips=True),
)


def of_shape(shape):
    """The ``Kind`` that takes images of this (H, W, C), if need be brought to its size: 28x28x1, or colour images of 32x32
    or a multiple; else None."""
    if shape == MNIST.config.shape:
        return MNIST
    if len(shape) != 3 or shape[0] != shape[1] or shape[0] % CIFAR10.config.size or shape[2] != 3:
        return None
    return CIFAR10


def of_images(dataset):
    """The ``Kind`` whose features suit the images of a ``Dataset``: digits, or colour images; else None."""
    kind = of_shape(dataset.images.shape[1:])
    return None if (kind is MNIST) != dataset.digits else kind


def of_classes(dataset):
    """The ``Kind`` that knows the classes of a ``Dataset``: digits, or by their names those of CIFAR-10; else None."""
    if (kind := of_images(dataset)) is CIFAR10 and dataset.class_names != cifar10.CLASSES:
        return None
    return kind


class BlockCache(NamedTuple):
    first: tuple  # the caches of a convolution and its norm
    second: tuple | None  # of the residual's, where there is one
    third: tuple | None


class Block:
    """x (N,H,W,C) -> h = silu(norm(conv(x))), (N,H',W',O); with ``residual`` it is followed by
    silu(norm2(h + conv2(silu(norm1(conv1(h)))))): the sum rides on conv2."""

    def __init__(self, parameters, name, C, O, *, stride, residual):
        unit = lambda number, C, stride: (
            Conv2d(parameters, f"{name}.conv{number}", C, O, 3, stride=stride, padding=1),
            GroupNorm(parameters, f"{name}.norm{number}", O, 8, 1e-5, silu=True),
        )
        self.first = unit("", C, stride)
        self.second, self.third = (unit(1, O, 1), unit(2, O, 1)) if residual else (None, None)

    def forward(self, x):
        """x (N,H,W,C) -> y (N,H',W',O), cache."""
        h, first = _forward(self.first, x)
        if not self.second:
            return h, BlockCache(first, None, None)
        residual, second = _forward(self.second, h)
        y, third = _forward(self.third, residual, add=h)
        return y, BlockCache(first, second, third)

    def backward(self, dy, cache):
        """dy (N,H',W',O) -> dx (N,H,W,C)."""
        dh = dy
        if self.second:
            dresidual, through_sum = _backward(self.third, dy, cache.third)
            through_residual, _ = _backward(self.second, dresidual, cache.second)
            dh = through_residual + through_sum
        dx, _ = _backward(self.first, dh, cache.first)
        return dx


def _forward(unit, x, add=None):
    conv, norm = unit
    h, conv_cache = conv.forward(x, add)
    h, norm_cache = norm.forward(h)
    return h, (conv_cache, norm_cache)


def _backward(unit, dy, caches):
    """dx, and dadd or None."""
    (conv, norm), (conv_cache, norm_cache) = unit, caches
    dh, _, _ = norm.backward(dy, norm_cache)
    return conv.backward(dh, conv_cache)


class Cache(NamedTuple):
    blocks: list
    hidden: Any
    silu: Any
    output: Any


class Classifier:
    """x (N, size, size, image_channels) in [-1, 1] -> logits (N, classes)."""

    def __init__(self, config, backend, dtype=np.float32, *, frozen=False):
        self.config, self.backend = config, backend
        self.parameters = parameters = Parameters(backend, dtype)
        self.blocks = []
        for i, (C, O) in enumerate(zip((config.image_channels, *config.widths), config.widths)):
            block = Block(parameters, f"blocks.{i}", C, O, stride=2 if i else 1, residual=i in config.residual)
            self.blocks.append(block)
        self.hidden = Linear(parameters, "hidden", config.lowest**2 * config.widths[-1], config.features)
        self.output = Linear(parameters, "output", config.features, config.classes)
        parameters.allocate(frozen=frozen)

    def maps(self, x):
        """x (N, size, size, image_channels) -> what each block makes of it, [(N, h, w, width)], and their caches. Raises
        ``ValueError`` for images of another shape."""
        if x.shape[1:] != self.config.shape:
            shape, given = ("x".join(map(str, each)) for each in (self.config.shape, x.shape[1:]))
            raise ValueError(f"the classifier takes images of {shape}, got {given}")
        h, maps, caches = as_activation(x, self.backend), [], []
        for block in self.blocks:
            h, cache = block.forward(h)
            maps.append(h)
            caches.append(cache)
        return maps, caches

    def maps_backward(self, dmaps, caches):
        """The gradient of each block's map, or None where there is none but through those that follow -> dx."""
        dh = None
        for block, cache, dmap in zip(reversed(self.blocks), reversed(caches), reversed(dmaps), strict=True):
            dh = dmap if dh is None else dh if dmap is None else dh + dmap
            dh = block.backward(dh, cache)
        return dh

    def features(self, x):
        """x (N, size, size, image_channels) -> features (N, features), caches. Raises as ``maps``."""
        maps, blocks = self.maps(x)
        h, hidden = self.hidden.forward(maps[-1].reshape(len(x), -1))
        features, silu = self.backend.silu.forward(h)
        return features, (blocks, hidden, silu)

    def forward(self, x):
        """x (N, size, size, image_channels) -> logits (N, classes), cache."""
        features, caches = self.features(x)
        logits, output = self.output.forward(features)
        return logits, Cache(*caches, output)

    def backward(self, dlogits, cache):
        """dlogits (N, classes) -> dx (N, size, size, image_channels)."""
        dh = self.output.backward(as_activation(dlogits, self.backend), cache.output)
        dh = self.backend.silu.backward(dh, cache.silu)
        dh = self.hidden.backward(dh, cache.hidden)
        dh = dh.reshape(len(dlogits), self.config.lowest, self.config.lowest, self.config.widths[-1])
        return self.maps_backward([*[None] * (len(self.blocks) - 1), dh], cache.blocks)


@functools.cache
def load(backend_name="auto", kind=MNIST):
    """The trained classifier on the backend of that name. Raises as ``trained``."""
    return trained(backends.get(backend_name), kind)


def trained(backend, kind=MNIST, dtype=np.float32, *, frozen=False):
    """A trained classifier of one's own. Raises ``ValueError`` if its weights are missing or damaged."""
    model = Classifier(kind.config, backend, dtype, frozen=frozen)
    judge.load_weights(model, kind.weights)
    return model


def feature_net(backend_name="auto", kind=MNIST, size=None):
    """The classifier as a ``FeatureNet``, which says so where images of another ``size`` are brought to its own."""
    model = load(backend_name, kind)
    fingerprint = hashlib.sha256(judge.path_of(kind.weights).read_bytes()).hexdigest()[:16]

    def features(images):
        return _in_batches(model, images, lambda x: model.features(x)[0])

    own, name = kind.config.size, f"tinydiff's {kind.title} classifier, {kind.config.features} features"
    if size not in (None, own):
        name += f", of images brought from {size}x{size} to {own}x{own}"
    return FeatureNet(name, fingerprint, features)


def classify(images, backend_name="auto", kind=MNIST):
    """images (N, H, W, C) uint8, or float32 in [-1, 1] -> the class that each looks like, (N,) integers."""
    return _answers(load(backend_name, kind), images)


def _answers(model, images):
    return _in_batches(model, images, lambda x: model.forward(x)[0]).argmax(axis=1)


def _in_batches(model, images, function):
    backend = model.backend
    batches = (images[first : first + BATCH] for first in range(0, len(images), BATCH))
    batches = (backend.asarray(_reduced(bytes_to_signed(batch), model.config.size)) for batch in batches)
    return np.concatenate([backend.to_numpy(function(x)) for x in batches])


def _reduced(images, size):
    """images (N, k size, k size, C) -> (N, size, size, C), each pixel the mean of k x k; others as they are."""
    N, H, W, C = images.shape
    if H != W or H == size or H % size:
        return images
    return images.reshape(N, size, H // size, size, W // size, C).mean(axis=(2, 4))


def train(dataset, backend, kind=MNIST, *, epochs=None, seed=0, progress=True, each_epoch=lambda epoch, average: None):
    """Train a ``Classifier`` on a ``Dataset`` of its kind of images; return it with the average of its parameters.

    epochs      at least 1; by default the kind's
    each_epoch  called after each, 1 .., with the average so far, {name: array}

    Each epoch shows every image once, shifted and maybe mirrored as ``kind.recipe`` says. AdamW, learning rate on a
    cosine. Raises ``ValueError`` for fewer epochs than one, or images than a batch.
    """
    recipe = kind.recipe
    epochs = recipe.epochs if epochs is None else epochs
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if (steps_an_epoch := len(dataset) // recipe.batch) == 0:
        raise ValueError(f"training takes at least {recipe.batch} images, got {len(dataset)}")
    model, rng = Classifier(kind.config, backend), np.random.default_rng(seed)
    model.parameters.initialise(seed)
    order = None

    def batch(step):
        nonlocal order
        if step % steps_an_epoch == 0:
            order = rng.permutation(len(dataset))
        first = step % steps_an_epoch * recipe.batch
        chosen = order[first : first + recipe.batch]
        x = bytes_to_signed(_varied(dataset.images[chosen], recipe, rng))
        return x, functools.partial(judge.surprise, labels=dataset.labels[chosen])

    rates = dict(learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay)
    judge.train(model, batch, epochs, steps_an_epoch, **rates, progress=progress, each_epoch=each_epoch)
    return model


def _varied(images, recipe, rng):
    """images (N, H, W, C), each shifted down and to the right by at most ``recipe.largest_shift`` pixels, 0 coming in
    from outside; with ``recipe.flips`` half of them mirrored."""
    edge = recipe.largest_shift
    padded = np.pad(images, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, images.shape[1:3], axis=(1, 2))  # (N, 5, 5, C, H, W)
    down, right = rng.integers(0, 2 * edge + 1, (2, len(images)))
    shifted = windows[np.arange(len(images)), down, right].transpose(0, 2, 3, 1)
    if recipe.flips:
        mirrored = rng.random(len(images)) < 0.5
        shifted[mirrored] = shifted[mirrored, :, ::-1]
    return np.ascontiguousarray(shifted)


def main(argv=None):
    """Train, say after each epoch how good it is with its weights as they are stored, and store them."""
    parser = argparse.ArgumentParser(description="Train a classifier that the metrics use and write its weights.")
    parser.add_argument("--data", choices=("mnist", "cifar10", "folder"), default="mnist", help="default: %(default)s")
    parser.add_argument("--data-dir", metavar="DIR", help="where its files are; with --data folder CIFAR-10's images")
    parser.add_argument("--test-dir", metavar="DIR", help="with --data folder: the images to test on")
    parser.add_argument("--out", metavar="FILE", help="default: where the package keeps the weights")
    parser.add_argument("--epochs", type=int, help="default: as the weights of the package were trained")
    parser.add_argument("--backend", choices=backends.NAMES, default="auto")
    parser.add_argument("--precision", choices=("auto", *backends.PRECISIONS), default="fp32")
    args = parser.parse_args(argv)
    backend = backends.get(args.backend, args.precision)
    kind = MNIST if args.data == "mnist" else CIFAR10
    train_set = data.load(args.data, data_dir=args.data_dir)
    test_set = data.load_test(args.data, data_dir=args.data_dir, test_dir=args.test_dir)
    for option, dataset in (("data", train_set), ("test_dir", test_set)):
        if dataset is None or of_classes(dataset) is not kind or dataset.images.shape[1:] != kind.config.shape:
            raise ValueError(f"{option}: the classifier of {kind.title} is trained on its images and classes alone")

    out = Path(args.out or str(judge.path_of(kind.weights)))
    model = Classifier(kind.config, backends.get(args.backend))
    about = {"data": "mnist" if kind is MNIST else "cifar10", "seed": 0, "precision": backend.precision}
    measured = lambda: {"test accuracy": float((_answers(model, test_set.images) == test_set.labels).mean())}
    with judge.stored(out, model, about, measured) as each_epoch:
        train(train_set, backend, kind, epochs=args.epochs, each_epoch=each_epoch)


if __name__ == "__main__":
    main()
