"""A student small enough for a test, of a teacher that has hardly learned."""

import dataclasses
import functools

from tests.train import tiny
from tinydiff import backends
from tinydiff.train.distill_config import DistillConfig
from tinydiff.train.distiller import Distiller


@functools.cache
def teacher(steps=30, **model):
    """The ``Checkpoint`` of one."""
    trained = tiny.trainer(model=model, steps=steps, learning_rate=5e-3, average_decay=0.5, label_dropout=0.3)
    for _ in range(steps):
        trained.train_step()
    return trained.checkpoint()


def config_of(teacher, **changes):
    """A student of 2 steps, in three stages."""
    told = (teacher.config.model.classes or teacher.config.text) and not isinstance(teacher.config, DistillConfig)
    model = dataclasses.replace(teacher.config.model, guidance_width=8) if told else teacher.config.model
    fields = {field.name: getattr(teacher.config, field.name) for field in dataclasses.fields(teacher.config)}
    own = dict(loss_weight="truncated_snr", sampling_steps=2, teacher_steps=16, steps=9, batch=8, average_decay=0.5)
    return DistillConfig(**{**fields, **own, "model": model, "restarts": (), **changes})


def distiller(of=None, data=None, *, backend="numpy", precision="fp32", ranks=None, captured=True, **changes):
    """A student at its first step."""
    of = of or teacher()
    backend = backends.get(backend, precision) if isinstance(backend, str) else backend
    more = {} if ranks is None else {"ranks": ranks}
    made = Distiller(config_of(of, **changes), data or tiny.dataset(), backend, captured=captured, **more)
    made.learn_from(of)
    return made
