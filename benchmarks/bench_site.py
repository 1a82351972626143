"""How fast the page of digits is in Chromium and how much it loads, with as many threads as the page takes.

    python benchmarks/bench_site.py
    python benchmarks/bench_site.py --dry-run --repeats 1

Needs Playwright, of the extra ``test``, and a Chromium.
"""

from __future__ import annotations

import gzip
import sys
import threading
from importlib.metadata import version
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

import measure
from tinydiff.pages import build, serve

sys.path.append(str(measure.HERE.parent))
from tests.site.hosts import QUIET, find  # noqa: E402

STEPS = 25
# (what, whether all of a row at once, options of the drawing)
WORKS = [
    ("a digit, guidance 1", False, {"guidance": 1}),
    ("a digit, guidance 2", False, {"guidance": 2}),
    ("a row of ten, guidance 1", True, {"guidance": 1}),
    ("a row of ten, guidance 2", True, {"guidance": 2}),
]
PAGE = "index.html"
FIRST_BYTES = b"\x1f\x8b"  # of gzip
READY = "document.getElementById('status').textContent.startsWith('Ready. ')"
# Seconds of each of so many drawings, one before them not counted.
TIME = """async ([isRow, options, repeats]) => {
  const { page } = await import(new URL("digits.js", location.href)), { model } = page;
  await page.over;
  const seconds = [];
  for (let i = 0; i <= repeats; i++) {
    const begun = performance.now();
    const drawing = isRow ? model.drawRow({ labels: page.row.labels, ...options }) : model.draw({ label: 3, ...options });
    for await (const part of drawing);
    if (i > 0) seconds.push((performance.now() - begun) / 1e3);
  }
  return seconds;
}"""


def main():
    parser = measure.arguments(__doc__, repeats=20)
    args = parser.parse_args()
    files, rows, loaded = build.contents(), [], set()
    server = serve.server(files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://{serve.HOST}:{server.server_port}/"
    with sync_playwright() as playwright:
        program = find("chromium", "chromium-browser", "google-chrome")
        browser = playwright.chromium.launch(executable_path=program, args=QUIET.split())
        chromium = browser.version
        page = browser.new_context(service_workers="block").new_page()  # or it would load all pages for later
        page.on("response", lambda answer: loaded.add(urlsplit(answer.url).path.lstrip("/")))
        page.goto(address + PAGE)
        page.wait_for_function(READY)
        rows.append(size(files, loaded))
        threads = page.evaluate("crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1")
        for what, is_row, options in WORKS:
            seconds = page.evaluate(TIME, [is_row, {"steps": STEPS, "sampler": "ddim", **options}, args.repeats])
            columns = {"work": f"{what}: {STEPS} steps of DDIM", "threads": threads, **measure.summary(seconds)}
            rows.append({**columns, "ms a step": measure.short(columns["median ms"] / STEPS)})
        browser.close()
    server.shutdown()
    server.server_close()
    for row in rows:
        print(row)
    measure.save("site", rows, dry_run=args.dry_run, chromium=chromium, playwright=version("playwright"))


def size(files, loaded):
    """The row of what the page had loaded when its first digit was drawn."""
    names = [name for name in files if name in loaded]
    raw = [unpacked(files[name]) for name in names]
    columns = {"work": f"loading {PAGE}: {len(names)} files"}
    return {**columns, "kB": round(sum(map(len, raw)) / 1e3), "kB gzipped": round(sum(map(packed_size, raw)) / 1e3)}


def unpacked(content):
    return gzip.decompress(content) if content.startswith(FIRST_BYTES) else content


def packed_size(content):
    return len(gzip.compress(content, build.HARDEST))


if __name__ == "__main__":
    main()
