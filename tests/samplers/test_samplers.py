"""Every sampler against data whose exact denoiser E[x0 | x] is known."""

import numpy as np
import pytest

from tests.checks import assert_close, broken, normal
from tinydiff.data.points2d import Mixture
from tinydiff.noise import schedules
from tinydiff.samplers import SAMPLERS, ddim, ddpm, dpm_solver_pp, euler, finish, flow_heun, heun

SCHEDULE = schedules.linear(1000)
MEAN, STD = 0.3, 0.5
TWO_NORMALS = Mixture([0.4, 0.6], [[-1.0], [1.0]], [[[0.3**2]], [[0.15**2]]])


def gaussian(x, step, schedule=SCHEDULE):
    """E[x0 | x] where x0 is normal with MEAN and STD: the prior and x weighed by their precisions."""
    a, s = schedule.rates(step)
    return (MEAN / STD**2 + a * x / s**2) / (1 / STD**2 + a**2 / s**2)


def mixture(x, step):
    """E[x0 | x] where x0 is one of two normals."""
    return TWO_NORMALS.denoise(x[:, None], *SCHEDULE.rates(step))[:, 0]


def grid(n):
    """n steps evenly spaced in log sigma, so that halving the step size means doubling n."""
    return SCHEDULE.step_at(np.geomspace(20, 0.02, n))


def exact_flow_of_the_gaussian(x, first, last):
    """The probability flow keeps (z - mean) / standard deviation of z, in z = x / a."""
    (a, s), (a_last, s_last) = SCHEDULE.rates(first), SCHEDULE.rates(last)
    shrink = np.sqrt((STD**2 + (s_last / a_last) ** 2) / (STD**2 + (s / a) ** 2))
    return a_last * (MEAN + shrink * (x / a - MEAN))


def measured_order(sampler, data):
    x = np.linspace(-2, 2, 41)
    fine = grid(3000)
    if data is gaussian:
        # what all grids share is the last step: from the smallest sigma to the clean image in one go
        truth = gaussian(exact_flow_of_the_gaussian(x, fine[0], fine[-1]), fine[-1])
    else:
        truth = finish(heun(data, x, SCHEDULE, fine))
    counts = np.array([20, 40, 80, 160])
    errors = [np.sqrt(np.mean((finish(sampler(data, x, SCHEDULE, grid(n))) - truth) ** 2)) for n in counts]
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


@pytest.mark.parametrize("sampler, order", [(ddim, 1), (heun, 2), (dpm_solver_pp, 2), (euler, 1), (flow_heun, 2)])
@pytest.mark.parametrize("data", [gaussian, mixture])
def test_order_of_convergence(sampler, order, data):
    assert abs(measured_order(sampler, data) - order) < 0.15


@pytest.mark.parametrize(
    "sampler, line, replacement",
    [
        (ddim, "a_next * x0_hat", "a * x0_hat"),
        (heun, "0.5 * (slope + slope_next)", "slope"),
        (flow_heun, "0.5 * (speed + _speed(landed, denoise(landed, following), schedule, following))", "speed"),
        (dpm_solver_pp, "D = (1 + 1 / (2 * r)) * x0_hat - 1 / (2 * r) * x0_hat_before", "pass"),
    ],
)
def test_a_dropped_term_costs_an_order(sampler, line, replacement):
    assert measured_order(broken(sampler, line, replacement), gaussian) < measured_order(sampler, gaussian) - 0.8


def test_evaluations():
    for name, sampler in SAMPLERS.items():
        asked = []

        def denoise(x, step, asked=asked):
            asked.append(step)
            return 0 * x

        finish(
            sampler.run(denoise, np.ones(3), SCHEDULE, SCHEDULE.grid(10, sampler.spacing), noise=lambda i: np.ones(3))
        )
        assert len(asked) == (19 if name in ("heun", "flow-heun") else 10)


def noise_source(seed, shape):
    rng = np.random.default_rng(seed)
    return lambda i: rng.standard_normal(shape)


