import numpy as np
import pytest
from PIL import Image

from tests.train import tiny
from tinydiff import pictures, report
from tinydiff.samplers import SAMPLERS


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


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps, frames", [(3, 4), (20, 13)])
def test_an_animation_shows_the_first_of_every_row_from_noise_to_the_end(tmp_path, monkeypatch, sampler, steps, frames):
    trainer, shown = tiny.trainer(), []
    grid = pictures.grid
    monkeypatch.setattr(pictures, "grid", lambda images, columns: (shown.append(images), grid(images, columns))[1])
    report.write(trainer, tmp_path, dict(sampler=sampler, steps=steps, guidance=2.0))
    finished, *animated = shown
    assert finished.shape == (20, 8, 8, 1) and len(animated) == 2 * frames
    for last in animated[-2:]:  # x and x0_hat
        assert np.array_equal(last, finished[[0, 10]])
    assert abs(animated[0].std() - 1) < 0.2  # noise

    shown.clear()
    monkeypatch.setattr(report, "MOST_PIXELS", 8 * 8)
    report.write(trainer, tmp_path, dict(sampler=sampler, steps=steps, guidance=1.0))
    assert all(each.shape == (1, 8, 8, 1) for each in shown[1:])
