"""The lesson in a browser: each section's control does what it says, and shows what Python computes."""

import base64
import threading

import numpy as np
import pytest

from tests.checks import same_bits
from tests.pages.browser import NARROW, longest_task, reached_by_keyboard, serious, watch_long_tasks
from tests.pages.test_all_pages import loaded
from tests.pages.test_lesson_python import denoiser, normal, real
from tinydiff.noise import predictions, schedules
from tinydiff.noise.corrupt import Corruptor
from tinydiff.noise.schedules import Schedule
from tinydiff.pages import build, lesson, lesson_questions, serve, shipped
from tinydiff.samplers.ddim import ddim

pytestmark = pytest.mark.slow
TRIES = 3  # of what a busy machine may spoil
SECTIONS = ["what", "forward", "schedules", "reverse", "journey", "playground"]
# in the page: what a section shows, arrays in base64
SHOWN = """async (name) => {
  const { shown } = await import(new URL("lesson.js", location.href));
  const pack = (value) => {
    if (ArrayBuffer.isView(value)) {
      const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
      return { base64: btoa(Array.from(bytes, (each) => String.fromCharCode(each)).join("")) };
    }
    if (value === null || typeof value !== "object") return value;
    if (Array.isArray(value)) return value.map(pack);
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, pack(each)]));
  };
  return pack(shown[name]);
}"""
PIXELS = """(id) => {
  const canvas = document.getElementById(id), copy = new OffscreenCanvas(canvas.width, canvas.height);
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  return Array.from(data).filter((_, i) => i % 4 === 0);
}"""
SEED = 11


@pytest.fixture(scope="module")
def schedule():
    config = shipped.load().config
    return schedules.get(config.schedule, config.noise_steps)


def unpacked(value):
    if isinstance(value, dict) and "base64" in value:
        return np.frombuffer(base64.b64decode(value["base64"]), np.float32)
    if isinstance(value, dict):
        return {key: unpacked(each) for key, each in value.items()}
    return [unpacked(each) for each in value] if isinstance(value, list) else value


def shown(page, name):
    return unpacked(page.evaluate(SHOWN, name))


def text(page, name):
    return page.locator(f"#{name}").inner_text()


def wait(page, name, words):
    """Until an element says something with these words in it."""
    page.wait_for_function("([id, words]) => document.getElementById(id).textContent.includes(words)", arg=[name, words])


def move(page, name, value):
    """A slider, as by a pointer."""
    page.locator(f"#{name}").fill(str(value))


def begin(pages, query="", **options):
    page = loaded(pages.open(f"lesson.html{query}", **options))
    assert page.locator("#status").text_content() == "Ready"
    return page


def test_a_digit_is_drawn_from_noise(pages, baseline, schedule):
    page = begin(pages, f"?digit=7&seed={SEED}")
    states = list(ddim(denoiser(baseline, 7), normal("start", 0), schedule, schedule.grid(lesson.TRIP)))
    assert same_bits(shown(page, "what")["x"], states[-1].x.ravel())
    move(page, "what-at", 0)
    assert text(page, "what-where") == f"0 of {lesson.TRIP}"
    noise = np.clip(np.round(127.5 * (1 + states[0].x.ravel())), 0, 255)
    assert np.abs(np.array(page.evaluate(PIXELS, "what-noisy")) - noise).max() <= 1
    move(page, "what-at", 10)
    guess = np.clip(np.round(127.5 * (1 + states[9].x0_hat.ravel())), 0, 255)
    assert np.abs(np.array(page.evaluate(PIXELS, "what-guess")) - guess).max() <= 1
    before = page.evaluate(PIXELS, "what-noisy")
    page.click("#what-other")
    page.wait_for_url("**seed=12**")
    wait(page, "what-where", f"{lesson.TRIP} of {lesson.TRIP}")
    assert page.evaluate(PIXELS, "what-noisy") != before
    page.select_option("#what-label", "2")
    page.click("#what-draw")
    wait(page, "status", "Drawn: a 2 from noise 12")


