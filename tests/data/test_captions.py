import re

import numpy as np
import pytest

from tinydiff.data import captions, scenes
from tinydiff.data.dataset import Captioned

pytestmark = pytest.mark.usefixtures("own_cache")
DATA, TRUTH, SAID = captions.load(400, size=64, cache=False)
TEXTS = [DATA.class_names[label] for label in DATA.labels]
KIND = {name: i for i, name in enumerate(scenes.KINDS)}
NOUNS = {
    **KIND,
    **{word: i for i, word in enumerate(captions.NUMBER_WORDS)},
    "disc": KIND["circle"],
    "box": KIND["square"],
}


def test_deterministic():
    again, truth, said = captions.load(400, size=64, cache=False)
    assert np.array_equal(again.images, DATA.images) and again.class_names == DATA.class_names
    assert np.array_equal(truth, TRUTH) and np.array_equal(said, SAID) and again.identity == DATA.identity
    small, _, said = captions.load(400, size=32, cache=False)
    assert small.images.shape[1:] == (32, 32, 3) and np.array_equal(said["kind"], SAID["kind"])
    fewer, *_ = captions.load(30, size=64, cache=False)
    assert np.array_equal(fewer.images, DATA.images[:30])
    other, *_ = captions.load(30, size=64, seed=1, cache=False)
    assert other.class_names != fewer.class_names and other.identity != fewer.identity


def test_what_is_said_is_so():
    """Every thing is named once, in its colour and size; a relation is that of the middles."""
    for known, said in zip(TRUTH, SAID):
        count = known["count"]
        assert said["count"] == count and (said["kind"][count:] == -1).all()
        things = list(zip(known["kind"], known["colour"], known["large"]))[:count]
        named = list(zip(said["kind"], said["colour"], said["size"]))[:count]
        assert sorted(each[:2] for each in things) == sorted(each[:2] for each in named)
        for kind, colour, size in named:
            assert size == -1 or any((kind, colour, bool(size)) == each for each in things)
        if said["relation"] < 0:
            continue
        middles = []
        for pair in named[:2]:
            box = known["box"][[each[:2] for each in things].index(pair[:2])]
            middles.append((box[:2] + box[2:]) / 2)
        right, down = middles[0] - middles[1]
        assert [down < -7, down > 7, right < -7, right > 7][said["relation"]]


def test_the_words_are_what_is_said():
    """Read back by their words alone."""
    for text, said in zip(TEXTS, SAID):
        text = re.sub(r" on an? \w+ (ground|background)$", "", text)
        words = re.findall(r"[a-z]+|\d", text)
        nouns = [NOUNS[word] for word in words if word in NOUNS]
        colours = [list(scenes.COLOURS).index(word) for word in words if word in scenes.COLOURS]
        sizes = [word in captions.SIZE_WORDS[True] for word in words if word in sum(captions.SIZE_WORDS.values(), ())]
        count = said["count"]
        assert nouns == said["kind"][:count].tolist() and colours == said["colour"][:count].tolist(), text
        assert sizes == [bool(size) for size in said["size"][:count] if size >= 0], text
        relation = said["relation"]
        found = [
            name for name in captions.RELATIONS if any(f" {each} a" in text for each in captions.RELATION_WORDS[name])
        ]
        assert found == ([captions.RELATIONS[relation]] if relation >= 0 else []), text
        assert not re.search(r"\ba [aeio8]|\ban [^aeio8]", text), text


def test_there_are_many_wordings():
    assert DATA.classes > 0.95 * len(DATA)
    for words in (
        "little",
        "big",
        " in red",
        "digit 7",
        "seven",
        "disc",
        "box",
        "over",
        "under",
        "to the left of",
        "there is",
    ):
        assert any(words in text for text in TEXTS), words
    share = np.mean(SAID["relation"][SAID["count"] > 1] >= 0)
    assert 0.5 < share < 0.9 and set(SAID["relation"]) == {-1, 0, 1, 2, 3}


def test_some_pairs_are_never_seen():
    pairs = lambda truth: set(zip(*(truth[name][truth["kind"] >= 0].tolist() for name in ("kind", "colour"))))
    unseen = set(zip(*map(np.ndarray.tolist, np.nonzero(captions.UNSEEN))))
    assert len(unseen) == len(scenes.COLOURS) == len({colour for _, colour in unseen})
    assert not pairs(TRUTH) & unseen and len(pairs(TRUTH)) == captions.UNSEEN.size - len(unseen)
    _, truth, _ = captions.load(60, size=64, first=scenes.HELD_OUT, unseen=True, cache=False)
    assert all(pairs(truth[n : n + 1]) & unseen for n in range(60))


def test_captioned_images_are_known_by_a_digest():
    images = np.zeros((3, 4, 4, 3), np.uint8)
    some = Captioned.of("folder", images, ["a", "b", "a"])
    assert some.labels.tolist() == [0, 1, 0] and some.class_names == ("a", "b") and some.classes == 2
    same, other = Captioned.of("folder", images, ["a", "b", "a"]), Captioned.of("folder", images, ["a", "b", "b"])
    assert some.identity == same.identity != other.identity
    assert some.identity.difference(other.identity) == "its files have other names or content"
