import numpy as np
from PIL import Image

from tinydiff import pictures, report


def test_grid():
    images = np.full((3, 4, 5, 1), -1.0)
    images[2] = 1
    picture = pictures.grid(images, 2, zoom=3, gap=1)
    assert picture.mode == "L" and picture.size == (3 * (2 * 6 + 1), 3 * (2 * 5 + 1))
    pixels = np.asarray(picture)
    assert pixels[3, 3] == 0 and pixels[3 * 6, 3] == 255 and pixels[0, 0] == 64
    assert pictures.grid(np.zeros((1, 2, 2, 3)), 1).mode == "RGB"


def test_animation(tmp_path):
    frames = [pictures.grid(np.full((1, 4, 4, 1), value), 1) for value in (-1.0, 0.0, 1.0)]
    wide = [pictures.side_by_side(frame, frame, gap=4) for frame in frames]
    assert wide[0].size == (2 * frames[0].width + 4, frames[0].height)
    pictures.save_animation(wide, tmp_path / "a.gif", milliseconds=50, hold=500)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 3 and gif.info["duration"] == 50


def test_loss_curve(tmp_path):
    for n in (1, 2, 500):
        report.save_loss_curve([{"step": i + 1, "loss": 1 / (i + 1)} for i in range(n)], tmp_path / "loss.png")
        with Image.open(tmp_path / "loss.png") as picture:
            assert picture.width == 840
