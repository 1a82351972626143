"""Pages of the site in a real browser, and what all of them must keep to."""

import contextlib
import json
from importlib import resources

WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 360, "height": 740}
PATIENCE = 60_000  # milliseconds; a busy machine is no reason to fail
LONGEST_TASK = 50  # milliseconds that a page may not answer
SERIOUS = ("serious", "critical")


class Pages:
    """Opens pages, each as a visitor would who was never here.

    What was in the console as an error or warning, and exceptions nobody caught, must at the end be ``expected``: each
    must contain one of these texts.
    """

    def __init__(self, browser, address):
        self.browser, self.address = browser, address
        self.expected, self.heard, self._contexts = [], [], []

    def open(self, name, *, at=None, viewport=WIDE, **options):
        """The Playwright page of NAME (with a query); ``options`` are those of a browser context, such as
        ``color_scheme`` and ``reduced_motion``."""
        context = self.browser.new_context(viewport=viewport, **options)
        self._contexts.append(context)
        return self.open_in(context, name, at=at)

    def open_in(self, context, name, *, at=None):
        """Another page of a visitor who is here already."""
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda said: said.type in ("error", "warning") and self.heard.append(said.text))
        page.on("pageerror", lambda error: self.heard.append(str(error)))
        page.goto((self.address if at is None else at) + name)
        return page

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for context in self._contexts:
            context.close()
        if kind is None:
            unexpected = [text for text in self.heard if not any(each in text for each in self.expected)]
            assert not unexpected, unexpected


def serious(page):
    """What axe finds on a page that is serious: [(rule, what it is about)]."""
    axe = resources.files("axe_playwright_python") / "axe.min.js"
    page.evaluate(axe.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    return [(each["id"], [node["target"] for node in each["nodes"]]) for each in found if each["impact"] in SERIOUS]


@contextlib.contextmanager
def main_thread(page):
    """Within: what a page's main thread does is written down; gives a list that holds at the end, for each of its
    tasks, the milliseconds that it computed: the same on a machine that has other work."""
    session, done, tasks = page.context.new_cdp_session(page), [], []
    session.on("Tracing.tracingComplete", lambda stream: done.append(stream))
    categories = "devtools.timeline,disabled-by-default-devtools.timeline"
    session.send("Tracing.start", {"categories": categories, "transferMode": "ReturnAsStream"})
    yield tasks
    session.send("Tracing.end")
    while not done:
        page.wait_for_timeout(50)
    text, part = "", {"eof": False}
    while not part["eof"]:
        part = session.send("IO.read", {"handle": done[0]["stream"]})
        text += part["data"]
    events = json.loads(text)["traceEvents"]
    threads = {
        (each["pid"], each["tid"])
        for each in events
        if each["name"] == "thread_name" and each["args"]["name"] == "CrRendererMain"
    }
    ran = (each for each in events if each["name"] == "RunTask" and (each["pid"], each["tid"]) in threads)
    tasks += [each.get("tdur", 0) / 1000 for each in ran]


def reached_by_keyboard(page, count=400):
    """What Tab reaches, one after another from the page's start until it comes round: the id, name or text of each."""
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(count):
        page.keyboard.press("Tab")
        now = page.evaluate(
            """() => {
              const at = document.activeElement;
              if (at === document.body) return null;
              return at.id || at.name || at.getAttribute("aria-label") || at.textContent.trim();
            }"""
        )
        if now is None:
            break
        reached.append(now)
    return reached
