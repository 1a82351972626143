"""What every page of the site keeps to."""

import gzip
import threading

import pytest

from tests.pages.browser import NARROW, WIDE, serious
from tinydiff.pages import build, serve
from tinydiff.pages.page import NAMES

pytestmark = pytest.mark.slow
LARGEST = 600_000  # bytes without weights, as a host sends them: text gzipped
LARGEST_MODEL = 1_500_000
WEIGHTS = ".safetensors"


def loaded(page):
    """Wait until the page has ended loading: its status says something else."""
    page.wait_for_function("!document.getElementById('status').textContent.startsWith('Loading')")
    return page


def test_its_size(site):
    sent = {name: content if name.endswith(build.GZIPPED) else gzip.compress(content) for name, content in site.items()}
    without_weights = sum(len(content) for name, content in sent.items() if not name.endswith(WEIGHTS))
    weights = sum(len(content) for name, content in site.items() if name.endswith(WEIGHTS))
    assert without_weights <= LARGEST and weights <= LARGEST_MODEL


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_serious_for_accessibility(pages, name, scheme):
    page = loaded(pages.open(f"{name}.html", color_scheme=scheme))
    assert serious(page) == []


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_wider_than_the_screen(pages, name, viewport):
    page = loaded(pages.open(f"{name}.html", viewport=viewport))
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


@pytest.mark.parametrize("name", NAMES)
def test_the_first_thing_that_tab_reaches_skips_to_the_content(pages, name):
    page = loaded(pages.open(f"{name}.html"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize("name", NAMES)
def test_nonsense_in_the_address_is_told(pages, name):
    page = loaded(pages.open(f"{name}.html?seed=lots&nonsense=1"))
    assert "nonsense" in page.locator("#problem").text_content()


def test_without_a_network_after_the_first_visit(pages, site):
    server = serve.server(site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    at = f"http://{serve.HOST}:{server.server_port}/"
    first = loaded(pages.open("index.html", at=at))
    first.evaluate("navigator.serviceWorker.ready.then((kept) => kept.active.state)")
    first.wait_for_function("navigator.serviceWorker.controller !== null")
    server.shutdown()
    server.server_close()
    for name in ("", "?seed=3", *(f"{name}.html" for name in NAMES)):
        page = loaded(pages.open_in(first.context, name, at=at))
        assert page.locator("#problem").text_content() == ""
        page.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_browser_without_simd(pages, name):
    page = pages.open("index.html")
    page.add_init_script("WebAssembly.validate = () => false")
    page.goto(f"{pages.address}{name}.html")
    page.wait_for_function("document.getElementById('problem').textContent.includes('SIMD')")


def test_under_a_path_of_another_site(pages, site):
    server = serve.server({f"some/where/{name}": content for name, content in site.items()})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = loaded(pages.open("some/where/index.html", at=f"http://{serve.HOST}:{server.server_port}/"))
    assert page.locator("#problem").text_content() == ""
    server.shutdown()
    server.server_close()


def test_opened_as_a_file(pages, site, tmp_path):
    build.write(tmp_path / "site")
    pages.expected += ["file", "ERR_FAILED", "CORS", "Cross-Origin"]
    page = pages.open((tmp_path / "site" / "index.html").as_uri(), at="")
    page.wait_for_function("document.getElementById('problem').textContent.includes('tinydiff site')")


def test_the_same_site_is_the_same_bytes(site):
    assert build.contents() == site
