import numpy as np
import pytest

from tinydiff.noise.density import step_quantiles


def test_a_power_of_one_meets_every_step_as_often():
    assert np.array_equal(step_quantiles(200), np.arange(200))


@pytest.mark.parametrize("power", [0.5, 2, 3])
def test_below_a_place_lies_its_power_of_the_probability(power):
    steps = step_quantiles(200, power)
    assert np.all(np.diff(steps) >= 0) and steps.min() >= 0 and steps.max() == 199
    for place in (0.25, 0.5, 0.9):
        assert np.mean(steps < 200 * place) == pytest.approx(place**power, abs=2e-3)


def test_one_noise_step():
    assert set(step_quantiles(1, 2.0)) == {0}
