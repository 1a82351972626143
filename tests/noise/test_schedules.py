import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.checks import assert_close
from tinydiff.noise import schedules

anything = st.builds(schedules.get, st.sampled_from(list(schedules.SCHEDULES)), st.integers(1, 1000))


def test_linear_1000_is_the_schedule_of_the_paper():
    schedule = schedules.linear(1000)
    assert schedule.beta[0] == 1e-4 and schedule.beta[-1] == 0.02
    assert abs(schedule.alpha_bar[-1] - 4.036e-5) < 5e-9
    assert abs(schedule.signal_rate[-1] - 0.00635) < 5e-6
    assert abs(schedule.snr_db[-1] + 43.9) < 0.05


def test_a_short_linear_schedule_ends_as_far_from_the_image_as_a_long_one():
    ends = [schedules.linear(T).snr_db[-1] for T in (100, 200, 500, 1000)]
    assert all(abs(end - ends[-1]) < 6 for end in ends)
    unscaled = schedules.Schedule("unscaled", np.linspace(1e-4, 0.02, 200))
    assert unscaled.snr_db[-1] > ends[-1] + 30


def test_cosine_follows_its_formula_until_the_clip():
    schedule = schedules.cosine(1000)
    t = np.arange(1, 1001) / 1000
    f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    assert_close(schedule.alpha_bar[:-1] / f[:-1], np.ones(999), 1e-9)
    assert schedule.beta.max() == schedule.beta[-1] == 0.999


@given(anything)
def test_tables_agree_with_one_another(schedule):
    assert_close(schedule.alpha_bar, np.cumprod(1 - schedule.beta))
    assert_close(schedule.signal_rate**2 + schedule.noise_rate**2, np.ones(schedule.T))
    assert_close(np.exp(schedule.log_snr / 2) * schedule.sigma, np.ones(schedule.T), 1e-9)
    assert_close(schedule.snr_db, 10 * np.log10(schedule.alpha_bar / -np.expm1(schedule.log_alpha_bar)), 1e-9)
    assert np.all(np.diff(schedule.alpha_bar) < 0)


@given(anything)
def test_posterior_is_bayes_rule(schedule):
    """q(x' | x0) q(x | x') as a Gaussian in x': precisions add, and means add weighted by precision."""
    x0_coefficient, x_coefficient, variance = schedule.posterior
    alpha, beta = 1 - schedule.beta[1:], schedule.beta[1:]
    before = schedule.alpha_bar[:-1]
    precision = 1 / (1 - before) + alpha / beta
    assert_close(variance[1:], 1 / precision, 1e-9)
    assert_close(x0_coefficient[1:], np.sqrt(before) / (1 - before) / precision, 1e-9)
    assert_close(x_coefficient[1:], np.sqrt(alpha) / beta / precision, 1e-9)
    assert_close([x0_coefficient[0], x_coefficient[0], variance[0]], [1, 0, 0])


@given(anything, st.data())
def test_rates_between_the_steps(schedule, data):
    step = data.draw(st.integers(0, schedule.T - 1))
    assert_close(schedule.rates(step), (schedule.signal_rate[step], schedule.noise_rate[step]))
    between = data.draw(st.floats(0, schedule.T - 1))
    a, s = schedule.rates(between)
    assert abs(a * a + s * s - 1) < 1e-12
    assert abs(schedule.step_at(s / a) - between) < 1e-6
    assert schedule.rates(-1) == (1, 0)


def test_rates_out_of_range():
    for step in (-2, -0.5, 10, 9.5):
        with pytest.raises(ValueError, match=r"step must be -1 \(clean\) or lie in \[0, 9\]"):
            schedules.linear(10).rates(step)


@given(anything, st.sampled_from(schedules.SPACINGS), st.data())
def test_grids_fall_within_the_schedule(schedule, spacing, data):
    most = schedule.T - (spacing == "leading")
    assume(most)
    count = data.draw(st.integers(1, most))
    grid = schedule.grid(count, spacing)
    assert len(grid) == count and np.all(np.diff(grid) < 0)
    assert 0 <= grid[-1] and grid[0] <= schedule.T - 1
    if spacing == "leading":
        assert grid[-1] == 1
    elif spacing != "karras":
        assert grid[0] == schedule.T - 1
    if spacing != "karras":
        assert np.all(grid == np.round(grid))


def test_grids():
    schedule = schedules.linear(1000)
    assert schedule.grid(4).tolist() == [999, 749, 499, 249]
    assert schedule.grid(4, "linspace").tolist() == [999, 666, 333, 0]
    assert schedule.grid(4, "leading").tolist() == [751, 501, 251, 1]
    assert schedule.grid(1000).tolist() == list(range(999, -1, -1))
    sigma = np.exp(np.interp(schedule.grid(18, "karras"), np.arange(1000), np.log(schedule.sigma)))
    assert_close(sigma[[0, -1]], [80, schedule.sigma[0]])
    assert_close(np.diff(sigma ** (1 / 7), n=2), np.zeros(16), 1e-9)


def test_a_way_that_ends_with_the_noise_of_a_step():
    schedule = schedules.scaled_linear(10)
    assert schedule.ending_at(0).rates(schedules.CLEAN) == schedule.rates(0) != schedule.rates(schedules.CLEAN)
    assert schedule.ending_at(0).rates(3) == schedule.rates(3)
    with pytest.raises(ValueError, match="steps must be fewer than the 10 noise steps with spacing leading, got 10"):
        schedule.grid(10, "leading")


def test_scaled_linear_is_that_of_stable_diffusion():
    schedule = schedules.scaled_linear()
    assert_close(schedule.beta[[0, -1]], [0.00085, 0.012])
    assert_close(np.diff(schedule.beta**0.5, n=2), np.zeros(998), 1e-12)
    assert abs(schedule.alpha_bar[-1] - 0.00466) < 1e-5 and abs(schedule.snr_db[-1] + 23.3) < 0.1


@pytest.mark.parametrize("count", [0, 11, 2.5, -1])
def test_bad_counts(count):
    with pytest.raises(ValueError, match=r"steps must be an integer in \[1, 10\], the schedule's noise steps, got"):
        schedules.linear(10).grid(count)


def test_bad_arguments():
    with pytest.raises(ValueError, match="schedule must be one of linear, cosine, flow, scaled_linear, got 'sine'"):
        schedules.get("sine", 10)
    with pytest.raises(ValueError, match="T must be an integer of at least 1, got 0"):
        schedules.cosine(0)
    with pytest.raises(ValueError, match="spacing must be one of"):
        schedules.linear(10).grid(2, "even")
    with pytest.raises(ValueError, match=r"beta must be a one-dimensional array of numbers in \(0, 1\)"):
        schedules.Schedule("mine", [0.1, 1.0])


def test_flow_has_at_every_step_the_noise_of_flow_matching():
    T = 200
    schedule, t = schedules.flow(T), np.arange(1, T) / T
    assert np.allclose(schedule.sigma[:-1], t / (1 - t), rtol=1e-9)
    a, s = schedule.signal_rate[:-1], schedule.noise_rate[:-1]
    assert np.allclose(s / (a + s), t, rtol=1e-9)
    assert schedule.alpha_bar[-1] < 1e-7  # as near to t = 1 as betas below 1 come
