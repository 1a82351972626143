"""Scenes: one to three handwritten digits of clear colours on a dark or a coloured ground. Drawn, so that colour images
of 32x32 or 64x64 need no files and no network.

A scene is a function of (seed, index), so the set is deterministic and has no end; at either size it is the same scene.
Its label is the number of its digits. What else there is to know of it, which digits, their colours, sizes and boxes,
``truth`` says, without drawing it; ``captions`` puts it into words.

digits   written as those of ``strokes``, each 0 .. 9 as likely, of two sizes, in colours that differ from one another
shapes   where they are asked for: circles, squares and triangles, filled, each as likely as a digit
places   anywhere within the image: of some the first where a digit's box meets no other, else where it does the least
ground   "dark", or of a colour that no digit of the scene has; it varies gently
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import PIL
from PIL import Image

from tinydiff.data import decoded, strokes
from tinydiff.data.dataset import Dataset
from tinydiff.ops import philox
from tinydiff.progress import progress_bar

RULES = 1  # raise it whenever pixels come out otherwise than before: what is kept is drawn again
SIZES = (32, 64)
COUNT = 20_000  # of the training set
HELD_OUT = 2**31  # index of the first scene that no training set holds
AT_ONCE = 500  # scenes in memory while they are drawn
WORTH_KEEPING = 5000  # scenes: fewer are drawn again sooner than found
COLOURS = {
    "red": (235, 55, 50),
    "orange": (255, 145, 30),
    "yellow": (250, 230, 60),
    "green": (65, 205, 75),
    "cyan": (60, 215, 225),
    "blue": (85, 130, 255),
    "pink": (245, 115, 205),
    "white": (245, 245, 245),
}
# their hues in turns
GROUNDS = {"dark": None, "red": 0.0, "yellow": 1 / 6, "green": 2 / 6, "cyan": 3 / 6, "blue": 4 / 6, "pink": 5 / 6}
COUNTS = ("one", "two", "three")  # names of the classes
MOST = len(COUNTS)  # digits of a scene
SHAPES = ("circle", "square", "triangle")
KINDS = (*map(str, range(10)), *SHAPES)
SMALL, LARGE = 0.0155, 0.0215  # a pixel of MNIST in parts of the image's side
BRIGHTEST = 130  # of a ground's channels, that every digit's colour stands out
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
TRIES = 48  # places that a digit may choose from
THINNEST = 1 / 36  # pen, in parts of the image's side: thinner lines fade at 32x32
MARGIN = 1 / 64  # of the image's side, between a digit and the edge
TRUTH = np.dtype(
    [
        ("count", np.uint8),  # 1 .. 3; of what follows as many are used, the rest is -1, False or 0
        ("kind", np.int8, MOST),  # its place in ``KINDS``
        ("colour", np.int8, MOST),  # its place in ``COLOURS``
        ("large", np.bool_, MOST),
        ("box", np.float32, (MOST, 4)),  # left, top, right, bottom of the ink, in pixels
        ("ground", np.int8),  # its place in ``GROUNDS``
    ]
)


def load(count=COUNT, *, size=None, seed=0, first=0, shapes=False, cache=True, say=print):
    """Scenes ``first`` .. ``first + count - 1`` of the endless sequence, as a ``Dataset`` (count, size, size, 3).

    Labels run 0, 1, 2, 0, ...: one digit, two, three. Some 500 scenes a second are drawn; many are kept in a file.

    size    height and width, 32 (also where it is None) or 64
    shapes  whether there are ``SHAPES`` among the digits
    cache   False: draw them into memory every time, as is done, and said, where that file cannot be written

    Raises ``ValueError`` for another size than 32 or 64, and for indices outside [0, 2^32) or none.
    """
    size = SIZES[0] if size is None else size
    index = _checked(count, size, first)
    images = images_at(index, size, seed, shapes, [count, first], cache=cache, say=say)
    return Dataset("scenes", images, (index % MOST).astype(np.int32), MOST, COUNTS)


def images_at(index, size, seed, shapes, which, *, cache=True, say=print):
    """The images (n, size, size, 3) of scenes at indices (n,), which ``which``, values that JSON can hold, tells from
    others; many are kept in a file."""
    draw = functools.partial(_draw_all, index, size, seed, shapes)
    rules = [RULES, size, seed, *which] + (["shapes"] if shapes else [])
    key = decoded.name_of([PIL.__version__, np.__version__, *rules])
    cache = cache and len(index) >= WORTH_KEEPING
    without = "scenes are drawn into memory, as what is drawn cannot be kept"
    return decoded.images_of(draw, f"scenes-{size}", key, cache=cache, without=without, say=say).images


def truth(count=COUNT, *, size=SIZES[0], seed=0, first=0, shapes=False):
    """What the same scenes show, as an array (count,) of ``TRUTH``. Raises ``ValueError`` as ``load`` does."""
    return truth_at(_checked(count, size, first), size, seed, shapes)


def truth_at(index, size, seed, shapes):
    """What scenes at indices (n,) show, (n,) of ``TRUTH``."""
    return np.concatenate([_plan(each, size, seed, shapes).truth for each in _stretches(index)])


def _checked(count, size, first):
    """The indices that are meant."""
    if size not in SIZES:
        raise ValueError(f"image_size: scenes have images of {' or '.join(f'{n}x{n}' for n in SIZES)}, got {size}")
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if not 0 <= first <= 2**32 - count:
        raise ValueError(f"first must lie in [0, 2^32 - count], got {first}")
    return np.arange(first, first + count)


def _stretches(index):
    return np.split(index, range(AT_ONCE, len(index), AT_ONCE))


def _draw_all(index, size, seed, shapes, out):
    """Write the pixels of scenes to a binary file, as ``tinydiff.data.decoded`` asks for."""
    with progress_bar(total=len(index), unit="scene", desc="scenes: ", leave=False) as bar:
        for stretch in _stretches(index):
            out.write(_images(_plan(stretch, size, seed, shapes), size).tobytes())
            bar.update(len(stretch))
    return (len(index), size, size, 3), []


class Plan(NamedTuple):
    """Scenes before they are drawn: n of them."""

    truth: np.ndarray  # (n,) of ``TRUTH``
    lines: list  # of each scene of each digit the polylines (k, 2), in pixels of the image
    pens: np.ndarray  # (n, MOST), in the same
    ground: np.ndarray  # (n, 10) numbers in (0, 1) that it is made of


def _plan(index, size, seed, shapes):
    """All that is to be known of scenes at indices (n,), before they are drawn."""
    uniform = functools.partial(philox.forward, seed, "data", index, kind="uniform", dtype=np.float64)
    written = uniform(draw=0, shape=(MOST, 6))  # four of ``strokes.written``, digit, size
    moved = philox.forward(seed, "data", index, 1, (MOST, 62), kind="normal")
    places = uniform(draw=2, shape=(MOST, TRIES, 2))
    colours = uniform(draw=3, shape=(len(COLOURS),))
    ground = uniform(draw=4, shape=(10,))

    found = np.zeros(len(index), TRUTH)
    found["count"] = index % MOST + 1
    used = np.arange(MOST) < found["count"][:, None]
    found["kind"] = np.where(used, ((len(KINDS) if shapes else 10) * written[..., 4]).astype(int), -1)
    found["large"] = used & (written[..., 5] < 0.5)
    found["ground"] = np.where(ground[:, 0] < 0.4, 0, 1 + (ground[:, 1] * (len(GROUNDS) - 1)).astype(int))
    names = list(COLOURS)
    same = np.array([names.index(name) if name in names else -1 for name in GROUNDS])[found["ground"]]
    colours[np.arange(len(names)) == same[:, None]] = 2  # comes last
    found["colour"] = np.where(used, colours.argsort(axis=1)[:, :MOST], -1)

    unit = size * np.where(found["large"], LARGE, SMALL)
    lines, pens = [[] for _ in index], np.zeros(used.shape)
    low, high = np.zeros((2, *used.shape, 2))  # corners of the ink from the digit's centre
    for n, i in np.argwhere(used):
        kind = int(found["kind"][n, i])
        drawn = strokes.written if kind < 10 else _filled
        strokes_of_it, pen = drawn(kind, written[n, i], moved[n, i])
        lines[n].append([unit[n, i] * line for line in strokes_of_it])
        pens[n, i] = max(pen * unit[n, i], THINNEST * size)
        points = np.concatenate(lines[n][-1])
        low[n, i], high[n, i] = points.min(axis=0) - pens[n, i] / 2, points.max(axis=0) + pens[n, i] / 2
    corners = _placed(high - low, places, used, size)
    found["box"] = np.where(used[..., None], np.concatenate([corners, corners + high - low], axis=2), 0)
    for n, i in np.argwhere(used):
        lines[n][i] = [line + (corners - low)[n, i] for line in lines[n][i]]
    return Plan(found, lines, pens, ground)


def _filled(kind, uniform, normal):
    """One of ``SHAPES`` as ``strokes.written`` has digits: outlines within one another, nearer than the pen is wide."""
    corners = {"circle": 48, "square": 4, "triangle": 3}[KINDS[kind]]
    turn = np.radians(6) * normal[60].clip(-2, 2) + (np.pi / 4 if corners == 4 else -np.pi / 2)
    angle = turn + 2 * np.pi * np.arange(corners + 1) / corners
    radius = (8 if corners > 4 else 9.5) + 2 * uniform[1]
    outline = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return [share * outline for share in np.arange(7) / 6], 2.4


def _placed(extent, places, used, size):
    """The upper left corner of every digit, (n, MOST, 2), from its extent (n, MOST, 2) and the ``places`` that it may
    choose from, (n, MOST, TRIES, 2) numbers in (0, 1)."""
    margin = MARGIN * size
    corners = margin + places * (size - 2 * margin - extent)[:, :, None]
    chosen = np.zeros_like(extent)
    for i in range(MOST):
        shared = np.zeros((len(places), TRIES))  # area that each place shares with the digits before
        for before in range(i):
            first = np.maximum(corners[:, i], chosen[:, before, None])
            last = np.minimum(corners[:, i] + extent[:, i, None], (chosen + extent)[:, before, None])
            shared += used[:, before, None] * (last - first).clip(0).prod(axis=2)
        chosen[:, i] = np.take_along_axis(corners[:, i], shared.argmin(axis=1)[:, None, None], axis=1)[:, 0]
    return chosen


def _images(plan, size):
    """The pixels of planned scenes, (n, size, size, 3) uint8."""
    side = size * strokes.OVERSAMPLING
    coverage = np.empty((len(plan.truth), size, size, MOST), np.float32)  # how much of a pixel each digit covers
    for n, lines in enumerate(plan.lines):
        canvas = Image.new("RGB", (side, side))  # a channel a digit: what is drawn later lies above
        for i, strokes_of_it in enumerate(lines):
            strokes.trace(canvas, strokes_of_it, plan.pens[n, i], ink=tuple(255 * (i == j) for j in range(MOST)))
        coverage[n] = canvas.reduce(strokes.OVERSAMPLING)
    coverage /= 255
    colours = np.array(list(COLOURS.values()), np.float32)[plan.truth["colour"]]  # where there is no digit, any
    images = (1 - coverage.sum(axis=3, keepdims=True)) * _ground(plan, size)
    images += np.einsum("nhwi,nic->nhwc", coverage, colours)
    return np.round(images).clip(0, 255).astype(np.uint8)


def _ground(plan, size):
    """The ground of planned scenes, (n, size, size, 3) float32 in [0, 255]: from one colour to another of nearly the
    same hue, along a direction and a little bent."""
    _, _, hue, turn, saturation, light, other, brighter, phase, bend = plan.ground.T.astype(np.float32)
    dark = plan.truth["ground"] == 0
    named = np.array([each or 0.0 for each in GROUNDS.values()], np.float32)[plan.truth["ground"]]
    hue = np.where(dark, hue, named + 0.06 * (hue - 0.5))
    saturation = np.where(dark, 0.6 * saturation, 0.6 + 0.3 * saturation)
    light = np.where(dark, 15 + 15 * light, 30 + 15 * light)
    hues, lights = (hue, hue + 0.08 * (other - 0.5)), (light, light * (0.6 + 0.8 * brighter))
    first, last = (_colour(*each)[:, None, None] for each in zip(hues, (saturation, saturation), lights))

    x = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    cos, sin = np.cos(2 * np.pi * turn)[:, None, None], np.sin(2 * np.pi * turn)[:, None, None]
    across, along = cos * x + sin * x[:, None], cos * x[:, None] - sin * x
    wave = 0.15 * bend[:, None, None] * np.cos(2 * np.pi * (along + phase[:, None, None]))
    share = (0.5 + across / 2**0.5 + wave).clip(0, 1)[..., None]
    return first + share * (last - first)


def _colour(hue, saturation, light):
    """Hue in turns, saturation in [0, 1] and luminance in [0, 255], each (n,) -> (n, 3) in [0, 255], no channel above
    ``BRIGHTEST``. (Smith, "Color gamut transform pairs", 1978.)"""
    k = (np.array([5, 3, 1], np.float32) + 6 * hue[:, None]) % 6
    colour = 1 - saturation[:, None] * np.minimum(k, 4 - k).clip(0, 1)
    return colour * np.minimum(BRIGHTEST, light / (colour @ LUMINANCE))[:, None]
