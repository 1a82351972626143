"""The lesson in a browser: each section's control does what it says, and shows what Python computes."""

import base64

import numpy as np
import pytest

from tests.checks import same_bits
from tests.pages.test_all_pages import loaded
from tests.pages.test_lesson_python import denoiser, normal, real
from tinydiff.noise import predictions, schedules
from tinydiff.noise.corrupt import Corruptor
from tinydiff.noise.schedules import Schedule
from tinydiff.pages import lesson, shipped
from tinydiff.samplers.ddim import ddim

pytestmark = pytest.mark.slow
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
    says = "([id, words]) => document.getElementById(id).textContent.includes(words)"
    page.wait_for_function(says, arg=[name, words])


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
        told = text(page, "forward-snr").removesuffix(" dB").replace("−", "-")
        assert float(told) == round(schedule.snr_db[t - 1], 1)
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
    unscaled = Schedule("", np.linspace(1e-4, 0.02, 200))
    known = {"linear": schedules.linear(), "cosine": schedules.cosine(), "unscaled": unscaled}
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
    noisy, end = trip_by_python(baseline, schedule, real(9), 4, lesson.TRIP)
    assert same_bits(shown(page, "playground")["x"], noisy.ravel())
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
    assert same_bits(shown(page, "playground")["x"], end.ravel())
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
