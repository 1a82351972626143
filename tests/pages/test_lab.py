"""The page lab.html in a browser."""

import re

import numpy as np
import pytest

from tests.pages.browser import LONGEST_TASK, NARROW, main_thread, reached_by_keyboard, serious
from tests.pages.test_all_pages import loaded
from tests.pages.test_lab_python import SCHEDULE, Lab
from tinydiff.data import points2d
from tinydiff.metrics import mmd
from tinydiff.pages import SAMPLERS, lab

pytestmark = pytest.mark.slow
RATE = 0.003  # which the page begins with
STILL = dict(reduced_motion="reduce")


def opened(pages, query="", **options):
    return loaded(pages.open(f"lab.html{query}", **options))


def train(page):
    page.click("#train")
    trained(page)


def trained(page):
    page.wait_for_function("document.getElementById('status').textContent.includes('steps trained')")
    page.wait_for_function("document.getElementById('train').textContent === 'Train'")
    page.wait_for_function("!document.getElementById('samples').hidden && !document.getElementById('field').hidden")
    page.wait_for_function("document.getElementById('problem').textContent === ''")


def loss(page):
    return float(page.get_attribute("#steps", "data-loss"))


def picture(page, name):
    return page.evaluate(f"document.getElementById('{name}').toDataURL()")


def words(page, name):
    return page.get_attribute(f"#{name}", "aria-label")


def test_the_loss_after_200_steps_is_pythons_and_comes_again(pages, baseline):
    page = opened(pages, "?many=200&seed=3", **STILL)
    train(page)
    first = loss(page)
    trained_here = Lab(baseline, *lab.points("mixture"), width=64, prediction="v", seed=3)
    assert first == trained_here.train(200, RATE)[-1]
    assert page.text_content("#steps") == "200"
    page.click("#reset")
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Ready')")
    assert page.text_content("#steps") == "0" and page.is_visible("#curve-empty") and page.is_disabled("#reset")
    train(page)
    assert loss(page) == first


def test_pause_and_go_on(pages, baseline):
    page = opened(pages, "?width=32", **STILL)
    page.click("#train")
    page.wait_for_function("Number(document.getElementById('steps').textContent) > 20")
    assert page.text_content("#train") == "Pause" and float(page.text_content("#speed")) > 0
    page.click("#train")
    trained(page)
    paused = int(page.text_content("#steps").replace(",", ""))
    assert 20 < paused < 2000
    page.wait_for_timeout(400)
    assert int(page.text_content("#steps").replace(",", "")) == paused
    page.fill("#many", "10")
    page.click("#train")
    page.wait_for_function(f"document.getElementById('status').textContent.startsWith('{paused + 10} steps')")
    trained_here = Lab(baseline, *lab.points("mixture"), width=32, prediction="v", seed=0)
    assert loss(page) == trained_here.train(paused + 10, RATE)[-1]


@pytest.mark.parametrize("name, other", [("#rate", "0.001"), ("#seed", "8"), ("#width", "32"), ("#prediction", "eps")])
def test_what_training_depends_on(pages, name, other):
    page = opened(pages, "?many=5", **STILL)
    train(page)
    first = loss(page)
    if name in ("#rate", "#seed"):
        page.fill(name, other)
        page.keyboard.press("Tab")
    else:
        page.select_option(name, other)
    if name == "#rate":  # which may change as it goes
        page.click("#reset")
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Ready')")
    train(page)
    assert loss(page) != first and f"{name[1:]}={other}" in page.url


@pytest.mark.parametrize("name", points2d.SHAPES)
def test_every_set(pages, name):
    page = opened(pages, "?many=3", **STILL)
    before = picture(page, "target")
    if name != "mixture":
        page.select_option("#set", name)
        page.wait_for_function(f"!document.getElementById('exact-empty').hidden && location.search.includes('{name}')")
        options = 2 + points2d.SHAPES[name].classes
        page.wait_for_function(f"document.getElementById('label').options.length === {options}")
        page.wait_for_timeout(200)
        assert picture(page, "target") != before and page.is_hidden("#exact")
    assert words(page, "target") == "300 fresh points"
    train(page)
    assert page.is_hidden("#error") == (name != "mixture")


def test_the_page_answers_while_it_trains(pages):
    page = opened(pages, "?many=600", **STILL)
    with main_thread(page) as tasks:
        train(page)
    assert len(tasks) > 100 and 1 < max(tasks) < LONGEST_TASK


def test_samples_move_with_the_slider_and_with_play(pages):
    page = opened(pages, "?many=30", **STILL)
    train(page)
    slider, finished = page.locator("#time"), picture(page, "samples")
    assert slider.input_value() == "32" and page.text_content("#when") == "32 of 32"  # nothing has moved by itself
    slider.focus()
    page.keyboard.press("Home")
    assert page.text_content("#when") == "0 of 32" and "noise 1.00" in slider.get_attribute("aria-valuetext")
    noise = picture(page, "samples")
    assert noise != finished
    page.keyboard.press("ArrowRight")
    assert picture(page, "samples") not in (noise, finished)
    page.click("#play")
    page.wait_for_function("document.getElementById('when').textContent === '32 of 32'")
    page.wait_for_function("document.getElementById('play').textContent === 'Play'")
    assert picture(page, "samples") == finished


