"""Any folder of images as a data set, by stated rules.

labels        each folder in it is a class, in alphabetical order, with the images in it at any depth; without folders
              all images are of one class. Names that begin with a dot, and files that are no pictures by their
              ending, are not looked at
colour        grayscale (C = 1) if every image is, else RGB (C = 3), where grays have three equal channels
transparency  laid on white; palettes become the colours they stand for
depth         16 bits a channel become the upper 8
size          with ``size``: the largest square in the middle, resized (Lanczos). Without: all must be square and of
              one size
orientation   as the camera's tag says; of animations the first frame
unreadable    an error that names the file; skipped, and named, only on request
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tinydiff.data.dataset import Dataset

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


def load(path, *, size=None, skip_unreadable=False, say=print):
    """The images under ``path`` as a ``Dataset`` named "folder", (n, size, size, 1 or 3).

    size             height and width to bring every image to
    skip_unreadable  name files that cannot be read, and go on without them

    Raises ``ValueError`` for a folder that is missing or holds no images, images beside folders of classes, images that
    differ in size where no size is given, and unreadable files.
    """
    if size is not None and size < 1:
        raise ValueError(f"image_size must be at least 1, got {size}")
    path = Path(path)
    classes, files = _classes(path)
    images, labels, shapes = [], [], {}
    for file, label in files:
        try:
            image = _read(file)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            if not skip_unreadable:
                raise ValueError(
                    f"{file} cannot be read as an image ({error}); --skip-unreadable goes on without such files"
                ) from None
            say(f"skipped {file}: {error}")
            continue
        if size is not None:
            image = _square(image).resize((size, size), Image.Resampling.LANCZOS)
        shapes.setdefault(image.size, file)
        images.append(image)
        labels.append(label)
    if not images:
        raise ValueError(f"{path}: none of its {len(files)} images can be read")
    if len(shapes) > 1 or any(width != height for width, height in shapes):
        shown = ", ".join(f"{file} is {width}x{height}" for (width, height), file in list(shapes.items())[:3])
        raise ValueError(f"images must be square and of one size: {shown}; --image-size brings all to one")
    mode = "L" if all(image.mode == "L" for image in images) else "RGB"
    arrays = np.stack([np.asarray(image.convert(mode)) for image in images])
    if arrays.ndim == 3:
        arrays = arrays[..., None]
    counts = np.bincount(labels, minlength=len(classes))
    say(f"{path}: {', '.join(f'{i} {name} ({n:,})' for i, (name, n) in enumerate(zip(classes, counts)))}")
    return Dataset("folder", arrays, np.array(labels, np.int32), len(classes), tuple(classes))


def _classes(path):
    """The names of the classes, and each image file with its label."""
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder")
    folders = sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    folders = [folder for folder in folders if _pictures(folder.rglob("*"))]
    beside = _pictures(path.iterdir())
    if folders and beside:
        raise ValueError(f"{path} holds images ({beside[0].name}) beside folders of classes ({folders[0].name})")
    if folders:
        files = [(file, label) for label, folder in enumerate(folders) for file in _pictures(folder.rglob("*"))]
        return [folder.name for folder in folders], files
    if not beside:
        raise ValueError(f"{path} holds no images ({', '.join(ENDINGS)})")
    return [path.name], [(file, 0) for file in beside]


def _pictures(files):
    return sorted(
        file for file in files if file.suffix.lower() in ENDINGS and file.is_file() and not file.name.startswith(".")
    )


def _read(file):
    """An image in mode L or RGB."""
    with Image.open(file) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode in SIXTEEN_BITS:
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode in ("I", "F"):
            raise ValueError(f"its pixels are 32-bit numbers of unknown range (mode {image.mode})")
        if image.mode == "1":
            return image.convert("L")
        gray = image.mode in ("L", "LA")
        if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return image.convert("L" if gray else "RGB")


def _square(image):
    """The largest square in the middle. Cut out first: a resize of a part would look at the pixels around it."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
