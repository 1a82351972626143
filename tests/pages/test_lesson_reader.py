"""The lesson and its reader: questions, progress, the certificate; by keyboard, on a small screen, when things fail."""

import threading

import pytest

from tests.pages.browser import LONGEST_TASK, NARROW, main_thread, reached_by_keyboard, serious
from tests.pages.test_all_pages import loaded
from tests.pages.test_lesson import begin, move, text, wait
from tinydiff.pages import build, lesson, lesson_questions, serve, shipped

pytestmark = pytest.mark.slow


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
    wanted = ["what-label", "what-seed", "what-draw", "what-at", "digit", "forward-t", "share", "early-draw"]
    wanted += ["reverse-t", "reverse-step", "reverse-all", "losses-measure", "twice-draw", "journey-next"]
    wanted += ["play-subject", "play-trip"]
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
    with main_thread(page) as tasks:
        page.click("#play-trip")
        page.click("#reverse-all")
        page.click("#losses-measure")
        for t in range(0, 200, 20):
            move(page, "forward-t", t)
        wait(page, "status", "Measured")
        wait(page, "play-progress-words", "done")
    assert len(tasks) > 100 and 1 < max(tasks) < LONGEST_TASK


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
    links = page.locator("#further a:not([href^=http])")
    links = links.evaluate_all("(all) => all.map((each) => each.getAttribute('href'))")
    assert len(links) >= 8
    for link in links:
        there = loaded(pages.open_in(page.context, link))
        assert there.locator("#problem").text_content() == "", link
        there.close()
