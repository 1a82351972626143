import numpy as np
import pytest

from tinydiff.data.dataset import bytes_to_signed
from tinydiff.metrics.psnr import psnr


def images(seed, n=6):
    return np.random.default_rng(seed).integers(0, 256, (n, 5, 4, 3)).astype(np.uint8)


def test_it_is_that_of_its_definition():
    x, y = images(0), images(1)
    squared = np.square(x.astype(float) - y).mean(axis=(1, 2, 3))
    decibels = 10 * np.log10(255**2 / squared)
    result = psnr(x, y)
    assert result.n == 6 and result.value == pytest.approx(decibels.mean(), rel=1e-6)
    assert result.error == pytest.approx(decibels.std() / 6**0.5, rel=1e-4)
    assert psnr(bytes_to_signed(x), y).value == pytest.approx(result.value, rel=1e-6)
    assert str(result).endswith(f"dB (mean of 6, standard error {result.error:.2f})")


@pytest.mark.parametrize("part, decibels", [(1 / 10, 20), (1 / 100, 40)])
def test_an_error_of_a_part_of_the_range(part, decibels):
    x = np.linspace(-1, 1, 48, dtype=np.float32).reshape(1, 4, 4, 3)
    assert psnr(x + 2 * np.float32(part), x).value == pytest.approx(decibels, abs=1e-4)


def test_each_image_counts_once():
    x, y = images(0), images(0)
    y[0] = 255 - y[0]
    assert psnr(y, x).value > psnr(y[:1], x[:1]).value + 60, "the five that are as they should be have 100 dB each"


@pytest.mark.parametrize("n, m", [(0, 0), (2, 3)])
def test_what_cannot_be_compared_is_refused(n, m):
    with pytest.raises(
        ValueError, match=rf"images of shape \({n}, 5, 4, 3\) cannot be held against .* \({m}, 5, 4, 3\)"
    ):
        psnr(images(0, n), images(1, m))
