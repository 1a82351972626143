"""Handwriting-like digits drawn from jittered strokes: a data set that needs no files and no network.

Each digit is a few smooth strokes through control points in a unit square. A sample moves every control
point a little, then shears, turns, stretches and shifts the whole, and draws it with a pen of some width.
All of it is a function of (seed, index), so the set is deterministic and has no end.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from tinydiff.data.dataset import Dataset
from tinydiff.ops import philox

SIZE = 28
OVERSAMPLING = 4  # drawn larger, then averaged down: Pillow's lines are not antialiased
POINTS_PER_SPAN = 10  # of the polyline between two control points

# The strokes of each digit: control points (x, y), x to the right and y down, both in [0, 1]. Digits that
# people write in more than one way have several variants.
DIGITS = {
    0: [[[(0.55, 0.0), (0.15, 0.25), (0.12, 0.7), (0.45, 1.0), (0.85, 0.72), (0.88, 0.28), (0.55, 0.0)]]],
    1: [[[(0.55, 0.0), (0.52, 0.5), (0.5, 1.0)]], [[(0.3, 0.22), (0.55, 0.0), (0.54, 0.5), (0.52, 1.0)]]],
    2: [
        [
            [(0.15, 0.22), (0.48, 0.0), (0.82, 0.22), (0.6, 0.58), (0.12, 0.98)],
            [(0.12, 0.98), (0.5, 0.93), (0.9, 0.97)],
        ],
        [[(0.15, 0.2), (0.5, 0.0), (0.8, 0.25), (0.55, 0.65), (0.2, 0.95), (0.15, 0.75), (0.45, 0.82), (0.92, 0.98)]],
    ],
    3: [
        [
            [(0.18, 0.1), (0.55, 0.0), (0.8, 0.2), (0.42, 0.47)],
            [(0.42, 0.47), (0.85, 0.6), (0.75, 0.92), (0.4, 1.0), (0.12, 0.88)],
        ]
    ],
    4: [
        [
            [(0.25, 0.05), (0.18, 0.35), (0.15, 0.58)],
            [(0.15, 0.58), (0.5, 0.6), (0.88, 0.55)],
            [(0.72, 0.08), (0.68, 0.5), (0.64, 1.0)],
        ],
        [
            [(0.62, 0.0), (0.35, 0.35), (0.1, 0.65)],
            [(0.1, 0.65), (0.5, 0.66), (0.92, 0.64)],
            [(0.64, 0.02), (0.65, 0.5), (0.64, 1.0)],
        ],
    ],
    5: [
        [
            [(0.85, 0.02), (0.5, 0.03), (0.25, 0.05)],
            [(0.25, 0.05), (0.22, 0.22), (0.2, 0.42)],
            [(0.2, 0.42), (0.55, 0.38), (0.84, 0.65), (0.6, 0.96), (0.15, 0.93)],
        ]
    ],
    6: [[[(0.68, 0.0), (0.35, 0.3), (0.18, 0.7), (0.42, 1.0), (0.78, 0.82), (0.62, 0.55), (0.22, 0.7)]]],
    7: [
        [[(0.12, 0.08), (0.5, 0.06), (0.86, 0.05)], [(0.86, 0.05), (0.62, 0.5), (0.45, 1.0)]],
        [
            [(0.12, 0.08), (0.5, 0.06), (0.86, 0.05)],
            [(0.86, 0.05), (0.62, 0.5), (0.45, 1.0)],
            [(0.35, 0.5), (0.55, 0.5), (0.78, 0.48)],
        ],
    ],
    8: [
        [
            [
                (0.72, 0.12),
                (0.45, 0.0),
                (0.22, 0.2),
                (0.5, 0.46),
                (0.8, 0.75),
                (0.5, 1.0),
                (0.2, 0.78),
                (0.45, 0.48),
                (0.78, 0.22),
                (0.72, 0.12),
            ]
        ]
    ],
    9: [[[(0.8, 0.2), (0.5, 0.0), (0.2, 0.24), (0.45, 0.5), (0.8, 0.22)], [(0.8, 0.22), (0.75, 0.6), (0.62, 1.0)]]],
}


def load(count=10_000, *, seed=0, first=0):
    """Digits ``first`` .. ``first + count - 1`` of the endless sequence, as a ``Dataset`` (count, 28, 28, 1).

    Labels run 0, 1, ..., 9, 0, ...; about 4,000 digits a second. Raises ``ValueError`` for count below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    index = np.arange(first, first + count)
    labels = (index % 10).astype(np.int32)
    uniforms = philox.forward(seed, "data", index, 0, (8,), kind="uniform")
    normals = philox.forward(seed, "data", index, 1, (64,), kind="normal")
    images = np.stack([_draw(*each) for each in zip(labels.tolist(), uniforms, normals)])
    return Dataset("strokes", images[..., None], labels, 10, digits=True)


