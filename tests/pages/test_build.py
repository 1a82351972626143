"""The files of the site: pages made of their parts, and served."""

import contextlib
import gzip
import http.client
import re
import threading

import pytest

from tinydiff import cli
from tinydiff.pages import build, page, serve


def test_formulas_become_mathml():
    text = page.with_formulas(r"<p>with \(x_t &lt; 1\) and</p> \[ \sqrt{\bar\alpha_t} \]")
    inline, display = re.findall("<math.*?</math>", text)
    assert "display" not in inline and "<msub>" in inline and "&#x0003C;" in inline
    assert 'display="block"' in display and "<msqrt>" in display
    assert text.startswith("<p>with ") and r"\(" not in text


@pytest.fixture
def a_page(tmp_path, monkeypatch):
    """A page with one place for a fact."""
    (tmp_path / "lab.html").write_text(
        "<!-- title: A title -->\n<!-- description: words -->\n<!-- script: lab.js -->\n<p>{{many}} points</p>"
    )
    for name in ("layout.html", "engine.wasm"):
        (tmp_path / name).write_bytes((page.SITE / name).read_bytes())
    monkeypatch.setattr(page, "SITE", tmp_path)


def test_a_page_in_its_layout(a_page):
    text = page.page("lab", {"many": "300"}).decode()
    assert "<title>A title · tinydiff</title>" in text and 'src="lab.js"' in text and "<p>300 points</p>" in text
    assert text.count("aria-current") == 1 and 'href="lab.html" aria-current="page">Lab' in text
    assert "{{" not in text


@pytest.mark.parametrize(
    "facts, problem", [({}, "many is no fact"), ({"many": "1", "few": "2"}, "few is a fact without a place")]
)
def test_facts_and_places_go_together(a_page, facts, problem):
    with pytest.raises(ValueError, match=f"lab.html: {problem}"):
        page.page("lab", facts)


@pytest.fixture
def ask():
    """Asks a server of three files: (status, headers, content)."""
    server = serve.server({"index.html": b"<p>", "a/b.js": b"x", "engine.wasm": b"\0asm"})
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def answer(path, method="GET"):
        with contextlib.closing(http.client.HTTPConnection(serve.HOST, server.server_port)) as connection:
            connection.request(method, path)
            found = connection.getresponse()
            return found.status, dict(found.getheaders()), found.read()

    yield answer
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "path, content, kind",
    [
        ("/", b"<p>", "text/html; charset=utf-8"),
        ("/index.html?seed=3", b"<p>", "text/html; charset=utf-8"),
        ("/a/b.js", b"x", "text/javascript; charset=utf-8"),
        ("/engine.wasm", b"\0asm", "application/wasm"),
    ],
)
def test_what_is_served(ask, path, content, kind):
    status, headers, found = ask(path)
    assert (status, headers["Content-Type"], found) == (200, kind, content)
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin", "else threads share no memory"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert ask(path, "HEAD")[::2] == (200, b"")


@pytest.mark.parametrize("path", ["/nothing.js", "/../pyproject.toml", "/a", "//index.html/x"])
def test_what_is_not_there_is_not_served(ask, path):
    status, _, content = ask(path)
    assert status == 404 and b"<" not in content


@pytest.mark.parametrize("error, is_told", [(ConnectionResetError, False), (BrokenPipeError, False), (KeyError, True)])
def test_a_browser_that_goes_away_is_no_error(error, is_told, capsys):
    with serve.server({}) as server:
        try:
            raise error
        except error:
            server.handle_error(None, ("localhost", 1))
    assert (error.__name__ in capsys.readouterr().err) == is_told


def test_the_site_as_a_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(build, "contents", lambda checkpoint=None, **_: {"index.html": b"<p>", "digits/a": b"1"})
    assert cli.main(["site", "--out", str(tmp_path / "site")]) == 0
    assert (tmp_path / "site" / "digits" / "a").read_bytes() == b"1"
    assert "wrote" in capsys.readouterr().out
    assert cli.main(["site", "--out", str(tmp_path / "site")]) == 2
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["--port", "70000"], "port must lie in [0, 65536), got 70000"),
        (["--out", "x", "--port", "80"], "port goes without --out"),
        (["--out", "x", "--no-browser"], "no-browser goes without --out"),
        (["--model", "nowhere"], "nowhere does not exist"),
    ],
)
def test_bad_input(arguments, problem, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["site", *arguments]) == 2
    error = capsys.readouterr().err
    assert problem in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken(capsys, monkeypatch):
    monkeypatch.setattr(build, "contents", lambda checkpoint=None, **_: {})
    with serve.server({}) as taken:
        assert cli.main(["site", "--no-browser", "--port", str(taken.server_port)]) == 2
    assert f"port {taken.server_port} cannot be served on" in capsys.readouterr().err


def test_served_until_it_is_interrupted(capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(build, "contents", lambda checkpoint=None, **_: {})
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(
        "http.server.ThreadingHTTPServer.serve_forever", lambda self: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    assert cli.main(["site", "--port", "0"]) == 0
    assert opened and opened[0] in capsys.readouterr().out


@pytest.mark.slow
def test_large_files_are_gzipped_and_the_rest_is_not(site):
    for name, content in site.items():
        packed = name.endswith(build.GZIPPED)
        assert content.startswith(b"\x1f\x8b") == packed, name
        assert not packed or len(content) < max(100, len(gzip.decompress(content))), name
    kept = re.search(r'FILES = "([^"]*)"', site["offline.js"].decode())[1].split()
    assert {*kept, "offline.js"} == site.keys()
