"""Files of data sets: found on disk, or downloaded into the user's cache and checked."""

from __future__ import annotations

import gzip
import http.client
import os
import tempfile
import urllib.request
import zlib
from pathlib import Path

from tinydiff.files import cache_dir
from tinydiff.progress import progress_bar


class NotFound(ValueError):
    """The files are in none of the places looked at and could not be downloaded."""


def obtain(dataset, names, is_right, mirrors, *, data_dir=None, download=True):
    """The path of a file or folder of a data set, under any of its names, downloading the first if need be.

    Looks in ``data_dir`` (and nowhere else, if given), else in ``$TINYDIFF_DATA`` and the user's cache, and in each also
    in the folder called as the data set; then downloads into the cache, unless ``download`` is off.

    is_right  path -> whether a download has the expected content; a ``ValueError`` of it counts as no
    mirrors   folders on the web that hold it; ``$TINYDIFF_MIRROR`` takes their place

    Raises ``NotFound`` saying where it looked and what went wrong at each mirror.
    """
    if data_dir:
        places = [Path(data_dir)]
    else:
        places = [Path(os.environ["TINYDIFF_DATA"])] if os.environ.get("TINYDIFF_DATA") else []
        places.append(cache_dir(dataset))
    for place in places:
        for folder in (place, place / dataset):
            for name in names:
                if (folder / name).exists():
                    return folder / name
    looked = f"{' or '.join(names)} is not in {' or '.join(map(str, places))}"
    if data_dir or not download:
        raise NotFound(looked)

    mirrors = (os.environ["TINYDIFF_MIRROR"],) if os.environ.get("TINYDIFF_MIRROR") else mirrors
    failures = []
    for mirror in mirrors:
        url = mirror.rstrip("/") + "/" + names[0]
        try:
            return _fetch(url, cache_dir(dataset) / names[0], is_right)
        except (OSError, ValueError, http.client.HTTPException) as error:
            failures.append(f"{url}: {getattr(error, 'reason', error)}")
    raise NotFound(f"{looked}, and could not be downloaded: {'; '.join(failures)}")


def _fetch(url, path, is_right):
    """Download a file, which appears at the path whole and checked, or not at all; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as out, urllib.request.urlopen(url, timeout=30) as response:
            _copy_with_progress(response, out, path.name)
        if not is_right(partial):
            raise ValueError("the content has the wrong checksum")
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)
    return path


def unzipped(path):
    """The bytes of a file, unzipped if it is gzipped. Raises ``ValueError`` naming it if it is damaged."""
    content = Path(path).read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is truncated or damaged: {error}") from None


def _copy_with_progress(response, out, file):
    size = int(response.headers.get("Content-Length") or 0) or None
    with progress_bar(total=size, unit="byte", unit_scale=True, desc=file) as bar:
        while chunk := response.read(1 << 16):
            out.write(chunk)
            bar.update(len(chunk))