def test_the_forward_process(pages, baseline, schedule):
    page = begin(pages, f"?digit=5&seed={SEED}")
    corrupt = Corruptor(schedule, "eps", "simple", baseline)
    for t in (1, 57, schedule.T):
        move(page, "forward-t", t)
        page.wait_for_function("t => document.getElementById('forward-where').textContent === String(t)", arg=t)
        found = shown(page, "forward")
        want = corrupt(real(5), normal("noise", 0), np.array([t - 1])).x
        assert found["t"] == t and same_bits(found["noisy"], want.ravel())
        assert float(text(page, "forward-snr").removesuffix(" dB").replace("−", "-")) == round(schedule.snr_db[t - 1], 1)
        if t == 57:
            assert float(text(page, "forward-signal")) == pytest.approx(schedule.signal_rate[56], abs=6e-4)
            assert float(text(page, "forward-noise")) == pytest.approx(schedule.noise_rate[56], abs=6e-4)
            assert float(text(page, "forward-left")) == pytest.approx(schedule.alpha_bar[56], abs=6e-4)
    assert f"t={schedule.T}" in page.url
    move(page, "forward-t", 0)
    wait(page, "forward-snr", "no noise")
    assert same_bits(shown(page, "forward")["noisy"], real(5).ravel())
    page.locator("#digit-choice label").nth(8).click()
    page.wait_for_url("**digit=8**")
    wait(page, "forward-snr", "no noise")
    page.wait_for_function("document.getElementById('forward-clean').getAttribute('aria-label').includes('8')")
    assert schedule.name in page.locator("#forward .numbers").inner_text()


def test_schedules_side_by_side(pages):
    page = begin(pages, f"?seed={SEED}")
    move(page, "share", 100)
    wait(page, "share-where", "100 %")
    told = {name: text(page, f"snr-{name}").split(", correlation ") for name in ("linear", "cosine", "unscaled")}
    assert [snr for snr, _ in told.values()] == ["−43.9 dB", "−86.1 dB", "−8.2 dB"]
    known = {"linear": schedules.linear(), "cosine": schedules.cosine(), "unscaled": Schedule("", np.linspace(1e-4, 0.02, 200))}
    found = shown(page, "schedules")
    for name, each in known.items():
        a, s = np.float32(each.signal_rate[-1]), np.float32(each.noise_rate[-1])
        assert same_bits(found[name], (a * real(3) + s * normal("noise", 0)).ravel()), name
        correlation = np.corrcoef(found[name], real(3).ravel())[0, 1]
        assert float(told[name][1].replace("−", "-")) == pytest.approx(correlation, abs=0.006)
    assert "−43.9 dB" in page.locator("#schedules table").inner_text()
    move(page, "share", 0)
    wait(page, "snr-linear", "no noise")
    assert "unscaled" in found and page.locator("#chart-legend li").count() == 3


def test_a_schedule_that_ends_too_early(pages, baseline, schedule):
    page = begin(pages, f"?seed={SEED}")
    page.click("#early-draw")
    wait(page, "status", "Drawn from both")
    found, early = shown(page, "early"), lesson.data(shipped.load())["early"]
    grid = schedule.grid(lesson.TRIP)
    for name, first in {"right": 0, "wrong": early}.items():
        *_, last = ddim(denoiser(baseline, 6), normal("start", 0, SEED + 6), schedule, grid[first:])
        assert len(found[name]) == 10 and same_bits(found[name][6], last.x.ravel())
        mean = np.mean(found[name], dtype=np.float64)
        assert f"mean brightness {mean:.3g}".replace("-", "−") in text(page, f"early-{name}-words")
        assert "of 10 recognised" in text(page, f"early-{name}-words")


