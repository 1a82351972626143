"""Scenes in words: what one shows of things, colours, sizes, places and ground, said in many ways.

    a red 7 above a small blue circle
    a picture of an eight in orange and a large cyan 3 on a dark ground
    there is a big green square to the left of a pink 1, and a white triangle

A caption is a function of (seed, index), as the scene is. What it claims, which may be less than there is to see, is
known beside it: ``SAID``. Some pairs of a thing and a colour are kept out of every training set (``UNSEEN``), so that a
model can be asked for what it never saw.
"""

from __future__ import annotations

import numpy as np

from tinydiff.data import scenes
from tinydiff.data.dataset import Captioned
from tinydiff.ops import philox

NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHAPE_WORDS = {"circle": ("circle", "disc"), "square": ("square", "box"), "triangle": ("triangle",)}
SIZE_WORDS = {False: ("small", "little"), True: ("large", "big")}
RELATIONS = ("above", "below", "left of", "right of")
RELATION_WORDS = {
    "above": ("above", "over"),
    "below": ("below", "under"),
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
}
BEGINNINGS = ("", "", "", "a picture of ", "an image of ", "there is ")
GROUND_WORDS = ("ground", "background")
AT_ONCE = 500  # scenes planned at a time
CLEAR = 0.12  # of the image's side, by which middles differ that a relation is said of
UNSEEN = np.array(  # (kinds, colours): of every colour one thing
    [
        [(3 * kind + 5 * colour) % len(scenes.KINDS) == 0 for colour in range(len(scenes.COLOURS))]
        for kind in range(len(scenes.KINDS))
    ]
)
SAID = np.dtype(
    [
        ("count", np.uint8),  # things that are named: all that there are
        ("kind", np.int8, scenes.MOST),  # in the order in which they are named, the rest is -1
        ("colour", np.int8, scenes.MOST),
        ("size", np.int8, scenes.MOST),  # 0 small, 1 large, -1 where nothing is said of it
        ("relation", np.int8),  # the place in ``RELATIONS`` of what the first is to the second, or -1
    ]
)


def load(count=scenes.COUNT, *, size=None, seed=0, first=0, unseen=False, cache=True, say=print):
    """Scenes of digits and shapes with captions -> a ``Captioned``, what they show (count,) of ``scenes.TRUTH``, what the
    captions say (count,) of ``SAID``.

    Of the endless sequence, from ``first`` on, those are taken that have no pair of ``UNSEEN``; with ``unseen`` those that
    have one. The others, and what is raised, as for ``scenes.load``.
    """
    size = scenes.SIZES[0] if size is None else size
    index, truth = _chosen(count, size, seed, first, unseen)
    images = scenes.images_at(
        index, size, seed, True, [count, first, "unseen" if unseen else "seen"], cache=cache, say=say
    )
    texts, said = of_scenes(truth, index, size, seed)
    return Captioned.of("scenes", images, texts), truth, said


def _chosen(count, size, seed, first, unseen):
    """The indices of ``load``, and the truth of each."""
    taken, indices, at = [], [], first
    while sum(map(len, indices)) < count:
        index = np.arange(at, at + AT_ONCE)
        truth = scenes.truth_at(index, size, seed, True)
        there = truth["kind"] >= 0
        has_unseen = (UNSEEN[truth["kind"], truth["colour"]] & there).any(axis=1)
        wanted = has_unseen == unseen
        taken.append(truth[wanted])
        indices.append(index[wanted])
        at += AT_ONCE
    return np.concatenate(indices)[:count], np.concatenate(taken)[:count]


def of_scenes(truth, index, size, seed=0):
    """Captions of scenes (n,) of ``scenes.TRUTH`` in images of that size, at indices (n,) -> n texts, (n,) of ``SAID``."""
    uniform = philox.forward(seed, "data", index, 5, (32,), kind="uniform", dtype=np.float64)
    texts, said = [], np.zeros(len(truth), SAID)
    for row, known, numbers in zip(said, truth, uniform):
        texts.append(_caption(known, size, iter(numbers), row))
    return texts, said


def _caption(known, size, numbers, said):
    """One of them; ``numbers`` are as many as are asked for, in (0, 1), and ``said`` is filled in."""
    pick = lambda choices: choices[int(next(numbers) * len(choices))]
    said["kind"] = said["colour"] = said["size"] = said["relation"] = -1
    said["count"] = count = int(known["count"])
    order = list(range(count))
    for i in range(count - 1, 0, -1):
        j = int(next(numbers) * (i + 1))
        order[i], order[j] = order[j], order[i]
    things = []
    for place, i in enumerate(order):
        said["kind"][place], said["colour"][place] = known["kind"][i], known["colour"][i]
        if next(numbers) < 0.4:
            said["size"][place] = known["large"][i]
        things.append(_thing(*(int(said[name][place]) for name in ("kind", "colour", "size")), pick, next(numbers)))

    text = things[0]
    if count > 1:
        relation = _relation(known["box"][order[0]], known["box"][order[1]], size)
        if relation is not None and next(numbers) < 0.75:
            said["relation"] = RELATIONS.index(relation)
            text = f"{things[0]} {pick(RELATION_WORDS[relation])} {things[1]}"
            text += f", and {things[2]}" if count > 2 else ""
        else:
            text = f"{', '.join(things[:-1])} and {things[-1]}"
    if next(numbers) < 0.2:
        ground = list(scenes.GROUNDS)[known["ground"]]
        text += f" on {_article(ground)} {ground} {pick(GROUND_WORDS)}"
    return pick(BEGINNINGS) + text


def _thing(kind, colour, size, pick, number):
    """A thing with its article: "a small red 7", "a seven in red"."""
    name = scenes.KINDS[kind]
    noun = pick(SHAPE_WORDS[name]) if name in SHAPE_WORDS else pick((name, name, NUMBER_WORDS[kind], f"digit {name}"))
    colour = list(scenes.COLOURS)[colour]
    words = [pick(SIZE_WORDS[bool(size)])] if size >= 0 else []
    words += [noun, f"in {colour}"] if number < 0.2 else [colour, noun]
    return f"{_article(words[0])} {' '.join(words)}"


def _article(word):
    return "an" if word[0] in "aeio8" else "a"  # not of u: there is none; an 8 is an eight


def _relation(first, second, size):
    """What of ``RELATIONS`` a box (left, top, right, bottom) is to another, by the axis along which their middles differ
    more; None where that is not clear."""
    right, down = ((first + np.roll(first, 2) - second - np.roll(second, 2))[:2] / 2).tolist()
    if max(abs(right), abs(down)) < CLEAR * size:
        return None
    if abs(down) > abs(right):
        return "above" if down < 0 else "below"
    return "left of" if right < 0 else "right of"
