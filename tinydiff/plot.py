"""Plots with Pillow alone: panels in a grid, each with axes, points, lines, bars and pictures.

    figure = Figure(rows=1, columns=2, title="what it is about")
    panel = figure.panel(0, 0, "left", x=(-1, 1), y=(0, 5), x_label="position", y_label="height")
    panel.line([-1, 0, 1], [0, 3, 5], label="growth")
    figure.save("plot.png")

Everything is drawn at twice the size and averaged down, as Pillow's lines are not antialiased.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tinydiff import pictures

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#17becf", "#7f7f7f", "#bcbd22", "#e377c2")
INK, GRID, PAPER = "#222222", "#e4e4e4", "#ffffff"
OVERSAMPLING = 2
TEXT = 13  # pixels
LEFT, RIGHT, ABOVE, BELOW = 62, 14, 34, 48  # margins around a panel, pixels; less without axes


class Figure:
    """A grid of panels of one size, under a title."""

    def __init__(self, rows=1, columns=1, *, width=360, height=300, title=""):
        self.width, self.height = width, height
        self.head = 30 if title else 0
        size = columns * width, self.head + rows * height
        self.image = Image.new("RGB", tuple(OVERSAMPLING * pixels for pixels in size), PAPER)
        self.draw = ImageDraw.Draw(self.image)
        if title:
            self.text((size[0] / 2, 8), title, anchor="mt", size=TEXT + 3)

    def panel(self, row, column, title="", *, span=1, **options):
        """The panel at that place, ``span`` columns wide; see ``Panel`` for the options."""
        corner = column * self.width, self.head + row * self.height
        return Panel(self, corner, (span * self.width, self.height), title, **options)

    def text(self, at, words, *, anchor="mm", size=TEXT, colour=INK):
        """Words at (x, y) pixels; anchors are Pillow's."""
        font = ImageFont.load_default(OVERSAMPLING * size)
        self.draw.text(tuple(OVERSAMPLING * each for each in at), words, colour, font, anchor)

    def save(self, path):
        """Write the figure in the format of the path's ending."""
        pictures.save(self.image.reduce(OVERSAMPLING), path)