def test_one_step_back_and_all_the_way(pages, baseline, schedule):
    page = begin(pages, f"?digit=4&seed={SEED}&back=60")
    for t in (60, 59):
        step = t - 1
        wait(page, "reverse-now", f"{t} of")
        found = shown(page, "reverse")
        terms = [table[step] for table in schedule.posterior]
        told = [text(page, f"reverse-{name}") for name in ("x0", "x", "variance")]
        assert [float(each) for each in told] == pytest.approx(terms, rel=6e-3)
        assert f"x{t - 1} = {told[0]}" in text(page, "reverse-sum").replace("\n", "")
        denoise = denoiser(baseline, 4)
        x = found["noisy"].reshape(1, 28, 28, 1)
        assert same_bits(found["x0Hat"], denoise(x, step).ravel())
        a, s = np.float32(schedule.rates(step))
        x0, eps = predictions.split(shipped.load().config.prediction, denoise.predict(x, step), x, a, s)
        assert same_bits(found["eps"], eps.ravel())
        assert found["error"] == pytest.approx(np.mean((x0 - real(4)) ** 2), rel=1e-4)
        if t == 60:
            following = found["next"]
            page.click("#reverse-step")
    assert same_bits(shown(page, "reverse")["noisy"], following)  # it goes on from there
    page.click("#reverse-all")
    wait(page, "reverse-now", "57 of")
    page.click("#reverse-all")
    assert text(page, "reverse-all") == "All the way back"
    page.click("#reverse-all")
    wait(page, "status", "Arrived at the clean picture")
    assert text(page, "reverse-now") == f"1 of {schedule.T}" and page.locator("#reverse-step").is_disabled()
    page.click("#reverse-again")
    wait(page, "reverse-now", "60 of")
    move(page, "reverse-t", 1)
    wait(page, "reverse-sum", "no noise")
    assert "back=1" in page.url


