"""Where the engine runs: node, and a page in Chromium. Each is told a list of things to do and answers with results."""

import base64
import http.server
import json
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

import tinydiff

SITE = Path(tinydiff.__file__).parent / "site"
HERE = Path(__file__).parent
KINDS = {"float32": "Float32Array", "uint8": "Uint8Array", "int64": "BigInt64Array", "uint64": "BigUint64Array"}
QUIET = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
QUIET += " --disable-component-update --disable-sync"
PAGE = """<!doctype html><meta charset="utf-8"><title>tests</title><script type="module">
const steps = await (await fetch("/steps")).json();
const perform = async () => (await import("/driver.js")).perform("/site", steps);
const results = await perform().catch((error) => [{ error: error.stack }]);
await fetch("/results", { method: "POST", body: JSON.stringify(results) });
</script>"""


def find(*programs):
    """The path of a program; skips the test where there is none, but not where all must be there."""
    path = next(filter(None, map(shutil.which, programs)), None)
    if path is None and os.environ.get("TINYDIFF_ALL_TESTS"):
        pytest.fail(f"{programs[0]} is not installed")
    if path is None:
        pytest.skip(f"needs {programs[0]}")
    return path


class Node:
    """The engine in node, on files.

    driver  the module whose ``perform`` does the steps
    """

    def __init__(self, *, driver=HERE / "driver.js"):
        self.program, self._driver = find("node", "nodejs"), driver

    def address(self, path):
        return Path(path).as_uri()

    def do(self, *steps, site=SITE):
        """The results of the steps; of one that failed {"error": its words}."""
        given = json.dumps(_packed(steps))
        command = [self.program, HERE / "run.mjs", self._driver, site]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=500, check=False)
        assert done.returncode == 0, done.stderr
        return _unpacked(json.loads(done.stdout))


class Chromium:
    """The engine in a page of a headless browser, over HTTP.

    isolated  whether the page is cross-origin isolated, so that threads may share memory
    """

    def __init__(self, *, isolated=False, driver=HERE / "driver.js"):
        self.program = find("chromium", "chromium-browser", "google-chrome")
        self._isolated, self._driver = isolated, driver

    def address(self, path):
        return f"/files{Path(path).resolve()}"

    def do(self, *steps, site=SITE):
        results, done = [], threading.Event()
        roots = {"/site": site, "/driver.js": self._driver, "/files": Path("/")}
        isolated = self._isolated

        class Handler(http.server.SimpleHTTPRequestHandler):
            extensions_map = {".js": "text/javascript", ".wasm": "application/wasm", "": "application/octet-stream"}

            def do_GET(self):
                if self.path == "/":
                    return self.answer(PAGE.encode(), "text/html")
                if self.path == "/steps":
                    return self.answer(json.dumps(_packed(steps)).encode(), "application/json")
                return super().do_GET()

            def do_POST(self):
                results.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer(b"", "text/plain")
                done.set()

            def answer(self, content, kind):
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def end_headers(self):
                if isolated:
                    self.send_header("Cross-Origin-Opener-Policy", "same-origin")
                    self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
                super().end_headers()

            def translate_path(self, path):
                root = next((root for root in roots if f"{path}/".startswith(f"{root}/")), None)
                return str(roots[root]) + path.removeprefix(root) if root else "/nonexistent"

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            page = f"http://localhost:{server.server_port}/"
            options = [*QUIET.split(), f"--user-data-dir={profile}", "--no-proxy-server", page]
            browser = subprocess.Popen([self.program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                assert done.wait(500), "the page did not answer"
            finally:
                browser.terminate()
                browser.wait()
                server.shutdown()
                server.server_close()
        return _unpacked(results)


HOSTS = {"node": Node, "chromium": Chromium}


def _packed(value):
    if isinstance(value, np.ndarray):
        return {"kind": KINDS[value.dtype.name], "base64": base64.b64encode(value.tobytes()).decode()}
    if isinstance(value, dict):
        return {key: _packed(each) for key, each in value.items()}
    return [_packed(each) for each in value] if isinstance(value, (list, tuple)) else value


def _unpacked(value):
    if isinstance(value, dict) and "base64" in value:
        dtype = next(dtype for dtype, kind in KINDS.items() if kind == value["kind"])
        return np.frombuffer(base64.b64decode(value["base64"]), dtype)
    if isinstance(value, dict):
        return {key: _unpacked(each) for key, each in value.items()}
    return [_unpacked(each) for each in value] if isinstance(value, list) else value
