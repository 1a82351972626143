"""The page of digits in a browser: what it draws, to the bit, and that each control does what it says."""

import numpy as np
import pytest

from tests.checks import same_bits
from tests.pages.browser import LONGEST_TASK, main_thread
from tests.pages.digits_page import COLLECT, drawn, grey, pixels, row, served, states, text, trajectory
from tinydiff.metrics import classifier
from tinydiff.noise import schedules
from tinydiff.pages import SAMPLERS, shipped

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _pixels_are_read_seldom(pages):
    pages.expected.append("willReadFrequently")  # a warning about the tests' own reading of canvases


@pytest.fixture
def page(pages):
    return drawn(pages.open("index.html?steps=3"))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_digit_has_python_s_bits(page, baseline, sampler):
    page.get_by_label("Sampler").select_option(sampler)
    page.get_by_role("radio", name="4", exact=True).check()
    page.get_by_label("Seed of the noise").fill("11")
    page.get_by_label("Seed of the noise").blur()
    for guidance in (0, 1, 2.5):
        page.get_by_role("slider", name="Guidance").fill(str(guidance))
        found = states(page)
        options = dict(sampler=sampler, steps=3, guidance=guidance)
        wanted = list(trajectory(shipped.load(), baseline, **options).states([4], seed=11))
        assert len(found) == len(wanted) == 4
        for each, want in zip(found, wanted, strict=True):
            assert each["step"] == pytest.approx(want.step, rel=1e-6)
            assert same_bits(each["x"], want.x.ravel())
            if sampler == "heun" and each["number"] == 2:  # which the finished one has taken the place of
                np.testing.assert_allclose(each["x0Hat"], want.x0_hat.ravel(), atol=1e-5)
            else:
                assert same_bits(each["x0Hat"], want.x0_hat.ravel())
        assert np.array_equal(pixels(page), grey(wanted[-1].x.ravel()))


def test_any_digit_is_that_of_guidance_0(page, baseline):
    page.get_by_role("radio", name="any", exact=True).check()
    wanted = trajectory(shipped.load(), baseline, steps=3, guidance=0).draw([4])
    assert same_bits(states(page)[-1]["x"], wanted.ravel())


@pytest.mark.parametrize(("sampler", "guidance"), [("ddim", 1), ("ddpm", 2.5), ("heun", 0)])
def test_the_row_has_python_s_bits(page, baseline, sampler, guidance):
    page.get_by_label("Sampler").select_option(sampler)
    page.get_by_role("slider", name="Guidance").fill(str(guidance))
    page.get_by_role("button", name="Draw the row").click()
    options = dict(sampler=sampler, steps=3, guidance=guidance)
    wanted = trajectory(shipped.load(), baseline, 10, **options).draw(np.arange(10)).copy()
    assert same_bits(row(page), wanted.ravel())
    assert page.locator("#row canvas").count() == 10
    assert np.array_equal(pixels(page, "#row li:nth-child(4) canvas"), grey(wanted[3].ravel()))
    seen = classifier.trained(baseline).forward(wanted)[0].argmax(axis=1)
    assert page.locator("#row span").all_text_contents() == [f"reads {each}" for each in seen]
    right = np.sum(seen == np.arange(10))
    assert (f"{right} of 10 recognised" in text(page, "row-note")) == (guidance > 0)


