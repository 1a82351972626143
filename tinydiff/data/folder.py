"""Any folder of images as a data set, by stated rules.

labels        each folder in it that holds images, at any depth, is a class, in alphabetical order, but numbers in names
              as numbers: 2 before 10. Without such folders all images are of one class, called "all"
passed over   names that begin with a dot, files that are no pictures by their ending, folders in it without images.
              They are counted and named
links         followed. A folder that was met before in its class, or that holds the classes, is passed over; two
              classes that are the same folder are an error
colour        grayscale (C = 1) if every image is, else RGB (C = 3), where grays have three equal channels
transparency  laid on white; palettes become the colours they stand for
depth         16 bits a channel become the upper 8
size          with ``size``: the largest square in the middle, resized (Lanczos). Without: all must be square and of
              one size
orientation   as the camera's tag says; of animations the first frame
unreadable    an error that names the file, the folder, or the link to nothing. Skipped, and named, only on request; a
              class stays a class then, so that labels do not depend on what could be read
kept          what was decoded, in a file that later runs map into memory (``tinydiff.data.decoded``), until an image's
              name, size in bytes or time of change is another. Those that were unreadable are tried again every time
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from PIL import Image, ImageOps

from tinydiff.data import decoded
from tinydiff.data.dataset import Dataset
from tinydiff.progress import progress_bar

RULES = 1  # raise it whenever pixels come out otherwise than before: what older rules decoded is decoded again
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
GRAY_ALPHA = 4  # PNG's colour type
AT_ONCE = 1 << 20  # bytes


class File(NamedTuple):
    """An image file, as far as it is known without opening it."""

    name: str  # relative to the folder of images, with slashes
    size: int  # bytes
    changed: int  # when, in nanoseconds


def load(path, *, size=None, skip_unreadable=False, cache=True, say=print):
    """The images under ``path`` as a ``Dataset`` named "folder", (n, size, size, 1 or 3).

    Its ``files_digest`` is made of the names, relative to ``path``, and the sizes in bytes of the images that it holds.

    size             height and width to bring every image to
    skip_unreadable  name what cannot be read, and go on without it
    cache            keep what is decoded in a file, and map it into memory, read-only; False: decode into memory, as is
                     done, and said, where that file cannot be written

    Raises ``ValueError`` for a folder that is missing or holds no images, images beside folders of classes, two classes
    that are one folder, images that differ in size where no size is given, and what cannot be read.
    """
    if size is not None and size < 1:
        raise ValueError(f"image_size must be at least 1, got {size}")
    path = Path(path)
    left_out = LeftOut(path, skip_unreadable, say)
    classes = _classes(path, left_out)
    images, unreadable = images_in(classes, size, left_out, cache)
    unreadable, labels, digest = set(unreadable), [], hashlib.sha256()
    for label, files in enumerate(classes.values()):
        for file in files:
            if file.name not in unreadable:
                labels.append(label)
                digest.update(b"%s\0%d\0" % (os.fsencode(file.name), file.size))
    counts = np.bincount(labels, minlength=len(classes))
    say(f"{path}: {', '.join(f'{i} {name} ({n:,})' for i, (name, n) in enumerate(zip(classes, counts)))}")
    if left_out.passed_over:
        say(f"{path}: {left_out}")
    files_digest = digest.hexdigest()[:16]
    return Dataset("folder", images, np.array(labels, np.int32), len(classes), tuple(classes), files_digest)


def picture(path):
    """One image file, as Pillow has it. Raises ``ValueError`` for one that cannot be read."""
    try:
        return _read(Path(path))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error})") from None


def brought_to(image, shape):
    """An image of Pillow's as a model takes it, (H, W, C) uint8 of that shape: the largest square in the middle, resized."""
    image = _square(image).resize(shape[1::-1], Image.Resampling.LANCZOS)
    return np.asarray(image.convert("RGB" if shape[2] == 3 else "L")).reshape(shape)


