"""The command ``tinydiff site``."""

from __future__ import annotations

import contextlib
import webbrowser

from tinydiff import terminal
from tinydiff.pages import build, serve
from tinydiff.train import checkpoint as checkpoints

PORT = 8000


def add_arguments(parser):
    """The arguments of ``site``."""
    parser.description = (
        "Open the site: digits drawn, models trained, gradients worked by the engine in the browser. It is served on this "
        "computer alone, until Ctrl-C; or, with --out, written as a folder for any static host."
    )
    parser.add_argument("--out", metavar="DIR", help="write the site into a new or empty folder and serve nothing")
    parser.add_argument("--model", metavar="RUN", help="draw with this run or checkpoint (default: digits, shipped)")
    parser.add_argument("--port", type=int, help=f"to serve on; 0: any that is free (default {PORT})")
    parser.add_argument("--no-browser", action="store_true", help="serve, and open nothing")


def site(args):
    """Make the site; serve it, or write it."""
    for name in ("port", "no_browser"):
        if args.out is not None and getattr(args, name):
            raise ValueError(f"{name.replace('_', '-')} goes without --out: nothing is served then")
    if args.port is not None and not 0 <= args.port < 2**16:
        raise ValueError(f"port must lie in [0, {2**16}), got {args.port}")
    checkpoint = checkpoints.load(args.model) if args.model is not None else None
    if args.out is not None:
        build.write(args.out, checkpoint)
        print(f"wrote {terminal.one_line(args.out)}")
        return
    port = PORT if args.port is None else args.port
    files = build.contents(checkpoint)
    try:
        server = serve.server(files, port)
    except OSError as error:
        raise ValueError(
            f"port {port} cannot be served on ({error.strerror}); --port 0 takes one that is free"
        ) from None
    address = f"http://{serve.HOST}:{server.server_port}/"
    print(f"the site is at {address}; Ctrl-C ends it", flush=True)
    if not args.no_browser:
        webbrowser.open(address)
    with server, contextlib.suppress(KeyboardInterrupt):  # which is how it is meant to end
        server.serve_forever()