def test_the_judge_is_the_classifier(page, baseline):
    found = states(page)
    images = np.array([each["x0Hat"].reshape(28, 28, 1) for each in found])
    logits = classifier.trained(baseline).forward(images)[0].astype(np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    np.testing.assert_allclose([each["odds"] for each in found], odds, rtol=1e-12)
    page.locator("#time").fill("1")
    shown = page.locator("#odds .number").all_text_contents()
    assert shown == [f"{100 * each:.1f} %" if each < 0.9995 else "> 99.9 %" for each in odds[1]]
    assert f"looks like a{'n' if odds[1].argmax() == 8 else ''} {odds[1].argmax()} (" in text(page, "verdict")
    widths = page.locator("#odds .bar span").evaluate_all("(bars) => bars.map((bar) => parseFloat(bar.style.width))")
    np.testing.assert_allclose(widths, 100 * odds[1], atol=0.051)


def test_what_it_says_meanwhile(pages):
    page = pages.open("lab.html")
    page.add_init_script(COLLECT)
    page.goto(f"{pages.address}index.html")
    told = [words for name, words in drawn(page).evaluate("told") if name == "status"]
    steps = [words for words in told if words.startswith("step ")]
    assert told[:2] == ["Loading", "Ready"]
    assert list(dict.fromkeys(steps)) == [f"step {number} of 25" for number in range(26)]
    assert told[-1].startswith("Ready. It looks like a")
    assert "ms a step" in text(page, "speed")


def test_the_timeline_goes_back_and_forth(page):
    found = states(page)
    time = page.locator("#time")
    assert time.get_attribute("max") == "3" and page.locator("#strip > *").count() == 4
    assert text(page, "moment") == "step 3 of 3: finished"
    for number in (0, 2, 1):
        time.fill(str(number))
        assert np.array_equal(pixels(page), grey(found[number]["x"]))
        assert text(page, "moment").startswith(f"step {number} of 3: t = ")
        assert time.get_attribute("aria-valuetext") == text(page, "moment")
        marked = page.locator("#strip > *").evaluate_all("(cells) => cells.map((cell) => cell.className === 'now')")
        assert marked == [each == number for each in range(4)]
    page.get_by_label("predicted").check()
    assert np.array_equal(pixels(page), grey(found[1]["x0Hat"]))
    page.locator("#strip > *").nth(2).click()
    assert np.array_equal(pixels(page), grey(found[2]["x0Hat"]))
    page.get_by_label("noisy").check()
    assert np.array_equal(pixels(page), grey(found[2]["x"]))
    small = pixels(page, "#strip > *:nth-child(3) canvas:nth-child(2)")
    assert np.array_equal(small, grey(found[2]["x0Hat"]))


def test_the_signal_to_noise_of_a_moment(page):
    page.locator("#time").fill("1")
    step = states(page)[1]["step"]
    schedule = schedules.get("cosine", 200)
    assert f"t = {step + 1:.0f} of 200" in text(page, "moment")
    assert f"signal to noise {schedule.snr_db[int(step)]:.1f} dB".replace("-", "−") in text(page, "moment")


def test_playing_shows_one_after_another_and_ends(page):
    seen = []
    page.expose_function("see", lambda words: seen.append(words))
    page.evaluate(
        """() => new MutationObserver(() => see(document.getElementById("moment").textContent))
          .observe(document.getElementById("moment"), { childList: true })"""
    )
    play = page.locator("#play")
    play.click()
    assert play.text_content() == "Pause"
    page.wait_for_function("document.getElementById('play').textContent === 'Play'")
    assert [words.split(":")[0] for words in seen] == [f"step {number} of 3" for number in range(4)]
    play.click()
    play.click()
    assert play.text_content() == "Play" and not text(page, "moment").startswith("step 3")
    play.click()
    page.locator("#time").fill("1")
    assert play.text_content() == "Play"


def test_guidance_is_explained_in_both_conventions(page):
    page.get_by_role("slider", name="Guidance").fill("2.5")
    assert "v = w − 1 = 1.5" in text(page, "convention")
    assert page.locator("output[for=guidance]").evaluate("(output) => output.value") == "2.5"
    page.get_by_role("slider", name="Guidance").fill("0")
    states(page)
    assert "asked" not in text(page, "status") + text(page, "verdict")
    assert "v = w − 1 = −1" in text(page, "convention") and "not looked at" in text(page, "convention")
    assert "?guidance=0" in page.url.replace("steps=3&", "").replace("&steps=3", "")


def test_the_cost_counts_answers_of_the_network(page):
    assert text(page, "cost") == "The network answers 3 times."
    page.get_by_label("Sampler").select_option("heun")
    page.get_by_role("slider", name="Guidance").fill("2")
    assert text(page, "cost") == "The network answers 10 times, as Heun asks twice a step, for the class and for any."


def test_other_choices_are_other_drawings(page):
    seen = [states(page)[-1]["x"].tobytes()]
    for choose in (
        lambda: page.get_by_role("slider", name="Steps").fill("4"),
        lambda: page.get_by_label("Seed of the noise").fill("5"),
        lambda: page.get_by_role("radio", name="9", exact=True).check(),
        lambda: page.get_by_label("Sampler").select_option("ddpm"),
        lambda: page.get_by_role("slider", name="Guidance").fill("3"),
        lambda: page.get_by_role("button", name="Another seed").click(),
    ):
        choose()
        page.locator("#seed").blur()
        seen.append(states(page)[-1]["x"].tobytes())
    assert len(set(seen)) == len(seen)
    again = states(page)
    page.get_by_role("button", name="Draw again").click()
    assert states(page)[-1]["x"].tobytes() == again[-1]["x"].tobytes()
    assert page.locator("#seed").input_value() in page.url


def test_the_address_restores_what_it_was_taken_from(page, pages):
    page.get_by_role("radio", name="7", exact=True).check()
    page.get_by_label("predicted").check()
    found = states(page)
    other = drawn(pages.open(page.url.removeprefix(pages.address)))
    assert states(other)[-1]["x"].tobytes() == found[-1]["x"].tobytes()
    assert other.get_by_role("radio", name="7", exact=True).is_checked()
    assert other.get_by_label("predicted").is_checked()


def test_back_restores_and_draws(page):
    first = states(page)
    page.get_by_role("radio", name="7", exact=True).check()
    second = states(page)
    page.go_back()
    assert page.get_by_role("radio", name="0", exact=True).is_checked()
    assert states(page)[-1]["x"].tobytes() == first[-1]["x"].tobytes() != second[-1]["x"].tobytes()
    page.go_forward()
    assert states(page)[-1]["x"].tobytes() == second[-1]["x"].tobytes()


def test_the_link_is_copied(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_label("Seed of the noise").fill("77")
    page.locator("#seed").blur()
    states(page)
    page.get_by_role("button", name="Copy link").click()
    page.wait_for_function("document.getElementById('status').textContent.includes('copied')")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.url and "seed=77" in copied


def test_where_nothing_can_be_copied_it_says_so(page):
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    page.get_by_role("button", name="Copy link").click()
    page.wait_for_function("document.getElementById('problem').textContent.includes('address bar')")


def test_a_new_choice_stops_the_drawing_under_way(pages):
    page = pages.open("lab.html")
    page.add_init_script(COLLECT)
    page.goto(f"{pages.address}index.html?steps=50&sampler=heun&guidance=2")
    page.wait_for_function("document.getElementById('status').textContent.startsWith('step 2 ')")
    page.get_by_role("radio", name="6", exact=True).check()
    page.get_by_role("slider", name="Steps").fill("3")
    assert len(states(page)) == 4
    told = [words for name, words in drawn(page).evaluate("told") if name == "status"]
    assert "step 50 of 50" not in told and told.count("step 3 of 3") == 1
    page.get_by_role("button", name="Draw the row").click()
    page.wait_for_function("document.getElementById('status').textContent.startsWith('the row: ')")
    page.get_by_role("radio", name="5", exact=True).check()
    states(page)
    assert text(page, "row-note") == "" and text(page, "problem") == ""


def test_nonsense_is_told_and_the_default_taken(pages):
    page = drawn(pages.open("index.html?label=11&steps=0&guidance=-1&sampler=euler&seed=1.5&view=x"))
    problem = text(page, "problem")
    for words in ("label = “11”", "a whole number from 1 to 50", "a number from 0 to 8", "“euler”", "seed = “1.5”"):
        assert words in problem
    assert page.get_by_role("radio", name="0", exact=True).is_checked() and len(states(page)) == 26
    page.get_by_role("radio", name="1", exact=True).check()
    assert text(page, "problem") == ""


def test_a_seed_that_is_none_is_told(page):
    before = states(page)
    page.get_by_label("Seed of the noise").fill("-4")
    page.get_by_label("Seed of the noise").blur()
    assert text(page, "problem").startswith("Seed of the noise: ")
    assert page.locator("#seed").input_value() == "0" and states(page)[-1]["x"].tobytes() == before[-1]["x"].tobytes()


def test_the_heat_map_shows_what_was_measured_and_sets_the_page(page):
    measured = shipped.measured()
    buttons = page.locator("#heat button")
    assert buttons.count() == len(measured["rows"])
    at = next(each for each in measured["rows"] if (each["guidance"], each["steps"]) == (2.0, 5))
    page.get_by_label("Sampler").select_option("ddpm")
    button = page.get_by_role("button", name="guidance 2, 5 steps")
    assert button.text_content() == f"{100 * at['accuracy']:.1f}"
    page.get_by_label("distance to real ones").check()
    assert button.text_content() == f"{at['fid']:.1f}"
    assert page.locator("#heat [aria-current]").count() == 0
    button.click()
    assert button.get_attribute("aria-current") == "true" and page.locator("#heat [aria-current]").count() == 1
    assert page.locator("#guidance").input_value() == "2" and page.locator("#steps").input_value() == "5"
    assert page.locator("#sampler").input_value() == measured["sampler"] and len(states(page)) == 6
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.ariaLabel").startswith("guidance 3, 3 steps")
    page.keyboard.press("Enter")
    assert "guidance=3" in page.url and "steps=3" in page.url
    assert page.locator("#heat button[tabindex='0']").count() == 1


def test_the_strongest_colour_is_the_best(page):
    measured = shipped.measured()["rows"]
    for name, best in (("digits recognised", max(each["accuracy"] for each in measured)), ("distance", None)):
        page.get_by_label(name).check()
        parts = page.locator("#heat button").evaluate_all(
            "(all) => all.map((each) => [Number(each.textContent), Number(each.style.getPropertyValue('--part'))])"
        )
        strongest = {value for value, part in parts if part == 1}
        assert strongest == ({round(100 * best, 1)} if best else {round(min(each["fid"] for each in measured), 1)})


def test_the_page_answers_while_it_draws(pages):
    page = drawn(pages.open("index.html"))
    with main_thread(page) as tasks:
        page.get_by_role("slider", name="Steps").fill("50")
        states(page)
        page.get_by_role("button", name="Draw the row").click()
        row(page)
    assert len(tasks) > 100 and 1 < max(tasks) < LONGEST_TASK


def test_without_a_network_it_still_draws(pages, site):
    with served(site) as at:
        first = drawn(pages.open("index.html", at=at))
        first.evaluate("navigator.serviceWorker.ready.then((kept) => kept.active.state)")
        first.wait_for_function("navigator.serviceWorker.controller !== null")
    page = drawn(pages.open_in(first.context, "index.html?label=2&steps=3", at=at))
    assert len(states(page)) == 4
    page.get_by_role("button", name="Draw the row").click()
    assert row(page).shape == (10 * 28 * 28,) and text(page, "problem") == ""


def test_keyboard_alone_draws_a_digit(pages, baseline):
    page = drawn(pages.open("index.html?steps=3"))
    reached = ""
    for _ in range(20):
        page.keyboard.press("Tab")
        reached = page.evaluate("document.activeElement.name")
        if reached == "label":
            break
    assert reached == "label"
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    wanted = trajectory(shipped.load(), baseline, steps=3, guidance=1).draw([3])
    assert same_bits(states(page)[-1]["x"], wanted.ravel())
    order = ["label", "view", "play", "time", "guidance", "steps", "sampler", "seed", "another", "again", "copy"]
    order.append("draw-row")
    seen = ["label"]
    for _ in order[1:]:
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.name || document.activeElement.id"))
    assert seen == order
    page.locator("#time").focus()
    page.keyboard.press("Home")
    assert text(page, "moment").startswith("step 0 of 3")


def test_with_reduced_motion_only_the_finished_digit_is_shown_large(pages):
    page = pages.open("lab.html", reduced_motion="reduce")
    page.add_init_script(COLLECT)
    page.goto(f"{pages.address}index.html?steps=5")
    moments = [words for name, words in drawn(page).evaluate("told") if name == "moment" and words.startswith("step")]
    assert moments == ["step 5 of 5: finished"]
    assert page.locator("#strip canvas").count() == 12
