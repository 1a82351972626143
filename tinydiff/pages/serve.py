"""A server on this computer for the files of the site, which lie in memory."""

from __future__ import annotations

import http.server
import mimetypes
import posixpath
import sys
import urllib.parse

HOST = "localhost"
TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".svg": "image/svg+xml"}
UNKNOWN = "application/octet-stream"


def server(files, port=0):
    """An HTTP server of {path: bytes} for this computer alone; ``serve_forever`` starts it.

    port  0 takes one that is free; ``server_port`` says which

    It sends the headers that make a page cross-origin isolated, so that threads may share memory.
    Raises ``OSError`` if the port is taken.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self._answer(with_body=True)

        def do_HEAD(self):
            self._answer(with_body=False)

        def _answer(self, with_body):
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).lstrip("/")
            name = "index.html" if path == "" else path
            found = files.get(name)
            content = f"there is no {name} here\n".encode() if found is None else found
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "text/plain; charset=utf-8" if found is None else _type_of(name))
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-cache")
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            self.end_headers()
            if with_body:
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    return Server((HOST, port), Handler)


class Server(http.server.ThreadingHTTPServer):
    """One for which a browser that goes away in the middle of an answer is nothing to report."""

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _type_of(name):
    ending = posixpath.splitext(name)[1]
    kind = TYPES.get(ending) or mimetypes.guess_type(name)[0] or UNKNOWN
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