def _draw(digit, uniform, normal):
    """One digit as (28, 28) uint8, from 8 uniform and 64 normal numbers."""
    lines, pen = written(digit, uniform, normal)
    centre = SIZE / 2 + 0.8 * normal[62:64].clip(-2, 2)
    canvas = Image.new("L", (SIZE * OVERSAMPLING, SIZE * OVERSAMPLING))
    trace(canvas, [line + centre for line in lines], pen, ink=255)
    return np.asarray(canvas.reduce(OVERSAMPLING))


def written(digit, uniform, normal):
    """How somebody writes a digit, from 4 uniform and 62 normal numbers: its strokes, each a polyline (n, 2) of x, y in
    pixels of MNIST from the digit's centre, and the width of the pen, in the same."""
    variants = DIGITS[digit]
    strokes = variants[int(uniform[0] * len(variants))]
    # each point of the digit moves once, however many strokes meet in it
    points = list(dict.fromkeys(point for stroke in strokes for point in stroke))
    jitter = dict(zip(points, 0.03 * normal[: 2 * len(points)].reshape(-1, 2)))

    angle = np.radians(9) * normal[60].clip(-2, 2)
    shear = 0.18 * normal[61].clip(-2, 2)
    width, height = 12 + 6 * uniform[1], 18 + 3 * uniform[2]  # pixels
    to_pixels = (
        np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        @ np.array([[1, -shear], [0, 1]])
        @ np.diag([width, height])
    )
    controls = [np.array([np.add(point, jitter[point]) for point in stroke]) - 0.5 for stroke in strokes]
    return [_smooth(control) @ to_pixels.T for control in controls], 1.6 + 1.6 * uniform[3]


def trace(canvas, lines, pen, ink):
    """Draw polylines (n, 2), in pixels, with round ends on a canvas of ``OVERSAMPLING`` times as many pixels."""
    draw = ImageDraw.Draw(canvas)
    for line in lines:
        line = OVERSAMPLING * line
        draw.line([tuple(point) for point in line], fill=ink, width=round(pen * OVERSAMPLING), joint="curve")
        radius = pen * OVERSAMPLING / 2
        for x, y in (line[0], line[-1]):  # round ends, as a pen leaves
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)


def _smooth(control):
    """A Catmull-Rom curve through the control points (n, 2), as a polyline."""
    before = np.concatenate([2 * control[:1] - control[1:2], control[:-1]])
    after = np.concatenate([control[1:], 2 * control[-1:] - control[-2:-1]])
    tangent = (after - before) / 2
    t = np.linspace(0, 1, POINTS_PER_SPAN, endpoint=False)[:, None]
    start, stop = control[:-1, None], control[1:, None]
    # the cubic Hermite basis between each point and the next
    curve = (
        (2 * t**3 - 3 * t**2 + 1) * start
        + (t**3 - 2 * t**2 + t) * tangent[:-1, None]
        + (3 * t**2 - 2 * t**3) * stop
        + (t**3 - t**2) * tangent[1:, None]
    )
    return np.concatenate([curve.reshape(-1, 2), control[-1:]])
