"""A folder of images with captions, as Hugging Face's image folders have them: beside the images lies one file of texts.

    metadata.jsonl   a line an image: {"file_name": "dogs/1.jpg", "text": "a dog"}
    metadata.csv     a header line that names the columns file_name and text, then a line an image

Other fields and columns are passed over, and so are images without a caption, which are counted. An image may have
several lines: each text is as likely to be met, and the image as often as it has texts. The rules for images are those
of ``folder``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np

from tinydiff.data.dataset import Captioned
from tinydiff.data.folder import File, LeftOut, images_in

METADATA = ("metadata.jsonl", "metadata.csv")
COLUMNS = ("file_name", "text")


def load(path, *, size=None, skip_unreadable=False, cache=True, say=print):
    """The images under ``path`` that have captions, as a ``Captioned`` named "folder"; arguments as of ``folder.load``.

    Raises ``ValueError`` for a folder without a file of captions, or with two; for a line without file name or text; for
    an image that is missing (unless what cannot be read is skipped); and as ``folder.load``.
    """
    if size is not None and size < 1:
        raise ValueError(f"image_size must be at least 1, got {size}")
    path = Path(path)
    left_out, texts_of = LeftOut(path, skip_unreadable, say), {}
    for name, text in _captions(path):
        texts_of.setdefault(name, []).append(text)
    files = []
    for name in texts_of:
        try:
            found = os.stat(path / name)
            files.append(File(name, found.st_size, found.st_mtime_ns))
        except OSError as error:
            left_out.unreadable(name, error)
    images, unreadable = images_in({"captioned": files}, size, left_out, cache)
    readable = [file for file in files if file.name not in set(unreadable)]
    counts = [len(texts_of[file.name]) for file in readable]
    texts = [text for file in readable for text in texts_of[file.name]]
    image_of = np.repeat(np.arange(len(images)), counts) if max(counts) > 1 else None
    digest = hashlib.sha256(repr([(file.name, file.size) for file in readable]).encode()).hexdigest()[:16]
    say(f"{path}: {len(readable):,} images, {len(texts):,} captions")
    return Captioned.of("folder", images, texts, digest, image_of)


def _captions(path):
    """(file name, text) of every line."""
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder")
    there = [name for name in METADATA if (path / name).is_file()]
    if len(there) != 1:
        found = f"holds both {' and '.join(there)}" if there else f"holds neither {' nor '.join(METADATA)}"
        raise ValueError(f"{path} {found}; captions are read from one of them")
    file = path / there[0]
    try:
        text = file.read_text(encoding="utf-8-sig")  # spreadsheets begin their files with a mark of the encoding
    except ValueError as error:
        raise ValueError(f"{file} is not text in UTF-8: {error}") from None
    rows = list(_rows_of_json(text, file) if file.suffix == ".jsonl" else _rows_of_csv(text, file))
    if not rows:
        raise ValueError(f"{file} holds no captions")
    for number, row in rows:
        for name in COLUMNS:
            if not isinstance(row.get(name), str) or (name == "file_name" and not row[name]):
                raise ValueError(f"{file}, line {number}: {name} must be a text, got {row.get(name)!r}")
    return [tuple(row[name] for name in COLUMNS) for _, row in rows]


def _rows_of_json(text, file):
    for number, line in enumerate(io.StringIO(text), 1):  # which splits at newlines alone: a text may hold other breaks
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{file}, line {number} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{file}, line {number} must hold fields by name, got {type(row).__name__}")
        yield number, row


def _rows_of_csv(text, file):
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            raise ValueError(f"{file} has no column {missing[0]}, only {', '.join(reader.fieldnames or ['nothing'])}")
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num + 1} is not CSV: {error}") from None