def test_one_guess_said_in_three_ways(pages, baseline, schedule):
    page = begin(pages, f"?seed={SEED}")
    page.click("#losses-measure")
    wait(page, "status", "Measured")
    rows = shown(page, "losses")
    assert len(rows) == 20
    for row in rows[::6]:
        snr = schedule.alpha_bar[row["step"]] / (1 - schedule.alpha_bar[row["step"]])
        assert row["eps"] == pytest.approx(snr * row["x0"], rel=1e-2)
        assert row["v"] == pytest.approx((snr + 1) * row["x0"], rel=1e-2)
    row, errors = rows[6], []
    a, s = np.float32(schedule.rates(row["step"]))
    for digit in range(10):
        x = a * real(digit) + s * normal("noise", digit)
        x0_hat, _ = predictions.split("v", denoiser(baseline, digit).predict(x, row["step"]), x, a, s)
        errors.append(np.mean((x0_hat - real(digit)) ** 2))
    assert row["x0"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert page.locator("#losses-legend li").count() == 3 and "Ten digits" in text(page, "losses-words")


def test_ddim_is_deterministic(pages):
    page = begin(pages)
    page.click("#twice-draw")
    wait(page, "status", "Drawn twice")
    first, second, third, fourth = shown(page, "twice")
    assert same_bits(first, second) and not same_bits(third, fourth)
    assert "DDIM: not one pixel differs" in text(page, "twice-words") and "DDPM: " in text(page, "twice-words")


def test_the_journey(pages, baseline, schedule):
    page = begin(pages, f"?digit=2&seed={SEED}")
    for part in range(2, 7):
        page.click("#journey-next")
        wait(page, "status", f"Step {part} of 6")
    assert page.locator("#journey-next").is_disabled() and page.evaluate("document.activeElement.id") == "journey-back"
    states = list(ddim(denoiser(baseline, 2), normal("start", 0), schedule, schedule.grid(lesson.TRIP)))
    found = shown(page, "journey")
    half = int(np.argmax(schedule.snr_db < 0))
    a, s = np.float32(schedule.rates(half))
    wanted = [real(2), a * real(2) + s * normal("noise", 0)]
    for image, want in zip(found[:2], wanted, strict=True):
        assert same_bits(image, want.ravel())
    assert same_bits(found[3], states[0].x0_hat.ravel()) and same_bits(found[4], states[20].x.ravel())
    assert same_bits(found[5], states[-1].x.ravel())
    page.click("#journey-back")
    wait(page, "journey-where", "step 5 of 6")
    page.go_back()
    wait(page, "journey-where", "step 6 of 6")
    page.reload()
    loaded(page)
    wait(page, "journey-where", "step 6 of 6")


def trip_by_python(backend, schedule, x, label, turn):
    """There and back, as the playground goes."""
    chain = lesson.chain(schedule)
    for number, (_, keeps, adds) in enumerate(chain[:turn], 1):
        x = np.float32(keeps) * x + np.float32(adds) * normal("noise", number)
    *_, last = ddim(denoiser(backend, label), x, schedule, schedule.grid(lesson.TRIP)[lesson.TRIP - turn :])
    return x, last.x


@pytest.mark.parametrize("turn", [lesson.TRIP, 12])
def test_there_and_back(turn, pages, baseline, schedule):
    page = begin(pages, f"?digit=9&seed={SEED}&speed=100&turn={turn}&towards=4")
    page.click("#play-trip")
    wait(page, "status", "Turned round")
    wait(page, "status", "Arrived")
    found = shown(page, "playground")
    assert found["done"] == found["all"] == 2 * turn and found["level"] == 0
    assert same_bits(found["x"], trip_by_python(baseline, schedule, real(9), 4, turn)[1].ravel())
    assert text(page, "play-progress-words") == f"{2 * turn} of {2 * turn} steps, done"
    assert page.locator("#play-progress").evaluate("(bar) => [bar.value, bar.max]") == [2 * turn, 2 * turn]
    assert page.locator("#play-strip canvas").count() == -(-2 * turn // 5)


def test_forward_pause_step_and_back(pages, baseline, schedule):
    page = begin(pages, f"?digit=9&seed={SEED}&speed=100&towards=4")
    assert page.locator("#play-back").is_disabled() and page.locator("#play-pause").is_disabled()
    page.click("#play-forward")
    wait(page, "status", f"At t = {schedule.T}")
    assert page.locator("#play-forward").is_disabled() and shown(page, "playground")["level"] == lesson.TRIP
    assert same_bits(shown(page, "playground")["x"], trip_by_python(baseline, schedule, real(9), 4, lesson.TRIP)[0].ravel())
    page.select_option("#play-speed", "5")
    page.click("#play-back")
    page.wait_for_function("document.getElementById('play-progress').value >= 2")
    page.click("#play-pause")
    wait(page, "status", "Paused")
    done = shown(page, "playground")["done"]
    page.wait_for_timeout(600)
    assert shown(page, "playground")["done"] == done and text(page, "play-pause") == "Go on"
    page.click("#play-step")
    wait(page, "play-progress-words", f"{done + 1} of {lesson.TRIP} steps, back")
    page.wait_for_timeout(600)
    assert shown(page, "playground")["done"] == done + 1
    page.select_option("#play-speed", "100")
    page.click("#play-pause")
    wait(page, "status", "Arrived")
    assert same_bits(shown(page, "playground")["x"], trip_by_python(baseline, schedule, real(9), 4, lesson.TRIP)[1].ravel())
    page.click("#play-reset")
    assert shown(page, "playground")["done"] == 0 and same_bits(shown(page, "playground")["x"], real(9).ravel())


def test_speed(pages):
    page = begin(pages, "?speed=2&turn=2")
    steps_after = {}
    for speed in ("2", "10"):
        page.select_option("#play-speed", speed)
        page.click("#play-forward")
        page.wait_for_timeout(2200)
        steps_after[speed] = shown(page, "playground")["done"]
        page.click("#play-reset")
    assert 3 <= steps_after["2"] <= 6 and 12 <= steps_after["10"] <= 24


def test_patterns_and_the_sampler(pages):
    page = begin(pages, "?speed=100")
    pictures, ends = {}, {}
    for subject in ("checkerboard", "stripes", "ring", "gradient"):
        page.select_option("#play-subject", subject)
        wait(page, "play-clean-words", subject)
        pictures[subject] = tuple(page.evaluate(PIXELS, "play-clean"))
        assert f"subject={subject}" in page.url
    assert len(set(pictures.values())) == 4 and set(pictures["checkerboard"]) == {0, 255}
    for sampler in ("ddim", "ddpm"):
        page.select_option("#play-sampler", sampler)
        page.click("#play-trip")
        wait(page, "status", "Turned round")
        wait(page, "status", "Arrived")
        ends[sampler] = shown(page, "playground")["x"]
    assert not same_bits(ends["ddim"], ends["ddpm"])


def test_ones_own_drawing(pages):
    page = begin(pages, "?subject=drawing&speed=100&turn=5")
    assert "nothing yet" in text(page, "play-clean-words") and page.locator("#pad").is_visible()
    pad = page.locator("#play-clean")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    at = lambda column, row: (box["x"] + box["width"] * column / 28, box["y"] + box["height"] * row / 28)
    page.mouse.move(*at(4, 14))
    page.mouse.down()
    page.mouse.move(*at(24, 14), steps=5)
    page.mouse.up()
    drawn = np.reshape(page.evaluate(PIXELS, "play-clean"), (28, 28))
    assert (drawn[13:15, 4:24] > 250).all() and drawn[:11].max() == 0
    page.keyboard.press("Space")
    page.keyboard.press("ArrowUp")
    wait(page, "status", "Pen down at column 14, row 13")
    for _ in range(6):
        page.keyboard.press("ArrowUp")
    drawn = np.reshape(page.evaluate(PIXELS, "play-clean"), (28, 28))
    assert (drawn[8:14, 13:15] > 200).all()
    page.click("#play-trip")
    wait(page, "status", "Arrived")
    assert not same_bits(shown(page, "playground")["x"], np.float32(drawn).ravel() / np.float32(127.5) - 1)
    page.click("#pad-clear")
    assert max(page.evaluate(PIXELS, "play-clean")) == 0
    page.select_option("#play-subject", "digit")
    assert page.locator("#pad").is_hidden() and pad.get_attribute("tabindex") is None


@pytest.mark.parametrize("number", range(1, 8))
def test_every_answer_is_explained(number, pages):
    page = begin(pages)
    question = lesson_questions.QUESTIONS[number - 1]
    page.click(f"#q{number} button")
    assert page.locator(f"#q{number} .verdict").inner_text() == "Choose an answer first."
    for i, answer in enumerate(question.answers):
        page.locator(f"#q{number} input").nth(i).check()
        assert page.locator(f"#q{number} .why:visible").count() == 0
        page.click(f"#q{number} button")
        assert page.locator(f"#q{number} .verdict").inner_text() == ("Right." if answer.right else "Not right.")
        assert page.locator(f"#q{number} li").nth(i).locator(".why").is_visible()
        assert page.locator(f"#q{number} .why:visible").count() == 1
        wait(page, "status", "Right. " if answer.right else "Not right. ")
        assert text(page, "progress").endswith(f"{int(answer.right)} of 7 questions right.")


def answer_all(page):
    for number, question in enumerate(lesson_questions.QUESTIONS, 1):
        right = [answer.right for answer in question.answers].index(True)
        page.locator(f"#q{number} input").nth(right).check()
        page.click(f"#q{number} button")


def test_progress_is_restored_and_forgotten(pages):
    page = begin(pages)
    assert text(page, "progress") == "Nothing tried yet."
    move(page, "forward-t", 30)
    page.click("#journey-next")
    page.locator("#q2 input").nth(0).check()
    page.click("#q2 button")
    page.locator("#q7 input").nth(1).check()
    page.click("#q7 button")
    told = "2 of 6 sections tried, 1 of 7 questions right."
    assert text(page, "progress") == told
    page.reload()
    loaded(page)
    assert text(page, "progress") == told and page.locator("#contents .done").count() == 2
    assert page.locator("#q2 .verdict").inner_text() == "Not right." and page.locator("#q7 .why:visible").count() == 1
    assert page.locator("#q2 input").nth(0).is_checked()
    page.click("#forget")
    assert text(page, "progress") == "Nothing tried yet." and page.locator(".why:visible").count() == 0
    page.reload()
    loaded(page)
    assert text(page, "progress") == "Nothing tried yet." and page.locator("#q7 input:checked").count() == 0


def test_every_section_counts_as_tried_once_touched(pages):
    page = begin(pages, "?speed=100&turn=1")
    page.click("#what-draw")
    move(page, "forward-t", 30)
    move(page, "share", 30)
    page.click("#reverse-step")
    page.click("#journey-next")
    page.click("#play-trip")
    wait(page, "progress", "6 of 6 sections tried")


def test_a_browser_that_keeps_nothing(pages):
    page = begin(pages)
    page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('forbidden'); } })")
    page.reload()
    loaded(page)
    page.locator("#q7 input").nth(1).check()
    page.click("#q7 button")
    assert "1 of 7" in text(page, "progress") and "keeps nothing" in text(page, "kept")


