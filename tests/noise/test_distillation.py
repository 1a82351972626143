"""What a student is to learn: that one of its steps ends where two of its teacher's do."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import assert_close, normal
from tinydiff.noise import distillation, predictions, schedules
from tinydiff.noise.distillation import Lessons, lesson
from tinydiff.noise.schedules import CLEAN
from tinydiff.samplers import ddim

KINDS = ("x0", "v", "flow")
MEAN, STD = np.array([0.3, -0.2]), 0.6


def exact(x, step, schedule):
    """The clean image that is expected at x, of data normal with MEAN and STD."""
    a, s = schedule.rates(step)
    return (MEAN * s**2 + a * STD**2 * x) / (a**2 * STD**2 + s**2)


def predicting(kind, schedule, step):
    """x -> the exact denoiser's prediction at one noise step, of a kind."""
    a, s = schedule.rates(step)
    return lambda x: predictions.convert("x0", kind, exact(x, step, schedule), x, a, s)


def entry(lessons, i):
    """One of ``Lessons``, for samples (N, 2)."""
    return Lessons(*(each[i].reshape(1, 1) for each in lessons))


def goes_to(x, steps, schedule, denoise):
    """Where DDIM is at the last of these steps."""
    steps = list(steps)
    way = ddim(denoise, x, schedule, steps[:-1] if steps[-1] == CLEAN else steps)
    return next(itertools.islice(way, len(steps) - 1, None)).x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "schedule", [schedules.cosine(50), schedules.linear(60), schedules.flow(48)], ids=lambda s: s.name
)
@given(steps=st.integers(1, 24), seed=st.integers(0, 100), data=st.data())
def test_one_step_with_the_target_ends_where_two_steps_of_the_teacher_end(schedule, kind, steps, seed, data):
    lessons, grid = distillation.halving(schedule, kind, steps), [*schedule.grid(2 * steps), CLEAN]
    i, x = data.draw(st.integers(0, steps - 1)), normal(seed, 3, 2)
    step, middle, end = grid[2 * i : 2 * i + 3]
    assert (lessons.step[i], lessons.middle[i]) == (step, middle) and step == schedule.grid(steps)[i]
    teacher = [predicting(kind, schedule, each) for each in (step, middle)]
    target = lesson(*teacher, x, entry(lessons, i))
    x0 = predictions.x0_of(kind, target, x, *schedule.rates(step))
    by_two = goes_to(x, [step, middle, end], schedule, lambda x, step: exact(x, step, schedule))
    assert_close(goes_to(x, [step, end], schedule, lambda x, step: x0), by_two, 1e-9)


def test_the_target_is_that_of_salimans_and_ho():
    """Algorithm 2: (x'' - (s'' / s) x) / (a'' - (s'' / s) a)."""
    schedule, x = schedules.cosine(100), normal(0, 4, 2)
    grid = schedule.grid(8)
    x_end = goes_to(x, grid[2:5], schedule, lambda x, step: exact(x, step, schedule))
    (a, s), (a_end, s_end) = schedule.rates(grid[2]), schedule.rates(grid[4])
    teacher = [predicting("x0", schedule, each) for each in grid[2:4]]
    target = lesson(*teacher, x, entry(distillation.halving(schedule, "x0", 4), 1))
    assert_close(target, (x_end - s_end / s * x) / (a_end - s_end / s * a), 1e-9)


def test_guesses_beyond_the_range_of_the_data_are_clipped():
    lessons = distillation.halving(schedules.cosine(100), "x0", 4)
    target = lesson(lambda x: 0 * x + 3, lambda x: 0 * x - 0.5, normal(0, 2, 2), entry(lessons, 1), clip=(-1, 1))
    share = lessons.share[1]
    assert 0.1 < share < 0.9
    assert_close(target, np.full((2, 2), share - 0.5 * (1 - share)))


@pytest.mark.parametrize("kind", KINDS)
def test_consistency_asks_for_what_the_student_sees_one_step_further(kind):
    schedule, x = schedules.cosine(60), normal(0, 4, 2)
    grid, lessons = schedule.grid(6), distillation.consistency(schedule, kind, 6)
    student = lambda step: lambda x: predictions.join(kind, np.sin(x), (x - a * np.sin(x)) / s, a, s)
    for i, (step, following) in enumerate(zip(grid, [*grid[1:], CLEAN])):
        teacher = predicting(kind, schedule, step)
        a, s = schedule.rates(step if following == CLEAN else following)  # where the student is asked
        target = lesson(teacher, student(following), x, entry(lessons, i))
        seen = predictions.x0_of(kind, target, x, *schedule.rates(step))
        landed = goes_to(x, [step, following], schedule, lambda x, step: exact(x, step, schedule))
        assert_close(seen, landed if following == CLEAN else np.sin(landed), 1e-9)


def test_a_prediction_v_is_the_image_itself_where_there_is_no_noise():
    """The boundary condition of consistency models."""
    x, prediction = normal(0, 3, 2), normal(1, 3, 2)
    assert np.array_equal(predictions.x0_of("v", prediction, x, *schedules.cosine(10).rates(CLEAN)), x)


def test_more_steps_than_the_schedule_has():
    with pytest.raises(ValueError, match=r"steps must be an integer in \[1, 10\], the schedule's noise steps, got 12"):
        distillation.halving(schedules.cosine(10), "v", 6)