class LeftOut:
    """All that a folder holds beside pictures that can be read: passed over, or unreadable."""

    def __init__(self, path, skip_unreadable, say):
        self.path, self.skip_unreadable, self.say = path, skip_unreadable, say
        self.passed_over = {}  # why: names
        self.skipped = set()

    def pass_over(self, why, name):
        self.passed_over.setdefault(why, []).append(name)

    def unreadable(self, name, error):
        """Skip it and say so, once, or raise ``ValueError``."""
        file, reason = self.path / name, getattr(error, "strerror", None) or str(error) or type(error).__name__
        if not self.skip_unreadable:
            raise ValueError(f"{file} cannot be read ({reason}); --skip-unreadable goes on without it") from None
        if name not in self.skipped:
            self.say(f"skipped {file}: {reason}")
            self.skipped.add(name)

    def __str__(self):
        parts = []
        for why, names in self.passed_over.items():
            parts.append(f"{len(names):,} {why} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
        return f"passed over {', '.join(parts)}"


def _classes(path, left_out):
    """{name of a class: its image files}, in the order of the labels."""
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder")
    try:
        inside = _visible(path, "", left_out)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None
    root = os.path.realpath(path)
    classes, beside, places = {}, [], {}
    for name in inside:
        skipped = len(left_out.skipped)
        files = _pictures(path, name, {root}, left_out)
        if (files and files[0].name == name) or not os.path.isdir(path / name):
            beside += files
        elif files or len(left_out.skipped) > skipped:
            classes[name] = files
            first = places.setdefault(os.path.realpath(path / name), name)
            if first != name:
                raise ValueError(f"{path}: the classes {first} and {name} are the same folder, by a link")
        else:
            left_out.pass_over("without images", name)
    if beside:
        for name, files in classes.items():
            if files:
                raise ValueError(f"{path} holds images ({beside[0].name}) beside folders of classes ({name})")
        return {"all": beside}
    if not classes:
        rest = f"; {left_out}" if left_out.passed_over else ""
        raise ValueError(f"{path} holds no images ({', '.join(ENDINGS)}){rest}")
    return {name: classes[name] for name in sorted(classes, key=_natural)}


def _natural(name):
    """A key by which text orders as text and the numbers in it as numbers."""
    parts = re.split("([0-9]+)", name)  # text, number, text, ..., text: so the same kinds meet
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def _pictures(path, name, entered, left_out):
    """The image files in ``path / name`` at any depth, in alphabetical order; of a file it itself, if it is one.

    entered  real paths of folders that count as met before; those met here are added
    """
    pictures, ahead = [], [name]
    while ahead:
        name = ahead.pop()
        place = f"{path}/{name}"  # with pathlib a hundred thousand files take seconds
        try:
            found = os.stat(place)
            if stat.S_ISDIR(found.st_mode):
                if (place := os.path.realpath(place)) in entered:
                    left_out.pass_over("met before", name)
                else:
                    entered.add(place)
                    ahead += reversed(_visible(path, name, left_out))
            elif not name.lower().endswith(ENDINGS):
                left_out.pass_over("without a picture's ending", name)
            elif not stat.S_ISREG(found.st_mode):
                raise OSError("neither a file nor a folder")  # opening a pipe would wait for its other end
            else:
                pictures.append(File(name, found.st_size, found.st_mtime_ns))
        except OSError as error:
            left_out.unreadable(name, error)
    return pictures


def _visible(path, folder, left_out):
    """The names of what lies in ``path / folder``, relative to ``path``, but for hidden ones, in alphabetical order."""
    start = f"{folder}/" if folder else ""
    visible = []
    for each in sorted(os.listdir(path / folder)):
        if each.startswith("."):
            left_out.pass_over("hidden", start + each)
        else:
            visible.append(start + each)
    return visible


def images_in(classes, size, left_out, cache):
    """The images of all classes, ``Decoded``: kept ones where there are any, and kept if they can be."""
    decode = functools.partial(_decode, [file for files in classes.values() for file in files], size, left_out)
    place = decoded.name_of([os.path.realpath(left_out.path), size])
    key = decoded.name_of([RULES, PIL.__version__, classes])
    without = f"{left_out.path}: decoded into memory, as what is decoded cannot be kept"
    still_unreadable = lambda names: all(_image(name, left_out) is None for name in names)
    options = dict(cache=cache, without=without, say=left_out.say, is_current=still_unreadable)
    return decoded.images_of(decode, place, key, **options)


def _decode(files, size, left_out, out):
    """Write the pixels of images to a binary file, no more than one image in memory at a time.

    Returns their shape (n, H, W, C) and the names of the files that cannot be read.
    """
    sides, channels, n, unreadable = {}, 1, 0, []
    for file in progress_bar(files, unit="image", leave=False):
        image = _image(file.name, left_out)
        if image is None:
            unreadable.append(file.name)
            continue
        if size is not None:
            image = _square(image).resize((size, size), Image.Resampling.LANCZOS)
        sides.setdefault(image.size, file.name)
        if len(sides) > 1:
            continue  # to the error that names such files
        if image.mode == "RGB" and channels == 1:
            _spread(out, n * image.width * image.height)
            channels = 3
        out.write(image.convert("RGB" if channels == 3 else "L").tobytes())
        n += 1
    if not sides:
        raise ValueError(f"{left_out.path}: none of its images can be read")
    if len(sides) > 1 or any(width != height for width, height in sides):
        shown = ", ".join(
            f"{left_out.path / name} is {width}x{height}" for (width, height), name in list(sides.items())[:3]
        )
        raise ValueError(f"images must be square and of one size: {shown}; --image-size brings all to one")
    [(width, height)] = sides
    return (n, height, width, channels), unreadable


def _spread(out, grays):
    """Write each of the first so many bytes three times: from the last on, so that none is written over unread."""
    for first in reversed(range(0, grays, AT_ONCE)):
        out.seek(first)
        some = np.frombuffer(out.read(AT_ONCE), np.uint8)
        out.seek(3 * first)
        out.write(some.repeat(3).tobytes())
    out.seek(3 * grays)


def _image(name, left_out):
    """An image of the folder in mode L or RGB; None for one that is left out."""
    try:
        return _read(left_out.path / name)
    except MemoryError:
        raise  # no fault of the file's
    except Exception as error:  # of a damaged file, above all of its EXIF, Pillow raises errors of any type
        left_out.unreadable(name, error)
        return None


def _read(file):
    """An image in mode L or RGB."""
    with Image.open(file) as opened:
        image = ImageOps.exif_transpose(opened)
        gray = image.mode in ("1", "L", "LA")
        if opened.format == "PNG":
            depth, kind = _png_header(file)
            gray |= kind == GRAY_ALPHA  # in 16 bits Pillow gives it as RGBA
            if image.mode != "P" and "transparency" in image.info:
                image.info["transparency"] = _in_pixels(image.info["transparency"], depth, image.mode)
    if image.mode in SIXTEEN_BITS:
        pixels = np.array(image)
        pixels[pixels == image.info.get("transparency")] = 0xFFFF
        return Image.fromarray((pixels >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are 32-bit numbers of unknown range (mode {image.mode})")
    if image.mode == "1":
        image = image.convert("L")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("L" if gray else "RGB")


def _png_header(file):
    """Bits a channel and colour type of a PNG, from its first chunk."""
    with open(file, "rb") as content:
        return content.read(26)[24:]


def _in_pixels(key, depth, mode):
    """The transparent value of a PNG, counted in its own bits a channel, as Pillow counts the pixels of the mode."""
    if mode == "RGB":  # the upper 8 bits of 16: colours that differ in the others alone count as the same
        return tuple(channel >> 8 if depth == 16 else channel & 0xFF for channel in key)
    largest = (1 << depth) - 1
    key &= largest  # the rest means nothing; of a key that Pillow spread over 0 .. 255 already these are the file's
    return key if depth == 16 else key * 255 // largest


def _square(image):
    """The largest square in the middle. Cut out first: a resize of a part would look at the pixels around it."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