def test_the_certificate(pages):
    page = begin(pages)
    page.evaluate("() => { globalThis.printed = 0; globalThis.print = () => printed++; }")
    assert page.locator("#certificate-form").is_hidden() and "7 are left" in text(page, "certificate-missing")
    answer_all(page)
    assert page.locator("#certificate-missing").is_hidden() and page.locator("#certificate-page").is_hidden()
    page.click("#certificate-form button")
    assert page.evaluate("printed") == 0  # without a name
    page.fill("#certificate-name", "Ada Lovelace <b>")
    page.click("#certificate-form button")
    assert page.evaluate("printed") == 1
    assert text(page, "certificate-person") == "Ada Lovelace <b>"
    assert str(page.evaluate("new Date().getFullYear()")) in text(page, "certificate-date")
    page.emulate_media(media="print")
    assert page.locator("#certificate-page").is_visible()
    for name in ("what", "questions", "certificate-title", "certificate-form", "status", "contents"):
        assert page.locator(f"#{name}").is_hidden(), name
    pdf = page.pdf(format="A4")
    assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") == 1
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#what").is_visible()
    page.click("#forget")
    assert page.locator("#certificate-page").is_hidden() and page.locator("#certificate-form").is_hidden()


def test_nonsense_in_the_address_is_told_and_replaced(pages):
    page = begin(pages, "?t=9999&subject=cat&digit=12")
    problem = text(page, "problem")
    assert "t = “9999”" in problem and "subject = “cat”" in problem and "digit = “12”" in problem
    assert page.locator("#forward-t").input_value() == "50" and page.locator("#play-subject").input_value() == "digit"


