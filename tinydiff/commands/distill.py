"""``tinydiff distill``: a student that draws in a few steps, one evaluation each, what a trained model draws in
many."""

from __future__ import annotations

import dataclasses
import functools
import math

from tinydiff import report
from tinydiff.commands.arguments import load_checkpoint
from tinydiff.commands.train import (
    RUN_OVERRIDES,
    Kind,
    add_training_arguments,
    begin_or_go_on,
    data_of_run,
    given,
)
from tinydiff.terminal import one_line, own_command
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train import comparisons
from tinydiff.train.distill_config import GUIDANCE_WIDTH, DistillConfig
from tinydiff.train.distiller import Distiller
from tinydiff.train.presets import DISTILL_PRESETS

AS_TEACHER = ("schedule", "noise_steps", "prediction", "flip", "text", "autoencoder", "label_dropout")  # fields
CONSISTENT = {1: 8, 2: 8}  # to which steps is halved before consistency, by the steps of the student; see ``presets``
WITHOUT_FLAG = ("schedule", "noise-steps", "prediction", "flip", "step-power")


def numbers(text):
    return tuple(float(each) for each in text.split(","))


OVERRIDES = {
    "sampling-steps": (int, "of the sampler, in which the student is to draw (default 4)"),
    "teacher-steps": (
        int,
        "of the sampler, in which the teacher is followed: --steps times a power of two (default: up to 32)",
    ),
    "consistency-steps": (int, "to which steps are halved before the last stage, of consistency; 0: halved to the end"),
    "guidance-range": (numbers, "from which the student is told one (default 0,4)"),
    **{flag: of for flag, of in RUN_OVERRIDES.items() if flag not in WITHOUT_FLAG},
}


def add_arguments(parser):
    """The arguments of ``distill``."""
    parser.add_argument("run", nargs="?", help="the teacher: the run of a diffusion model, or a checkpoint")
    add_training_arguments(STUDENT, parser, "nothing")


def distill(args, ranks):
    """Teach a student, and leave samples beside its teachers' and the loss curve in the run's folder."""
    if (args.run is None) == (args.resume is None):
        raise ValueError(
            "run, the teacher, goes with a new student, and resume with one that goes on: give one of them"
        )
    if args.resume:
        return begin_or_go_on(STUDENT, args, ranks)
    teacher = load_checkpoint(args.run, ranks)
    begin = lambda trainer: trainer.learn_from(teacher)
    return begin_or_go_on(STUDENT._replace(new=functools.partial(_new, teacher), begin=begin), args, ranks)


def _new(teacher, args, ranks, backend, preset):
    """The config and the data set of a new run, whose teacher is a ``Checkpoint``."""
    config = student_of(teacher, preset.config, given(args, OVERRIDES))
    dataset = data_of_run(args, ranks, backend, teacher, args.run)
    return dataclasses.replace(config, data=dataset.name), dataset


def student_of(teacher, preset, fields):
    """The ``DistillConfig`` of a student of a ``Checkpoint``: a preset's, with stages as long, but for these fields.

    Raises ``ValueError`` for what cannot be had of this teacher.
    """
    of, is_student = teacher.config, isinstance(teacher.config, DistillConfig)
    steps = fields.setdefault("sampling_steps", preset.sampling_steps)
    if steps < 1:
        raise ValueError(f"steps of a student must be at least 1, got {steps}")
    stage = of.stage_at(teacher.step) if is_student else None
    if is_student and stage.consistency:
        raise ValueError("a student made consistent draws in one step as it is: there is nothing that it could teach")
    most = stage.steps if is_student else of.noise_steps
    if 2 * steps > most:
        whose = "the steps of this teacher, a student itself" if is_student else "the noise steps of its teacher"
        raise ValueError(f"steps of a student must be at most half of {whose}, {most}, got {steps}")
    if steps in CONSISTENT and CONSISTENT[steps] * (1 if is_student else 2) <= most:
        fields.setdefault("consistency_steps", CONSISTENT[steps])
    if is_student:
        fields.setdefault("teacher_steps", most)
        fields.setdefault("guidance_range", of.guidance_range)
        low, high = of.guidance_range
        if not low <= min(fields["guidance_range"]) <= max(fields["guidance_range"]) <= high:
            raise ValueError(f"guidance_range must lie in that of this teacher, [{low:g}, {high:g}]")
    else:
        halved_to = fields.get("consistency_steps") or steps
        doublings = max(1, int(math.log2(max(1, min(preset.teacher_steps, most) // halved_to))))
        fields.setdefault("teacher_steps", halved_to * 2**doublings)
    model = of.model
    if not is_student and (model.classes or of.text) and of.label_dropout:  # it can be guided
        model = dataclasses.replace(model, guidance_width=GUIDANCE_WIDTH)
    as_teacher = {name: getattr(of, name) for name in AS_TEACHER}
    told = dict(teacher=checkpoints.digest(teacher), from_student=is_student, restarts=())
    config = dataclasses.replace(preset, model=model, **{**as_teacher, **told, **fields})
    if "steps" in fields:
        return config
    each = preset.steps // len(preset.stages)
    return dataclasses.replace(config, steps=each * len(config.stages), restarts=())


def _data_of(args, ranks, backend, checkpoint):
    return data_of_run(args, ranks, backend, checkpoint, args.resume)


def _finish(args, folder, trainer):
    """Draw the pictures and say how more are drawn."""
    config, stage = trainer.config, trainer.stage
    sampling = {**stage.sampling, "guidance": config.guidance_told()}
    if not args.no_pictures and trainer.ranks.speaks:
        for path in report.write(trainer, folder.path, sampling):
            print(f"wrote {one_line(path)}")
    print(f"it draws in {stage.steps} step{'s' * (stage.steps > 1)}; to draw more:")
    print(f"  {own_command('sample', folder, '--seed', '3', '--out', 'more.png')}")


STUDENT = Kind(
    config=DistillConfig,
    trainer=Distiller,
    presets=DISTILL_PRESETS,
    run_overrides=OVERRIDES,
    model_overrides={},
    new=None,  # that of a teacher
    data_of=_data_of,
    network="U-Net",
    folder="student-",
    finish=_finish,
    picture_of=comparisons.picture_of,
    called={"sampling-steps": "steps", "steps": "training-steps"},
)
