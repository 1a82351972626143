import numpy as np
import pytest

from tinydiff.data import decoded, scenes, strokes

pytestmark = pytest.mark.usefixtures("own_cache")
SOME = scenes.load(300, size=64)
TRUTH = scenes.truth(300, size=64)


def test_deterministic_and_endless():
    assert SOME.images.shape == (300, 64, 64, 3) and SOME.images.dtype == np.uint8
    assert SOME.labels[:5].tolist() == [0, 1, 2, 0, 1] and SOME.class_names == ("one", "two", "three")
    later = scenes.load(40, size=64, first=260)
    assert np.array_equal(later.images, SOME.images[260:]) and np.array_equal(later.labels, SOME.labels[260:])
    assert np.array_equal(scenes.truth(40, size=64, first=260), TRUTH[260:])
    assert not np.array_equal(scenes.load(9, size=64, seed=1).images, SOME.images[:9])
    assert len(scenes.load(2, first=2**32 - 2)) == 2
    assert scenes.load(2).images.shape == (2, 32, 32, 3)


def test_scenes_are_the_same_however_many_are_drawn_at_once(monkeypatch):
    monkeypatch.setattr(scenes, "AT_ONCE", 7)
    assert np.array_equal(scenes.load(20, size=64).images, SOME.images[:20])
    assert np.array_equal(scenes.truth(20, size=64), TRUTH[:20])


def test_either_size_shows_the_same_scene():
    small = scenes.truth(300, size=32)
    for field in ("count", "kind", "colour", "large", "ground"):
        assert np.array_equal(small[field], TRUTH[field])
    assert np.allclose(2 * small["box"], TRUTH["box"], atol=1e-4)
    halved = SOME.images[:50].astype(float).reshape(50, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    assert np.abs(scenes.load(50, size=32).images - halved).mean() < 3


def test_the_truth_is_what_is_drawn():
    """Ink of a digit's colour lies within its box, and reaches its edges; outside all boxes lies none."""
    colours = np.array(list(scenes.COLOURS.values()))
    for image, known in zip(SOME.images.astype(int), TRUTH):
        outside = np.ones((64, 64), bool)
        for i in range(known["count"]):
            left, top, right, bottom = known["box"][i]
            outside[max(0, int(top) - 1) : int(bottom) + 2, max(0, int(left) - 1) : int(right) + 2] = False
            is_ink = np.abs(image - colours[known["colour"][i]]).max(axis=2) < 3
            down, right_of = np.nonzero(is_ink)
            assert abs(down.min() - top) < 3 and abs(down.max() + 1 - bottom) < 3
            assert abs(right_of.min() - left) < 3 and abs(right_of.max() + 1 - right) < 3
            assert 0 <= left < right <= 64 and 0 <= top < bottom <= 64
        steps = np.abs(np.diff(image, axis=0)).max(axis=2)
        assert steps[outside[1:] & outside[:-1]].max(initial=0) < 12  # the ground varies gently
    absent = np.arange(3) >= TRUTH["count"][:, None]
    assert (TRUTH["kind"][absent] == -1).all() and (TRUTH["kind"][~absent] >= 0).all()


def test_digits_are_legible():
    """Each is of another colour than the others and the ground, seldom covers another, and is large enough."""
    names, grounds = list(scenes.COLOURS), list(scenes.GROUNDS)
    shared = 0
    for image, known in zip(SOME.images.astype(float), TRUTH):
        count, box = known["count"], known["box"]
        used = known["colour"][:count]
        assert len(set(used)) == count and grounds[known["ground"]] not in [names[each] for each in used]
        ground = np.median(image.reshape(-1, 3), axis=0)
        for each in used:
            assert np.abs(np.array(scenes.COLOURS[names[each]]) - ground) @ scenes.LUMINANCE > 35
        height = box[:count, 3] - box[:count, 1]
        assert (height > np.where(known["large"][:count], 21, 15)).all() and (height < 40).all()
        for i in range(count):
            for j in range(i):
                low, high = np.maximum(box[i, :2], box[j, :2]), np.minimum(box[i, 2:], box[j, 2:])
                part = (high - low).clip(0).prod() / (box[i, 2:] - box[i, :2]).prod()
                shared += part > 0
                assert part < 0.25
    assert shared < 30  # of 400 pairs


def test_everything_occurs_about_as_often_as_it_should():
    many = scenes.truth(3000)
    used = many["kind"] >= 0
    assert np.bincount(many["count"]).tolist() == [0, 1000, 1000, 1000]
    assert (np.abs(np.bincount(many["kind"][used]) / used.sum() - 0.1) < 0.02).all()
    assert (np.abs(np.bincount(many["colour"][used]) / used.sum() - 1 / 8) < 0.04).all()
    assert abs(many["large"][used].mean() - 0.5) < 0.03 and abs((many["ground"] == 0).mean() - 0.4) < 0.03
    assert set(many["ground"]) == set(range(len(scenes.GROUNDS)))


def test_the_same_hand_as_strokes():
    """A digit's lines come from where those of strokes do, with its own numbers."""
    plan = scenes._plan(np.arange(3), 64, 0, False)
    assert [len(lines) for lines in plan.lines] == [1, 2, 3]
    variants = {len(variant) for variant in strokes.DIGITS[int(plan.truth["kind"][0, 0])]}
    assert len(plan.lines[0][0]) in variants


def test_many_are_kept_in_a_file(monkeypatch, own_cache):
    monkeypatch.setattr(scenes, "WORTH_KEEPING", 20)
    drawn, held_out = scenes.load(20), scenes.load(19, first=scenes.HELD_OUT)
    [kept] = own_cache.iterdir()
    with monkeypatch.context() as from_the_file:
        from_the_file.setattr(scenes, "_images", lambda *_: pytest.fail("they are drawn again"))
        assert np.array_equal(scenes.load(20).images, drawn.images)
    assert not np.array_equal(held_out.images, drawn.images[:19])
    assert np.array_equal(scenes.load(20, cache=False).images, drawn.images) and list(own_cache.iterdir()) == [kept]
    others = scenes.load(20, first=5), scenes.load(15, first=5)
    assert np.array_equal(others[0].images[:15], others[1].images) and list(own_cache.iterdir()) != [kept]

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    said = []
    monkeypatch.setattr(decoded, "mapped", full)
    assert np.array_equal(scenes.load(20, say=said.append).images, drawn.images)
    assert "scenes are drawn into memory" in said[0] and "No space left" in said[0]


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(count=0), "count must be at least 1, got 0"),
        (dict(count=3, size=28), "image_size: scenes have images of 32x32 or 64x64, got 28"),
        (dict(count=3, first=-1), r"first must lie in \[0, 2\^32 - count\], got -1"),
        (dict(count=3, first=2**32 - 2), r"first must lie in \[0, 2\^32 - count\]"),
    ],
)
def test_bad_arguments(options, message):
    for function in (scenes.load, scenes.truth):
        with pytest.raises(ValueError, match=message):
            function(**options)