def test_keyboard_alone(pages):
    page = begin(pages, "?speed=100&turn=2")
    reached = reached_by_keyboard(page)
    wanted = ["what-label", "what-seed", "what-draw", "what-at", "digit", "forward-t", "share", "early-draw", "reverse-t"]
    wanted += ["reverse-step", "reverse-all", "losses-measure", "twice-draw", "journey-next", "play-subject", "play-trip"]
    wanted += ["play-speed", "play-turn", "q1", "q7"]
    places = [reached.index(name) for name in wanted[:16]]
    assert places == sorted(places) and not set(wanted) - set(reached)
    page.focus("#forward-t")
    page.keyboard.press("ArrowRight")
    wait(page, "forward-where", "51")
    page.focus("#play-trip")
    page.keyboard.press("Enter")
    wait(page, "status", "Arrived")
    page.focus("#digit-choice input:checked")
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**digit=4**")
    page.focus("#q7 input")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    wait(page, "status", "Right.")


def test_nothing_blocks(pages):
    page = begin(pages, "?speed=100")
    for attempt in range(TRIES):
        watch_long_tasks(page)
        page.click("#play-trip")
        page.click("#reverse-all")
        page.click("#losses-measure")
        for t in range(0, 200, 20):
            move(page, "forward-t", t)
        wait(page, "status", "Measured")
        wait(page, "play-progress-words", "done")
        longest = longest_task(page)
        if longest == 0:
            return
        page.reload()
        loaded(page)
    assert longest == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_where_all_is_open(pages, scheme):
    page = begin(pages, "?subject=drawing&part=6&speed=100&turn=5", color_scheme=scheme)
    answer_all(page)
    page.locator("#q3 input").nth(0).check()
    page.click("#q3 button")
    page.locator("#q3 input").nth(2).check()
    page.click("#q3 button")
    page.evaluate("globalThis.print = () => {}")
    page.fill("#certificate-name", "Ada")
    page.click("#certificate-form button")
    page.click("#play-trip")
    wait(page, "status", "Arrived")
    assert serious(page) == []


