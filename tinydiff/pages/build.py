"""All files of the site.

What browsers load by the engine (programs, weights, the engine itself) is gzipped, whatever its name, and unpacked by
``site/program_file.js``: so it is small on every host.
"""

from __future__ import annotations

import gzip
import hashlib

from tinydiff.files import write_folder_atomically
from tinydiff.pages import digits, gradients, lab, lesson, shipped
from tinydiff.pages.page import SITE, page

PAGES = {"index": digits, "lab": lab, "lesson": lesson, "gradients": gradients}
OFFLINE = "offline.js"
AS_THEY_ARE = (".css", ".js", ".svg")
GZIPPED = (".wasm", ".json", ".safetensors")
HARDEST = 9  # of gzip


def write(folder, checkpoint=None, *, say=lambda words: None):
    """Write the site into a folder, which appears whole or not at all; arguments as for ``contents``.

    Raises ``ValueError`` for a folder that is there and not empty, and ``OSError`` if it cannot be written.
    """
    write_folder_atomically(folder, contents(checkpoint, say=say))


def contents(checkpoint=None, *, say=lambda words: None):
    """The files, {path: bytes}.

    checkpoint  whose averaged parameters draw; by default those that come with the package
    say         is told what is being made
    """
    checkpoint = checkpoint or shipped.load()
    files = {}
    for name, module in PAGES.items():
        say(f"{name}.html")
        facts, more = module.make(checkpoint)
        files |= {f"{name}.html": page(name, facts), **more}
    for path in SITE.iterdir():
        if path.name.endswith((*AS_THEY_ARE, *GZIPPED)):
            files[path.name] = path.read_bytes()
    files = {name: _gzip(content) if name.endswith(GZIPPED) else content for name, content in sorted(files.items())}
    files[OFFLINE] = _offline(files)
    return files


def _offline(files):
    """The Service Worker, told which files there are; its version is that of all of them."""
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name} {len(content)} ".encode() + content)
    names = " ".join(name for name in files if name != OFFLINE)
    text = files[OFFLINE].decode()
    return text.replace("{{version}}", digest.hexdigest()[:16]).replace("{{files}}", names).encode()


def _gzip(content):
    return gzip.compress(content, HARDEST, mtime=0)  # the same bytes whenever it is made
