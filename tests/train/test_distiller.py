"""A student: what it is taught is what its teacher does, the same bits whatever interrupts it, and it learns."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.checks import assert_close, backend_or_skip
from tests.ranks.threads import run as on_ranks
from tests.train import tiny, tiny_student, tiny_vae
from tests.train.tiny_student import config_of, distiller
from tinydiff.noise import predictions
from tinydiff.noise.guidance import guided
from tinydiff.noise.schedules import CLEAN
from tinydiff.samplers import ddim, finish
from tinydiff.train import NonFinite, comparisons
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.distill_config import DistillConfig
from tinydiff.train.distiller import TOLD
from tinydiff.train.presets import DISTILL_PRESETS


def train(trainer, steps):
    return [trainer.train_step() for _ in range(steps)]


def left_behind(trainer, steps=9):
    return train(trainer, steps), tiny.state(trainer)


@pytest.mark.parametrize("config", [preset.config for preset in DISTILL_PRESETS.values()], ids=list(DISTILL_PRESETS))
def test_json_round_trip(config):
    assert DistillConfig(**json.loads(json.dumps(config.to_dict()))) == config


def test_stages():
    config = config_of(tiny_student.teacher())
    assert [stage[:4] for stage in config.stages] == [(3, 16, 8, False), (6, 8, 4, False), (9, 4, 2, False)]
    assert [stage.told for stage in config.stages] == [False, True, True]
    assert [config.stage_at(step).last for step in (0, 1, 3, 4, 9)] == [3, 3, 3, 6, 9]
    longer = config.lengthened(20, at=9)
    assert longer.restarts == (3, 6, 9) and [stage.last for stage in longer.stages] == [3, 6, 20]
    consistent = config_of(tiny_student.teacher(), consistency_steps=8, restarts=(4,))
    assert [stage[:4] for stage in consistent.stages] == [(4, 16, 8, False), (9, 8, 2, True)]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"sampling_steps": 0}, r"sampling_steps must lie in \[1, inf\], got 0"),
        ({"prediction": "eps"}, "prediction eps cannot be distilled: where there is next to no signal"),
        ({"teacher_steps": 12}, "teacher_steps must be twice, four times, ... the 2 that they are halved to, got 12"),
        ({"teacher_steps": 2}, "teacher_steps must be twice, four times, ... the 2 that they are halved to, got 2"),
        ({"teacher_steps": 64}, "teacher_steps must be at most the 50 noise steps of the schedule, got 64"),
        ({"consistency_steps": 3}, "consistency_steps must be a multiple of the 2 of the student, got 3"),
        ({"guidance_range": (3.0, 1.0)}, "guidance_range must be two numbers that rise from at least 0, got"),
        ({"guidance_range": (1.0,)}, "guidance_range must be two numbers that rise from at least 0, got"),
        ({"steps": 2}, "steps of training must be at least one for each of 3 stages, got 2"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(ValueError, match=message):
        config_of(tiny_student.teacher(), **change)


def test_it_begins_as_its_teacher():
    """Whatever guidance it is told."""
    student, teacher = distiller(), tiny.trainer()
    teacher.restore(tiny_student.teacher()._replace(config=teacher.config))
    drawn = [finish(student.sample([0, 1], steps=4, seed=3, guidance=guidance)) for guidance in (0.5, 3.0)]
    assert np.array_equal(*drawn) and np.array_equal(drawn[0], finish(teacher.sample([0, 1], steps=4, seed=3)))


@pytest.mark.parametrize("prediction", ["v", "x0", "flow"])
@pytest.mark.parametrize("stage", [0, 2])
def test_its_target_is_where_two_guided_steps_of_its_teacher_end(prediction, stage):
    """Of each sample, by the sampler that draws."""
    student = distiller(prediction=prediction, batch=16)
    train(student, 3 * stage + 1)  # as a teacher of a later stage it must be told the guidance
    student.optimizer.prepare(student.step + 1, 0.0)
    batch = student.drawn()
    batch = batch._replace(guidance=student._guidance())
    target, grid = student.target(batch), [*student.schedule.grid(student.stage.teacher_steps), CLEAN]
    assert set(batch.labels) == {0, 1, 2} and len({*batch.step}) > 1
    for i, (step, label, w) in enumerate(zip(batch.step, batch.labels, batch.guidance)):
        x, teacher = batch.x[i : i + 1], student.teacher

        def predict(x, step, labels):
            told = {"guidance": np.full(len(x), w)} if student.stage.told else {}
            return teacher.predict(x, np.full(len(x), step, np.float32), labels, **told)

        labels = np.array([label])
        ask = guided(predict, labels, 2, 1.0 if student.stage.told else float(w), student.backend)
        denoise = predictions.denoiser(ask, student.schedule, prediction, clip=(-1, 1))
        at = grid.index(step)
        steps = [each for each in grid[at : at + 3] if each != CLEAN]
        by_two = next(itertools.islice(ddim(denoise, x, student.schedule, steps), 2, None)).x
        rates = student.schedule.rates(step)
        x0 = predictions.x0_of(prediction, target[i : i + 1], x, *rates)
        steps = [each for each in (grid[at], grid[at + 2]) if each != CLEAN]
        by_one = next(itertools.islice(ddim(lambda x, step: x0, x, student.schedule, steps), 1, None)).x
        assert_close(by_one, by_two, 1e-4)


def test_guidances_are_drawn_from_the_range_and_told():
    student = distiller(guidance_range=(1.0, 3.0), batch=64)
    student.optimizer.prepare(1, 0.0)
    told = student._guidance()
    assert 1 < told.min() < 1.2 and 2.8 < told.max() < 3
    student.optimizer.prepare(2, 0.0)
    assert not np.array_equal(told, student._guidance())


@pytest.mark.parametrize("changes", [{}, {"consistency_steps": 4}, {"parts": 2}], ids=str)
@settings(max_examples=3)
@given(stop=st.integers(1, 8))
def test_stopped_anywhere_and_resumed_equals_never_stopped(changes, stop):
    """At the end of a stage too."""
    straight, first, second = (distiller(**changes) for _ in range(3))
    metrics = train(straight, 9)
    before = train(first, stop)
    second.restore(first.checkpoint())
    assert before + train(second, 9 - stop) == metrics
    assert tiny.state(second) == tiny.state(straight)


@pytest.mark.parametrize("step", [3, 4])
def test_a_checkpoint_is_whole(tmp_path, step):
    """Written and read, at the end of a stage and after; the teacher is in it, whom the first stage does not tell the
    guidance."""
    first, second = distiller(), distiller()
    train(first, step)
    path = tmp_path / f"step-000000{step}.safetensors"
    checkpoints.save(path, first.checkpoint())
    loaded = checkpoints.load(path)
    assert loaded.config == first.config and (TOLD in loaded.parts["teacher"]) == (step > 3)
    second.restore(loaded)
    assert left_behind(second, 9 - step) == left_behind(first, 9 - step)


def test_each_stage_begins_with_the_averaged_student_of_the_one_before():
    student = distiller(steps=30)
    train(student, 10)
    average = student.average.copy()
    student.train_step()
    assert np.array_equal(student.teacher.parameters.values, average)
    assert np.abs(student.parameters.values - average).max() < 1e-3 < np.abs(average).max()


@pytest.mark.parametrize("backend, precision", [("cpu", "fp32"), ("cpu", "bf16"), ("emulator", "fp32")])
def test_the_same_losses_on_every_backend(backend, precision):
    backend = backend_or_skip(backend, precision)
    steps = 4 if backend.name == "emulator" else 9  # two stages, or all
    expected = [metrics.loss for metrics in train(distiller(), steps)]
    losses = [metrics.loss for metrics in train(distiller(backend=backend), steps)]
    assert losses == pytest.approx(expected, rel=0.02 if precision == "bf16" else 1e-3)


@pytest.mark.parametrize("backend, precision", [("cpu", "fp32"), ("cpu", "bf16")])
def test_captured_and_on_ranks_it_leaves_the_same_bits(backend, precision):
    made = lambda **more: distiller(backend=backend_or_skip(backend, precision), parts=4, **more)
    expected = left_behind(made())
    assert left_behind(made(captured=False)) == expected
    assert on_ranks(2, lambda ranks: left_behind(made(ranks=ranks))) == [expected] * 2


@pytest.mark.slow
def test_it_learns_to_do_in_one_step_what_its_teacher_does_in_two():
    """One stage on one fixed batch: then it draws in half the steps, and unguided, nearly what its guided teacher
    draws."""
    student = distiller(
        teacher_steps=4, steps=400, learning_rate=1e-2, guidance_range=(1.0, 3.0), average_decay=0.9, backend="auto"
    )
    errors = []

    def error():
        labels, options = [0, 1] * 8, dict(seed=5, guidance=2.5)
        by_teacher = finish(student.teacher_trajectory(16, steps=4, guidance=2.5).states(labels, seed=5))
        return np.mean((finish(student.sample(labels, steps=2, **options)) - by_teacher) ** 2)

    errors = [error()]
    losses = [metrics.loss for metrics in train(student, 400)]
    errors.append(error())
    assert np.mean(losses[-20:]) < 0.25 * np.mean(losses[:20])
    assert errors[1] < 0.4 * errors[0]


def test_a_teacher_without_classes_is_not_guided():
    student = distiller(tiny_student.teacher(classes=0))
    assert not student.model.takes_guidance
    train(student, 9)
    assert finish(student.sample([0, 0], steps=2)).shape == (2, 8, 8, 1)


def test_a_student_teaches_a_student():
    first = distiller()
    train(first, 9)
    second = distiller(first.checkpoint(), sampling_steps=1, teacher_steps=2, from_student=True)
    assert second.teacher.takes_guidance and np.array_equal(second.teacher.parameters.values, first.average)
    train(second, 9)


@pytest.mark.usefixtures("own_cache")
def test_in_latents():
    data = tiny_vae.encoded(tiny_vae.measured())
    trained = tiny_vae.latent_trainer(data)
    trained.train_step()
    student = distiller(trained.checkpoint(), data)
    straight = left_behind(student)
    assert student.checkpoint().autoencoder is trained.autoencoder and student.config.drawing == {"clip": None}
    assert left_behind(distiller(trained.checkpoint(), data)) == straight


def test_a_teacher_that_is_not_finite_is_named():
    student = distiller()
    train(student, 1)
    student.teacher.parameters["conv_out.weight"].value[...] = np.nan
    before = tiny.state(student)
    with pytest.raises(NonFinite, match="the first tensor that is not finite is the teacher's target"):
        student.train_step()
    assert tiny.state(student)["model", "conv_out.weight"] == before["model", "conv_out.weight"] and student.step == 1


def test_a_teacher_of_another_shape():
    other = tiny_student.teacher(film=True)
    student = distiller()
    with pytest.raises(ValueError, match="parameter .* must have shape"):
        student.learn_from(other)


def test_its_pictures_are_teacher_and_student(tmp_path):
    student = distiller()
    draw = comparisons.picture_of(student)
    for step in (1, 4):
        train(student, step)
        draw(tmp_path / f"{step}.png")
    with Image.open(tmp_path / "4.png") as picture:
        assert picture.size == (2 * 2 * (4 * 10 + 2) + 12, 2 * (2 * 10 + 2))
