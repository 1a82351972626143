import threading

import pytest

from tests.pages.browser import Pages
from tests.site.hosts import QUIET, find
from tinydiff.pages import build, serve


@pytest.fixture(scope="session")
def site():
    """The files of the site, {path: bytes}."""
    return build.contents()


@pytest.fixture(scope="session")
def chromium():
    """A browser; the test is skipped, with a word, where there is none."""
    program = find("chromium", "chromium-browser", "google-chrome")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=QUIET.split())
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address(site):
    """Where the site is served."""
    server = serve.server(site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{serve.HOST}:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def pages(chromium, address):
    """Opens pages; at the end none of them may have had an error in its console that the test did not expect."""
    with Pages(chromium, address) as opened:
        yield opened