def test_ddpm_with_beta_variance_is_exact_for_standard_normal_data():
    """At any stride: the variance stays 1 all the way (Ho et al., 2020, section 3.2)."""
    n = 100_000
    for count in (SCHEDULE.T, 20):
        states = ddpm(
            lambda x, step: SCHEDULE.rates(step)[0] * x,
            normal(0, n),
            SCHEDULE,
            SCHEDULE.grid(count),
            noise=noise_source(1, n),
            variance="beta",
        )
        for i, state in enumerate(states):
            if i % (count // 5) == 0 and state.step >= 0:  # the step to the clean image adds no noise
                assert abs(np.var(state.x) - 1) < 5 * np.sqrt(2 / n)
                assert abs(np.mean(state.x)) < 5 / np.sqrt(n)


def test_ddpm_with_posterior_variance_is_exact_for_a_single_point():
    """At any stride: x at each step is normal around a x0 with the variance 1 - a^2."""
    n = 100_000
    for count in (SCHEDULE.T, 20):
        a, s = SCHEDULE.rates(SCHEDULE.T - 1)
        start = a * MEAN + s * normal(2, n)
        states = ddpm(lambda x, step: MEAN + 0 * x, start, SCHEDULE, SCHEDULE.grid(count), noise=noise_source(3, n))
        for i, state in enumerate(states):
            if i % (count // 5) == 0:
                a, s = SCHEDULE.rates(state.step)
                assert abs(np.mean(state.x) - a * MEAN) < 5 * s / np.sqrt(n) + 1e-12
                assert abs(np.var(state.x) - s**2) < 5 * s**2 * np.sqrt(2 / n) + 1e-12


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_ddpm_gives_the_mean_and_covariance_of_the_data(variance):
    n, schedule = 40_000, schedules.cosine(1000)
    mean, covariance = np.array([0.3, -0.5]), np.array([[0.25, 0.15], [0.15, 0.13]])

    def denoise(x, step):
        a, s = schedule.rates(step)
        gain = a * covariance @ np.linalg.inv(a * a * covariance + s * s * np.eye(2))
        return mean + (x - a * mean) @ gain.T

    x = finish(
        ddpm(denoise, normal(0, n, 2), schedule, schedule.grid(1000), noise=noise_source(4, (n, 2)), variance=variance)
    )
    assert np.all(np.abs(x.mean(axis=0) - mean) < 5 * np.sqrt(np.diag(covariance) / n))
    # at T = 1000 either choice of variance is off by less than 1 % (one too small, the other too large),
    # to which 5 standard errors of a variance are added
    assert np.all(np.abs(np.cov(x.T) / covariance - 1) < 0.01 + 5 * np.sqrt(2 / n))


def test_ddim_with_eta_one_is_ddpm():
    x, steps = normal(0, 7), SCHEDULE.grid(30)
    a = finish(ddim(gaussian, x, SCHEDULE, steps, noise=noise_source(5, 7), eta=1.0))
    b = finish(ddpm(gaussian, x, SCHEDULE, steps, noise=noise_source(5, 7)))
    assert_close(a, b, 1e-9)


@pytest.mark.parametrize("name", SAMPLERS)
def test_trajectories(name):
    """Each state holds x at its step and what the network sees in it; the last is the clean image."""
    sampler = SAMPLERS[name]
    x, steps = normal(0, 4), SCHEDULE.grid(5, sampler.spacing)
    before = x.copy()
    states = list(sampler.run(gaussian, x, SCHEDULE, steps, noise=noise_source(6, 4)))
    assert [state.step for state in states] == [*steps, -1]
    assert np.array_equal(states[0].x, before) and np.array_equal(x, before)
    for state in states[:-1]:
        assert_close(state.x0_hat, gaussian(state.x, state.step))
    assert states[-1].x is states[-1].x0_hat
    assert np.array_equal(states[-1].x, finish(sampler.run(gaussian, x, SCHEDULE, steps, noise=noise_source(6, 4))))


def test_float32_stays_float32():
    x = normal(0, 4, dtype=np.float32)
    for sampler in SAMPLERS.values():
        steps = SCHEDULE.grid(5, sampler.spacing)
        for state in sampler.run(lambda x, step: 0.5 * x, x, SCHEDULE, steps, noise=lambda i: x):
            assert state.x.dtype == state.x0_hat.dtype == np.float32


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda x: ddpm(gaussian, x, SCHEDULE, [5, 3], noise=None, variance="mine"),
            "variance must be one of posterior, beta",
        ),
        (lambda x: ddim(gaussian, x, SCHEDULE, [5, 3], eta=2), r"eta must lie in \[0, 1\], got 2"),
        (lambda x: ddim(gaussian, x, SCHEDULE, [5, 3], eta=1), "noise must be given for eta > 0"),
        (lambda x: heun(gaussian, x, SCHEDULE, [3, 5]), "steps must be a falling sequence"),
        (lambda x: dpm_solver_pp(gaussian, x, SCHEDULE, []), "steps must be a falling sequence of at least one step"),
        (lambda x: ddim(gaussian, x, SCHEDULE, [1000]), r"step must be -1 \(clean\) or lie in \[0, 999\]"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        finish(call(np.ones(2)))


@pytest.mark.parametrize("schedule", [schedules.linear(1000), schedules.flow(200)], ids=lambda each: each.name)
def test_euler_along_straight_paths_is_ddim_without_noise(schedule):
    x, steps = normal(0, 500), schedule.grid(10)
    denoise = lambda x, step: gaussian(x, step, schedule)
    for one, other in zip(euler(denoise, x, schedule, steps), ddim(denoise, x, schedule, steps), strict=True):
        assert one.step == other.step
        assert_close(one.x, other.x, 1e-12)


def test_one_step_is_enough_where_all_paths_are_straight():
    """To a single point they are."""
    schedule, x = schedules.flow(200), normal(0, 50)
    for sampler in (euler, flow_heun):
        assert_close(finish(sampler(lambda x, step: MEAN + 0 * x, x, schedule, schedule.grid(1))), MEAN + 0 * x)


def test_straight_paths_take_few_steps():
    """Flow matching of a normal: of second order in t, with 8 steps of Heun nearer than 8 of Euler and 4 of Heun."""
    schedule, x = schedules.flow(1000), np.linspace(-2, 2, 41)
    denoise = lambda x, step: gaussian(x, step, schedule)
    truth = finish(flow_heun(denoise, x, schedule, schedule.grid(1000)))
    error = lambda sampler, n: np.abs(finish(sampler(denoise, x, schedule, schedule.grid(n))) - truth).max()
    assert error(flow_heun, 8) < 0.5 * error(flow_heun, 4) and error(flow_heun, 8) < 0.3 * error(euler, 8)