def test_narrow_where_all_is_open(pages):
    page = begin(pages, "?subject=drawing&part=6&speed=100&turn=5", viewport=NARROW)
    answer_all(page)
    page.evaluate("globalThis.print = () => {}")
    page.fill("#certificate-name", "A very long name " * 3)
    page.click("#certificate-form button")
    page.click("#losses-measure")
    wait(page, "status", "Measured")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_with_reduced_motion_no_picture_moves_by_itself(pages):
    page = pages.open("lesson.html", reduced_motion="reduce")
    page.evaluate("""() => {
      globalThis.places = new Set();
      new MutationObserver(() => places.add(document.getElementById("what-where").textContent))
        .observe(document.getElementById("what-where"), { childList: true });
    }""")
    loaded(page)
    assert set(page.evaluate("[...places]")) <= {f"0 of {lesson.TRIP}", f"{lesson.TRIP} of {lesson.TRIP}"}


def served(files):
    server = serve.server(files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://{serve.HOST}:{server.server_port}/"


def test_a_damaged_model_leaves_the_text(pages, site):
    weights = "digits/weights.safetensors"
    server, at = served({**site, weights: site[weights][:50_000]})
    page = loaded(pages.open("lesson.html", at=at))
    assert "weights.safetensors is truncated or damaged" in text(page, "problem")
    assert text(page, "status").startswith("The text and the questions are here")
    answer_all(page)
    assert "7 of 7" in text(page, "progress")
    server.shutdown()
    server.server_close()


def test_beside_a_model_of_ones_own(pages, site):
    """The lesson keeps to the shipped one, in a folder of its own."""
    other = build.contents(shipped.load()._replace())  # another, as far as the site knows
    assert {"lesson/program.json", "lesson/weights.safetensors"} <= other.keys()
    server, at = served({name: content for name, content in other.items() if not name.startswith("digits/")})
    pages.expected += ["digits/"]  # which the service worker does not find
    page = loaded(pages.open("lesson.html", at=at))
    assert text(page, "status") == "Ready"
    server.shutdown()
    server.server_close()


def test_what_one_can_try_is_there(pages):
    page = begin(pages)
    links = page.eval_on_selector_all("#further a:not([href^=http])", "(all) => all.map((each) => each.getAttribute('href'))")
    assert len(links) >= 8
    for link in links:
        there = loaded(pages.open_in(page.context, link))
        assert there.locator("#problem").text_content() == "", link
        there.close()
