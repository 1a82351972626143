import numpy as np
import pytest
from PIL import Image, ImageColor

from tinydiff import plot


def pixels(figure, path):
    figure.save(path)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def is_colour(image, colour):
    return np.abs(image - ImageColor.getrgb(colour)).sum(axis=2) < 30


def test_points_lie_where_their_values_say(tmp_path):
    figure = plot.Figure(1, 2, width=300, height=300)
    figure.panel(0, 1, x=(0, 10), y=(-1, 1)).points([[5, 0], [99, 0]], radius=4)
    image = pixels(figure, tmp_path / "a.png")
    assert image.shape == (300, 600, 3)
    rows, columns = np.nonzero(is_colour(image, plot.COLOURS[0]))
    assert abs(rows.mean() - (plot.ABOVE + 300 - plot.BELOW) / 2) < 1.5
    assert abs(columns.mean() - 300 - (plot.LEFT + 300 - plot.RIGHT) / 2) < 1.5
    assert len(rows) < 100, "the point outside the axes is not drawn"


def test_a_line_stops_where_it_leaves_the_axes(tmp_path):
    figure = plot.Figure(width=300, height=300)
    figure.panel(0, 0, x=(0, 1), y=(1, 100), log_y=True).line(
        np.linspace(0, 1, 50), 10 ** np.linspace(-2, 4, 50), colour="#ff0000"
    )
    rows, _ = np.nonzero(is_colour(pixels(figure, tmp_path / "a.png"), "#ff0000"))
    assert plot.ABOVE - 2 <= rows.min() < plot.ABOVE + 20 and 280 - plot.BELOW < rows.max() <= 302 - plot.BELOW


def test_everything_can_be_drawn(tmp_path):
    figure = plot.Figure(2, 2, title="all of it")
    options = dict(x=(0, 4), y=(0, 5), x_label="across", y_label="up")
    panel = figure.panel(0, 0, "first", **options)
    panel.line([0, 1, 2, 3], [1, np.nan, 2, 3], label="interrupted", marks=True).bars(
        [0, 1, 2], [3, 4], label="bars"
    ).level(2)
    figure.panel(0, 1, "second", **options, x_names=[(0, "nought"), (1, "one")]).columns([3, 4])
    figure.panel(1, 0, "wide", span=2).picture(Image.new("L", (10, 4), 255))
    image = pixels(figure, tmp_path / "a.png")
    assert image.std() > 10


@pytest.mark.parametrize(
    "limits, logarithmic, expected",
    [
        ((0, 10), False, ["0", "2", "4", "6", "8", "10"]),
        ((-1.2, 1.2), False, ["-1", "0", "1"]),
        ((1, 1000), True, ["1", "10", "100", "1000"]),
        ((3, 80), True, ["5", "10", "20", "50"]),
    ],
)
def test_ticks_are_round_numbers(limits, logarithmic, expected):
    ticks = plot._Axis(limits, logarithmic, 0, 100).ticks()
    assert [words for _, words in ticks] == expected
