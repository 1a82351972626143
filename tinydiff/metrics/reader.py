"""A reader of scenes: which digits and shapes an image shows, in which colours, and where. It judges what is drawn in the manner of
``tinydiff.data.scenes``, and was trained by this engine on scenes that a program drew.

    64x64x3 -> conv 32, stride 2 -> 32x32x32 -> conv 64, stride 2, residual -> 16x16x64 -> conv 96, residual
            -> 16x16x96 -> linear 22: of each of 16x16 places what is there, or nothing, and its colour

Each convolution is 3x3 and followed by group norm + SiLU. A place, 4x4 pixels, is taught the thing whose box has its
middle within ``RADIUS`` pixels, the nearest of several, else none: a blot of about ten places stands for a thing. What
is read is found greedily, the place whose surroundings say "a thing" most clearly first; nothing more is looked for near
it. Images of 32x32 are read with each pixel doubled along both axes.

Of 2,000 held-out scenes it reads 99.2 % of 32x32 and 99.5 % of 64x64 just as they are, things and colours, with noise of
a deviation of 0.2 on top as many; in noise alone it reads nothing. 317,878 parameters.

To make the weights again (with the same bits on the same backend and instruction set; some fifteen minutes on two CPU cores):

    python -m tinydiff.metrics.reader

Source: Zhou et al., "Objects as points", 2019 (objects as their centres in a coarse image, without boxes to choose from).
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinydiff import backends
from tinydiff.data import scenes
from tinydiff.data.dataset import bytes_to_signed
from tinydiff.metrics import judge
from tinydiff.metrics.classifier import Block
from tinydiff.model.layers import Conv2d, as_activation
from tinydiff.model.parameters import Parameters

WEIGHTS = "reader.safetensors"
SIZE = 64  # height and width of the images
SHAPES = [(size, size, 3) for size in scenes.SIZES]  # of those that it reads
PLACES = SIZE // 4  # along each axis
RADIUS = 7.0  # pixels around the middle of a thing's box that are taught it
CORE = 5.0  # pixels around its middle whose places say what it is, and of which colour
APART = 9.0  # pixels that what is read keeps from what was read before
PRESENT = 0.45  # how probable a thing must be, in the mean of a place and the eight around it
CLEAR = 0.9  # how probable a kind must be that counts as clear
WIDTHS = (32, 64, 96)
KINDS = len(scenes.KINDS)
MOST = 6  # things that are read in an image, twice as many as a scene has
BATCH = 100  # images at a time
COUNT, EPOCHS = 30_000, 5  # scenes of each size that it is taught, and how often
COLOUR_WEIGHT = 0.1  # of their part of the loss, which is a mean over fewer places
HELD_OUT = 1000  # scenes of each size that its training is judged by
READING = np.dtype(
    [
        ("count", np.uint8),  # as many are used of what follows, the rest is -1 or 0
        ("kind", np.int8, MOST),
        ("colour", np.int8, MOST),  # its place in ``scenes.COLOURS``
        ("middle", np.float32, (MOST, 2)),  # of its box, x and y in pixels of the image
        ("certainty", np.float32, MOST),  # the probability of the kind, given that there is something
    ]
)


class Cache(NamedTuple):
    blocks: list
    head: Any


class Reader:
    """x (N, 64, 64, 3) in [-1, 1] -> logits (N, 16, 16, 14 + 8): nothing, the kinds and the colours of ``scenes``."""

    def __init__(self, backend, widths=None, dtype=np.float32):
        self.backend = backend
        self.parameters = parameters = Parameters(backend, dtype)
        first, second, third = widths or WIDTHS
        self.blocks = [
            Block(parameters, "blocks.0", 3, first, stride=2, residual=False),
            Block(parameters, "blocks.1", first, second, stride=2, residual=True),
            Block(parameters, "blocks.2", second, third, stride=1, residual=True),
        ]
        self.head = Conv2d(parameters, "head", third, 1 + KINDS + len(scenes.COLOURS), 1)
        parameters.allocate()

    def forward(self, x):
        """x (N, 64, 64, 3) -> logits (N, 16, 16, 22), cache."""
        h, blocks = as_activation(x, self.backend), []
        for block in self.blocks:
            h, cache = block.forward(h)
            blocks.append(cache)
        logits, head = self.head.forward(h)
        return logits, Cache(blocks, head)

    def backward(self, dlogits, cache):
        """dlogits (N, 16, 16, 22) -> dx (N, 64, 64, 3)."""
        dh, _ = self.head.backward(as_activation(dlogits, self.backend), cache.head)
        for block, block_cache in zip(reversed(self.blocks), reversed(cache.blocks)):
            dh = block.backward(dh, block_cache)
        return dh


@functools.cache
def load(backend_name="auto"):
    """The trained reader on the backend of that name. Raises ``ValueError`` if its weights are missing or damaged."""
    model = Reader(backends.get(backend_name))
    judge.load_weights(model, WEIGHTS)
    return model


def read(images, backend_name="auto"):
    """images (N, 32, 32, 3) or (N, 64, 64, 3), uint8 or float32 in [-1, 1] -> what they show, (N,) of ``READING``.

    Raises ``ValueError`` for images of another shape.
    """
    if images.shape[1:] not in SHAPES:
        shapes = " or ".join("x".join(map(str, shape)) for shape in SHAPES)
        raise ValueError(f"the reader of scenes takes images of {shapes}, got {'x'.join(map(str, images.shape[1:]))}")
    return _read_by(load(backend_name), images)


def suits(dataset):
    """Whether a ``Dataset`` is of scenes."""
    return dataset.class_names == scenes.COUNTS and dataset.images.shape[1:] in SHAPES


def classify(images, backend_name="auto"):
    """As ``read``, but the class alone: (N,) integers, 0 for one thing. Where no scene has as few or as many, no class."""
    return read(images, backend_name)["count"].astype(int) - 1


def clear(readings):
    """How many clear things each has, of readings (N,)."""
    return (readings["certainty"] >= CLEAR).sum(axis=1)


def _read_by(model, images):
    found = np.empty(len(images), READING)
    for first in range(0, len(images), BATCH):
        some = slice(first, first + BATCH)
        x = model.backend.asarray(_enlarged(bytes_to_signed(images[some])))
        logits = model.backend.to_numpy(model.forward(x)[0]).astype(np.float32, copy=False)
        found[some] = _things_in(logits)
    found["middle"] *= images.shape[1] / SIZE
    return found


def _enlarged(images):
    """images (N, 64 / k, 64 / k, C) -> (N, 64, 64, C), each pixel k times along both axes."""
    k = SIZE // images.shape[1]
    return images if k == 1 else images.repeat(k, axis=1).repeat(k, axis=2)


def _middles():
    """Of the places, (16, 16, 2): x and y in pixels."""
    along = (np.arange(PLACES, dtype=np.float32) + 0.5) * SIZE / PLACES
    return np.stack(np.meshgrid(along, along), axis=2)


def _probabilities(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _things_in(logits):
    """logits (N, 16, 16, 22) -> (N,) of ``READING``, in pixels of 64x64."""
    N = len(logits)
    kinds, colours = _probabilities(logits[..., : 1 + KINDS]), _probabilities(logits[..., 1 + KINDS :])
    present = 1 - kinds[..., 0]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(present, ((0, 0), (1, 1), (1, 1))), (3, 3), axis=(1, 2))
    clearness, places, every = windows.mean(axis=(3, 4)), _middles(), np.arange(N)
    within = lambda middle, radius: np.linalg.norm(places - middle[:, None, None], axis=3) <= radius

    def weight_of(middle, radius):
        weight = present * within(middle, radius)
        return weight / weight.sum(axis=(1, 2), keepdims=True)

    found = np.zeros(N, READING)
    found["kind"] = found["colour"] = -1
    for i in range(MOST):
        clearest = clearness.reshape(N, -1).argmax(axis=1)
        is_there = clearness.reshape(N, -1)[every, clearest] >= PRESENT
        middle = places.reshape(-1, 2)[clearest]
        for _ in range(2):  # to where it is centred
            middle = np.einsum("nhw,hwk->nk", weight_of(middle, APART), places)
        weight = weight_of(middle, CORE)
        kind, colour = (np.einsum("nhw,nhwk->nk", weight, each) for each in (kinds[..., 1:], colours))
        certainty = kind.max(axis=1) / kind.sum(axis=1)
        read = dict(kind=kind.argmax(axis=1), colour=colour.argmax(axis=1), middle=middle, certainty=certainty)
        for name, values in read.items():
            found[name][is_there, i] = values[is_there]
        found["count"] += is_there
        clearness[within(middle, APART) | ~is_there[:, None, None]] = 0
    return found


def _taught(truth, size):
    """Of scenes (N,) of ``scenes.TRUTH`` in images of that size what each place is taught, (N, 16, 16) integers twice:
    0 for nothing or 1 + the kind; the colour, where there is something."""
    box = truth["box"] * (SIZE / size)
    middle = (box[..., :2] + box[..., 2:]) / 2  # (N, 3, 2)
    distance = np.linalg.norm(_middles()[:, :, None] - middle[:, None, None], axis=4)  # (N, 16, 16, 3)
    distance[np.broadcast_to((truth["kind"] < 0)[:, None, None], distance.shape)] = np.inf
    nearest = distance.argmin(axis=3)
    of_nearest = lambda values: np.take_along_axis(values[:, None, None], nearest[..., None], axis=3)[..., 0]
    is_thing = distance.min(axis=3) <= RADIUS
    return np.where(is_thing, 1 + of_nearest(truth["kind"]), 0), of_nearest(truth["colour"])


def _loss(logits, kinds, colours):
    """logits (N, 16, 16, 22) and what each place is taught -> loss (), dlogits: the cross-entropy of the kinds over all
    places and of the colours over those with something."""
    there, dlogits = kinds > 0, np.zeros_like(logits)
    kind_loss, dkinds = judge.surprise(logits[..., : 1 + KINDS].reshape(-1, 1 + KINDS), kinds.reshape(-1))
    dlogits[..., : 1 + KINDS] = dkinds.reshape(*kinds.shape, 1 + KINDS)
    colour_loss, dlogits[there, 1 + KINDS :] = judge.surprise(logits[there, 1 + KINDS :], colours[there], COLOUR_WEIGHT)
    return kind_loss + colour_loss, dlogits


def _spoil(x, kinds, rng):
    """Of images (N, 64, 64, 3), in place, make a tenth a jumble of their patches and a twentieth noise, in which no place
    has anything; a fifth get noise on top, and what they show stays what it is."""
    share = rng.random(len(x))
    jumbled, noise, noisy = share < 0.1, (share >= 0.1) & (share < 0.15), share > 0.8
    for n in np.flatnonzero(jumbled):
        patches = x[n].reshape(8, SIZE // 8, 8, SIZE // 8, 3).swapaxes(1, 2).reshape(64, SIZE // 8, SIZE // 8, 3)
        patches = rng.permutation(patches).reshape(8, 8, SIZE // 8, SIZE // 8, 3)
        x[n] = patches.swapaxes(1, 2).reshape(x[n].shape)
    x[noise] = rng.uniform(-1, 1, x[noise].shape)
    deviation = rng.uniform(0, 0.3, (noisy.sum(), 1, 1, 1))
    x[noisy] = (x[noisy] + deviation * rng.standard_normal(x[noisy].shape)).clip(-1, 1)
    kinds[jumbled | noise] = 0


class Agreement(NamedTuple):
    """Of scenes, how many are read as they are."""

    count: float  # as many things
    kinds: float  # those things
    colours: float  # those things in those colours


def agreement(found, truth):
    """Readings (N,) and what the scenes show, (N,) of ``scenes.TRUTH``, or are said to, (N,) of ``captions.SAID`` -> an
    ``Agreement``."""
    return Agreement(*(float(each.mean()) for each in _same_things(found, truth)))


def _same_things(found, known):
    """Of each, whether there are as many things, those things, and those in those colours."""
    unused = np.full((len(known), MOST - scenes.MOST), -1)
    padded = lambda values: np.concatenate([values, unused], axis=1)
    same = lambda one, other: (np.sort(one, axis=1) == np.sort(other, axis=1)).all(axis=1)
    kind, colour = (padded(known[name]) for name in ("kind", "colour"))
    is_same_kind = same(found["kind"], kind)
    return (
        found["count"] == known["count"],
        is_same_kind,
        same(_pairs(found["kind"], found["colour"]), _pairs(kind, colour)),
    )


def _pairs(kind, colour):
    """Things of a colour as one number each, -1 where there is nothing."""
    return np.where(kind < 0, -1, kind.astype(int) * len(scenes.COLOURS) + colour)


class Fulfilment(NamedTuple):
    """Of images, how many are as their captions say."""

    kinds: float  # just the things that it names
    colours: float  # those things in those colours
    places: float | None  # of those whose caption tells where the first is of the second, and whose both are there in
    # their colours: so placed, which half are by chance; None where there are no such
    all: float  # all of what it says of them

    @classmethod
    def of(cls, found, said):
        """Readings (N,) and what the captions say, (N,) of ``captions.SAID``."""
        _, kinds, colours = _same_things(found, said)
        pairs, named = _pairs(found["kind"], found["colour"]), _pairs(said["kind"], said["colour"])
        first, second = ((pairs == named[:, i, None]).argmax(axis=1) for i in (0, 1))
        are_there = (pairs == named[:, 0, None]).any(axis=1) & (pairs == named[:, 1, None]).any(axis=1)
        every = np.arange(len(found))
        right, down = (found["middle"][every, first] - found["middle"][every, second]).T
        holds = np.stack([down < 0, down > 0, right < 0, right > 0], axis=1)[every, said["relation"]]
        tells = said["relation"] >= 0
        placed = holds[tells & are_there]
        fulfilled = colours & (~tells | holds)
        return cls(
            float(kinds.mean()),
            float(colours.mean()),
            float(placed.mean()) if placed.size else None,
            float(fulfilled.mean()),
        )


def train(backend, count=COUNT, *, epochs=EPOCHS, seed=0, progress=True, each_epoch=lambda epoch, average: None):
    """Train a ``Reader`` on ``count`` drawn scenes of each size; return it with the average of its parameters.

    epochs      at least 1
    each_epoch  called after each, 1 .., with the average so far, {name: array}

    Each epoch shows every scene once, the sizes by turns, some of them spoilt. Raises ``ValueError`` for fewer epochs or scenes than one batch.
    """
    if epochs < 1 or count < BATCH:
        raise ValueError(f"the reader learns from at least 1 epoch of {BATCH} scenes, got {epochs} of {count}")
    model, rng = Reader(backend), np.random.default_rng(seed)
    model.parameters.initialise(seed)
    sets = []
    for i, size in enumerate(scenes.SIZES):
        which = dict(count=count, size=size, first=i * count, shapes=True)
        sets.append((scenes.load(**which).images, scenes.truth(**which)))
    steps_an_epoch = len(sets) * (count // BATCH)
    orders = [None] * len(sets)

    def batch(step):
        turn, i = divmod(step % steps_an_epoch, len(sets))
        if turn == 0:
            orders[i] = rng.permutation(count)
        images, truth = (each[orders[i][turn * BATCH : (turn + 1) * BATCH]] for each in sets[i])
        kinds, colours = _taught(truth, scenes.SIZES[i])
        x = _enlarged(bytes_to_signed(images))
        _spoil(x, kinds, rng)
        return x, functools.partial(_loss, kinds=kinds, colours=colours)

    rates = dict(learning_rate=1e-3, weight_decay=0.05)
    judge.train(model, batch, epochs, steps_an_epoch, **rates, progress=progress, each_epoch=each_epoch)
    return model


def main(argv=None):
    """Train, say after each epoch how well it reads held-out scenes with its weights as they are stored, and store them."""
    parser = argparse.ArgumentParser(
        description="Train the reader of scenes that the metrics use and write its weights."
    )
    parser.add_argument("--out", metavar="FILE", help="default: where the package keeps the weights")
    parser.add_argument("--count", type=int, default=COUNT, help="scenes of each size (default %(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="default %(default)s")
    parser.add_argument("--backend", choices=backends.NAMES, default="auto")
    parser.add_argument("--precision", choices=("auto", *backends.PRECISIONS), default="auto")
    args = parser.parse_args(argv)
    backend = backends.get(args.backend, args.precision)
    out = Path(args.out or str(judge.path_of(WEIGHTS)))
    model = Reader(backends.get(args.backend))
    about = {"scenes of each size": args.count, "seed": 0, "precision": backend.precision}
    held_out = {}
    for size in scenes.SIZES:
        which = dict(count=HELD_OUT, size=size, first=scenes.HELD_OUT, shapes=True)
        held_out[size] = scenes.load(**which, cache=False).images, scenes.truth(**which)

    def measured():
        shares = {}
        for size, (images, truth) in held_out.items():
            shares |= {
                f"{name} of {size}x{size}": share
                for name, share in agreement(_read_by(model, images), truth)._asdict().items()
            }
        return shares

    with judge.stored(out, model, about, measured) as each_epoch:
        train(backend, args.count, epochs=args.epochs, each_epoch=each_epoch)


if __name__ == "__main__":
    main()