def test_new_samples_are_played_where_motion_is_welcome(pages):
    page = opened(pages, "?many=5")
    page.evaluate(
        """() => {
          globalThis.seen = new Set();
          new MutationObserver(() => seen.add(document.getElementById("play").textContent))
            .observe(document.getElementById("play"), { childList: true });
        }"""
    )
    train(page)
    page.wait_for_function("seen.has('Stop') && document.getElementById('play').textContent === 'Play'")


@pytest.mark.parametrize(
    "name, other", [("#sampler", "ddpm"), ("#count", "8"), ("#label", "2"), ("#noise", "5"), ("#guidance", "3")]
)
def test_what_drawing_depends_on(pages, name, other):
    page = opened(pages, "?many=30", **STILL)
    train(page)
    before, steps = picture(page, "samples"), page.text_content("#steps")
    if name in ("#noise", "#guidance"):
        page.fill(name, other)
        page.locator(name).dispatch_event("change")
    else:
        page.select_option(name, other)
    page.wait_for_function("before => document.getElementById('samples').toDataURL() !== before", arg=before)
    assert page.text_content("#steps") == steps and f"={other}" in page.url  # and nothing is trained anew


def test_the_field_and_its_error_are_pythons(pages, baseline):
    page = opened(pages, "?many=60&level=120", **STILL)
    train(page)
    trained_here = Lab(baseline, *lab.points("mixture"), width=64, prediction="v", seed=0)
    trained_here.train(60, RATE)
    a, s = SCHEDULE.rates(120)
    centres = ((2 * np.arange(16) + 1) / 16 - 1) * 1.6
    x = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2).astype(np.float32)
    v = trained_here.averaged.predict(x, np.full(256, 120, np.float32), np.full(256, lab.CLASSES))
    score, exact = -(s * x + a * v) / s, points2d.MIXTURE.score(x, a, s)
    error = np.linalg.norm(score - exact, axis=1) / np.sqrt((exact**2).sum(axis=1).mean())
    told = re.findall(r"([\d.]+) % in the median, ([\d.]+) % on average", words(page, "error"))[0]
    assert [float(each) for each in told] == pytest.approx([100 * np.sort(error)[128], 100 * error.mean()], rel=0.005)


def test_the_noise_level_and_guidance_of_the_field(pages):
    page = opened(pages, "?many=40", **STILL)
    assert page.is_visible("#exact") and page.is_hidden("#field")
    train(page)
    first, exact = picture(page, "field"), picture(page, "exact")
    page.locator("#level").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.getElementById('level-words').textContent.startsWith('step 79 of 199')")
    page.wait_for_function("first => document.getElementById('field').toDataURL() !== first", arg=first)
    assert picture(page, "exact") != exact and "level=79" in page.url
    page.select_option("#label", "1")
    page.wait_for_timeout(500)
    first, exact = picture(page, "field"), picture(page, "exact")
    page.locator("#guidance").fill("4")
    page.locator("#guidance").dispatch_event("change")
    page.wait_for_function("first => document.getElementById('field').toDataURL() !== first", arg=first)
    page.wait_for_function("exact => document.getElementById('exact').toDataURL() !== exact", arg=exact)


def test_quality_is_pythons(pages, baseline):
    page = opened(pages, "?set=spiral&many=60&width=32&noise=4", **STILL)
    assert page.is_disabled("#measure")
    train(page)
    page.click("#measure")
    page.wait_for_function("document.getElementById('status').textContent === 'Measured'")
    found = page.evaluate("[...document.querySelectorAll('#quality-table td')].map((td) => td.dataset.value)")
    points, labels = lab.points("spiral")
    trained_here = Lab(baseline, points, labels, width=32, prediction="v", seed=0)
    trained_here.train(60, RATE)
    fresh = points[lab.TRAINED :]
    n, bandwidths = lab.FRESH // 2, mmd.median_bandwidths(fresh)
    want = []
    for sampler in SAMPLERS:
        for steps in lab.STEPS:
            x = trained_here.draw([lab.CLASSES] * lab.COUNT, 4, sampler=sampler, steps=steps)
            want.append(mmd.squared_mmd(x[:n], fresh[:n], bandwidths))
    assert [float(each) for each in found] == pytest.approx(want, abs=1e-9)
    assert len(set(want)) == 24 and "24 ways" in words(page, "quality")
    assert page.locator("#quality-legend li").count() == 5


