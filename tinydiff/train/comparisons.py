"""Pictures of what a student draws beside what its teacher draws of the same noise, while it learns."""

from __future__ import annotations

import functools

from tinydiff import pictures
from tinydiff.generate import draw
from tinydiff.train.run import SAMPLE_OPTIONS, SAMPLES_PER_CLASS, shown


def picture_of(trainer):
    """A function that saves a picture at a path: on the left the teacher of the stage that a ``Distiller`` is in, on
    the right the averaged student, each in its number of steps; the same noise every time."""
    config = trainer.config
    labels, columns = shown(trainer.model.classes, SAMPLES_PER_CLASS, trainer.image_shape)
    guidance = config.guidance_near(SAMPLE_OPTIONS["guidance"])
    sides = {}  # by stage, as another has another teacher

    def of_stage(stage):
        by_teacher = {"sampler": "ddim", "steps": stage.teacher_steps}
        both = (trainer.teacher_trajectory, by_teacher), (trainer.trajectory, stage.sampling)
        return [functools.cache(functools.partial(of, guidance=guidance, **sampling)) for of, sampling in both]

    def draw_picture(path):
        if trainer.stage not in sides:
            sides.clear()
            sides[trainer.stage] = of_stage(trainer.stage)
        options = dict(seed=config.seed, decode=trainer.decode, at_most=config.part)
        drawn = [draw(side, labels, trainer.image_shape, **options) for side in sides[trainer.stage]]
        pictures.save(pictures.side_by_side(*(pictures.grid(images, columns) for images in drawn)), path)

    return draw_picture
