"""Pictures of what a model draws and how it learned: image grids, trajectories, loss curves."""

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


def save_loss_curve(metrics, path):
    """Draw the loss of every step and its running median. Needs matplotlib (the ``plot`` extra).

    metrics: dicts with "step" and "loss". Raises ``ImportError`` where matplotlib is missing.
    """
    from matplotlib.figure import Figure

    step = np.array([entry["step"] for entry in metrics])
    loss = np.array([entry["loss"] for entry in metrics])
    window = max(1, min(51, len(loss) // 10 * 2 + 1))
    padded = np.pad(loss, window // 2, mode="reflect")  # not "edge": the last loss would count for half a window
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(step, loss, linewidth=0.5, alpha=0.4, label="each step")
    axes.plot(step, smooth, linewidth=1.6, label=f"running median of {window} steps")
    axes.set(xlabel="training step", ylabel="mean squared error", yscale="log")
    axes.grid(which="both", alpha=0.2)
    axes.legend()
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=120)
    write_atomically(path, encoded.getvalue())