def test_measuring_can_be_stopped(pages):
    page = opened(pages, "?many=5&width=128", **STILL)
    train(page)
    page.click("#measure")
    page.wait_for_function("document.getElementById('measured').value > 0")
    page.click("#measure")
    page.wait_for_function("document.getElementById('status').textContent === 'Measuring stopped'")
    assert page.text_content("#measure") == "Measure" and page.text_content("#problem") == ""
    train(page)  # nothing is in its way


def test_drawing_by_pointer(pages):
    page = opened(pages, "?set=drawn&many=5", **STILL)
    assert page.is_visible("#target-empty") and page.is_disabled("#train")
    box = page.locator("#pad").bounding_box()
    for label, height in ((0, 0.3), (4, 0.7)):
        page.locator("#classes button").nth(label).click()
        page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + height * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + height * box["height"], steps=7)
        page.mouse.up()
    page.wait_for_function("!document.getElementById('target').hidden && !document.getElementById('train').disabled")
    dabs = re.findall(r"([0-7])(..)", page.url.split("drawn=")[-1].split("&")[0])
    assert len(dabs) > 30 and {label for label, _ in dabs} == {"0", "4"}
    assert page.text_content("#dabs") == f"{len(dabs)} dabs"
    train(page)
    target, first = picture(page, "target"), loss(page)
    page.reload()
    loaded(page)
    assert picture(page, "target") == target  # the address holds it
    train(page)
    assert loss(page) == first
    page.click("#undo")
    page.wait_for_function(f"document.getElementById('dabs').textContent === '{len(dabs) - 1} dabs'")
    page.click("#clear")
    page.wait_for_function("document.getElementById('target').hidden && document.getElementById('train').disabled")


def test_drawing_by_keys(pages):
    page = opened(pages, "?set=drawn", **STILL)
    page.locator("#pad").focus()
    for key in ("Enter", "ArrowRight", "Enter", "3", "ArrowUp", "Shift+ArrowUp", " "):
        page.keyboard.press(key)
    page.wait_for_function("document.getElementById('dabs').textContent === '3 dabs'")
    page.wait_for_function("location.search.includes('0gg0ig2ij')")
    assert words(page, "pad") == "Drawing pad, 3 dabs"
    page.keyboard.press("Backspace")
    page.wait_for_function("location.search.endsWith('0gg0ig')")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Class 4"
    assert page.get_attribute("[aria-label='Class 4']", "aria-checked") == "true"


def test_back_and_address(pages):
    page = opened(pages, "?set=ring&steps=8&guidance=2.5&label=1&level=50&noise=9&sampler=heun&width=32", **STILL)
    values = {"set": "ring", "count": "8", "guidance": "2.5", "label": "1", "level": "50", "noise": "9"}
    values |= {"sampler": "heun", "width": "32"}
    assert {name: page.input_value(f"#{name}") for name in values} == values
    page.select_option("#set", "spiral")
    page.wait_for_function("location.search.includes('spiral')")
    page.select_option("#sampler", "ddpm")
    page.go_back()
    assert page.input_value("#sampler") == "heun" and page.input_value("#set") == "spiral"
    page.go_back()
    page.wait_for_function("document.getElementById('set').value === 'ring'")
    page.wait_for_function("document.getElementById('label').options.length === 6")


@pytest.mark.parametrize(
    "query, told",
    [
        ("?width=65", "one of 32, 64, 128"),
        ("?set=cube", "one of mixture"),
        ("?rate=-1", "a number from 0.00001 to 0.1"),
        ("?drawn=0A", "a class and two letters"),
        ("?set=two_moons&label=5", "there is no class 6"),
    ],
)
def test_nonsense_is_told_and_the_page_goes_on(pages, query, told):
    page = opened(pages, query + "&many=3", **STILL)
    assert told in page.text_content("#problem")
    train(page)  # which is not told again


def test_a_damaged_file_is_told(pages, site):
    page = pages.open("index.html", service_workers="block")  # which would have the whole file
    page.context.route("**/lab/program.json", lambda route: route.fulfill(body=site["lab/program.json"][:5000]))
    pages.expected += ["Service Worker"]
    page.goto(f"{pages.address}lab.html")
    page.wait_for_function("document.getElementById('problem').textContent.includes('program.json is truncated')")
    assert page.text_content("#status") == "Not ready"


def test_keys_reach_everything_in_order(pages):
    page = opened(pages, "?many=3", **STILL)
    train(page)
    page.locator(".skip").focus()  # from where Tab goes on
    reached = reached_by_keyboard(page)
    order = "set prediction width rate many train reset sampler count label guidance noise play time level measure"
    places = [reached.index(name) for name in order.split() if name != "many"]
    assert places == sorted(places) and "seed" in reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["mixture", "drawn"])
def test_nothing_serious_once_everything_is_there(pages, name, scheme):
    page = opened(pages, f"?set={name}&drawn=0Ag0Bg3gg&many=5&width=32", viewport=NARROW, color_scheme=scheme, **STILL)
    train(page)
    page.click("#measure")
    page.wait_for_function("document.getElementById('status').textContent === 'Measured'")
    page.click("summary")
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
