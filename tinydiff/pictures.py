"""Pictures of what a model draws: image grids and trajectories. (Curves are in ``plot``.)"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from tinydiff.data.dataset import signed_to_bytes
from tinydiff.files import expect_writable, write_atomically

# the largest height or width that a format can hold, and so the formats that a user can ask for
LARGEST_SIDE = {".png": 2**31 - 1, ".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383, ".gif": 65_535, ".bmp": 32_767}


def grid(images, columns, *, zoom=2, gap=2):
    """images (N, H, W, 1 or 3) float in [-1, 1], filled row by row -> a Pillow image."""
    images = signed_to_bytes(np.asarray(images))
    N, H, W, C = images.shape
    width, height = grid_size(N, columns, images.shape[1:], zoom=1, gap=gap)
    canvas = np.full((height, width, C), 64, np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * (H + gap), gap + i % columns * (W + gap)
        canvas[top : top + H, left : left + W] = image
    canvas = canvas.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return Image.fromarray(canvas[:, :, 0] if C == 1 else canvas)


def grid_size(count, columns, shape, *, zoom=2, gap=2):
    """The width and height of a ``grid`` of so many images of this shape (H, W, C)."""
    rows = -(-count // columns)
    return zoom * (columns * (shape[1] + gap) + gap), zoom * (rows * (shape[0] + gap) + gap)


def expect_can_be_saved(name, path, size):
    """Raise an error unless a picture of this width and height can be written at ``path``, the argument ``name``."""
    largest = LARGEST_SIDE.get(Path(path).suffix.lower())
    if largest is None:
        raise ValueError(f"{name} must end in .png or another picture format, got {path}")
    if max(size) > largest:
        ending = Path(path).suffix
        raise ValueError(
            f"{name}: a picture of {size[0]} x {size[1]} pixels is too large for {ending}, whose sides may be {largest}; "
            f"choose .png or fewer images"
        )
    expect_writable(name, path)


def side_by_side(left, right, *, gap=12):
    """Two pictures of the same height next to each other."""
    canvas = Image.new(left.mode, (left.width + gap + right.width, left.height), 255)
    canvas.paste(left, (0, 0))
    canvas.paste(right, (left.width + gap, 0))
    return canvas


def save(picture, path, **options):
    """Write a picture in the format of the path's ending, whole or not at all."""
    encoded = io.BytesIO()
    picture.save(encoded, format=Image.registered_extensions()[Path(path).suffix.lower()], **options)
    write_atomically(path, encoded.getvalue())


def save_animation(frames, path, *, milliseconds=120, hold=2000):
    """Write frames as a GIF that lingers on the last one and repeats."""
    durations = [milliseconds] * (len(frames) - 1) + [hold]
    save(frames[0], path, save_all=True, append_images=frames[1:], duration=durations, loop=0)
