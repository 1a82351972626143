"""Pictures of what a model draws: image grids and trajectories. (Curves are in ``plot``.)"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from tinydiff.data.dataset import signed_to_bytes
from tinydiff.files import write_atomically


def grid(images, columns, *, zoom=2, gap=2):
    """images (N, H, W, 1 or 3) float in [-1, 1], filled row by row -> a Pillow image."""
    images = signed_to_bytes(np.asarray(images))
    N, H, W, C = images.shape
    rows = -(-N // columns)
    canvas = np.full((rows * (H + gap) + gap, columns * (W + gap) + gap, C), 64, np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * (H + gap), gap + i % columns * (W + gap)
        canvas[top : top + H, left : left + W] = image
    canvas = canvas.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return Image.fromarray(canvas[:, :, 0] if C == 1 else canvas)


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