class Panel:
    """One plot. Without ranges ``x`` and ``y`` it has no axes, and holds a picture.

    x, y          (low, high), what the axes span; either end may be the larger
    log_x, log_y  logarithmic axes
    x_names       [(value, words)] under the x axis, in place of numbers
    """

    def __init__(
        self,
        figure,
        corner,
        size,
        title,
        *,
        x=None,
        y=None,
        x_label="",
        y_label="",
        log_x=False,
        log_y=False,
        x_names=None,
    ):
        self.figure, self.legend = figure, []
        margins = (LEFT, ABOVE, RIGHT, BELOW) if x else (6, ABOVE, 6, 6)
        self.left, self.top = corner[0] + margins[0], corner[1] + margins[1]
        self.right, self.bottom = corner[0] + size[0] - margins[2], corner[1] + size[1] - margins[3]
        figure.text(((self.left + self.right) / 2, corner[1] + ABOVE / 2), title)
        if x:
            self.x, self.y = _Axis(x, log_x, self.left, self.right), _Axis(y, log_y, self.bottom, self.top)
            self._draw_axes(x_label, y_label, x_names or self.x.ticks())

    def line(self, x, y, *, colour=None, label=None, width=2, marks=False):
        """A line through points x (n,), y (n,), which may be marked; those outside the axes interrupt it."""
        colour = self._colour(colour, label)
        at, inside = self._pixels(x, y)
        breaks = np.flatnonzero(np.diff(inside)) + 1
        for run, kept in zip(np.split(at, breaks), np.split(inside, breaks)):
            if kept[0] and len(run) > 1:
                self._draw().line([tuple(point) for point in run], colour, OVERSAMPLING * width, joint="curve")
        if marks:
            self._dots(at[inside], colour, 3.5)
        return self

    def points(self, xy, *, colour=None, label=None, radius=1.0):
        """Points (n, 2); those outside the axes are left out."""
        colour = self._colour(colour, label)
        at, inside = self._pixels(*np.asarray(xy, float).T)
        self._dots(at[inside], colour, radius)
        return self

    def bars(self, edges, heights, *, colour=None, label=None):
        """A histogram: its outline over edges (n + 1,)."""
        return self.line(
            np.repeat(edges, 2), np.concatenate([[0], np.repeat(heights, 2), [0]]), colour=colour, label=label
        )

    def columns(self, heights):
        """A column of each height, at 0, 1, 2, ..., in colours of their own."""
        wide = 0.7 * (self.x.pixels(1) - self.x.pixels(0))
        for i, height in enumerate(heights):
            self.line([i, i], [self.y.low, height], colour=COLOURS[i % len(COLOURS)], width=round(wide))
        return self

    def level(self, y, *, colour="#888888"):
        """A thin horizontal line."""
        return self.line([self.x.low, self.x.high], [y, y], colour=colour, width=1)

    def picture(self, picture):
        """A Pillow picture, as large as fits, its pixels kept square."""
        width, height = (OVERSAMPLING * (self.right - self.left), OVERSAMPLING * (self.bottom - self.top))
        factor = min(width / picture.width, height / picture.height)
        size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
        enlarged = picture.convert("RGB").resize(size, Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX)
        left = OVERSAMPLING * self.left + (width - size[0]) // 2
        self.figure.image.paste(enlarged, (round(left), round(OVERSAMPLING * self.top)))
        return self

    def _draw(self):
        return self.figure.draw

    def _colour(self, colour, label):
        """The colour asked for, or the next; a label goes into the legend, in the upper right corner."""
        colour = colour or COLOURS[len(self.legend) % len(COLOURS)]
        if label:
            y = self.top + 10 + 17 * len(self.legend)
            self.figure.text((self.right - 26, y), label, anchor="rm", size=TEXT - 1)
            at = [OVERSAMPLING * each for each in (self.right - 22, y, self.right - 4, y)]
            self._draw().line(at, colour, 4 * OVERSAMPLING)
            self.legend.append(label)
        return colour

    def _pixels(self, x, y):
        """Values as pixels of the oversampled image, (n, 2), and which of them lie inside the axes, (n,)."""
        at = np.stack([self.x.pixels(x), self.y.pixels(y)], axis=1)
        low, high = np.array([(self.left, self.top), (self.right, self.bottom)])
        return OVERSAMPLING * at, ((at >= low - 0.5) & (at <= high + 0.5)).all(axis=1)

    def _dots(self, at, colour, radius):
        radius *= OVERSAMPLING
        for x, y in at:
            self._draw().ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

    def _draw_axes(self, x_label, y_label, x_ticks):
        text, (left, right, top, bottom) = self.figure.text, (self.left, self.right, self.top, self.bottom)
        for value, words in x_ticks:
            x = float(self.x.pixels(value))
            self._segment(x, top, x, bottom, GRID)
            text((x, bottom + 4), words, anchor="mt", size=TEXT - 2)
        for value, words in self.y.ticks():
            y = float(self.y.pixels(value))
            self._segment(left, y, right, y, GRID)
            text((left - 5, y), words, anchor="rm", size=TEXT - 2)
        self._segment(left, bottom, right, bottom, INK)
        self._segment(left, top, left, bottom, INK)
        text(((left + right) / 2, bottom + 22), x_label, anchor="mt", size=TEXT - 1)
        if y_label:
            self._upright(y_label)

    def _upright(self, words):
        """Words along the y axis, read from below."""
        font = ImageFont.load_default(OVERSAMPLING * (TEXT - 1))
        _, _, width, height = self._draw().textbbox((0, 0), words, font)
        label = Image.new("RGB", (int(width) + 2, int(height) + 2), PAPER)
        ImageDraw.Draw(label).text((0, 0), words, INK, font)
        label = label.rotate(90, expand=True)
        middle = OVERSAMPLING * (self.top + self.bottom) / 2
        self.figure.image.paste(label, (round(OVERSAMPLING * (self.left - LEFT + 4)), round(middle - label.height / 2)))

    def _segment(self, x0, y0, x1, y1, colour):
        self._draw().line([OVERSAMPLING * each for each in (x0, y0, x1, y1)], colour, OVERSAMPLING)


class _Axis:
    """From values to pixels along one axis."""

    def __init__(self, limits, logarithmic, first, last):
        self.low, self.high = limits
        self.logarithmic, self.first, self.last = logarithmic, first, last

    def pixels(self, values):
        values = np.asarray(values, float)
        low, high = self.low, self.high
        if self.logarithmic:
            with np.errstate(divide="ignore", invalid="ignore"):
                values, low, high = np.log(values), math.log(low), math.log(high)
        return self.first + (values - low) / (high - low) * (self.last - self.first)

    def ticks(self):
        """(value, words) at round numbers."""
        low, high = sorted((self.low, self.high))
        if self.logarithmic:
            powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
            values = [10.0**power for power in powers]
            if len(values) < 3:
                values = [m * 10.0**p for p in range(powers.start - 1, powers.stop + 1) for m in (1, 2, 5)]
            values = [value for value in values if low * 0.999 <= value <= high * 1.001]
        else:
            step = 10 ** math.floor(math.log10((high - low) / 2))
            step *= next(factor for factor in (5, 2, 1) if (high - low) / (factor * step) >= 3 or factor == 1)
            values = step * np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
        return [(value, f"{value:.4g}") for value in values]
