"""A student at one guidance as the plain diffusion model that it then is, for those that cannot tell a network a
guidance.

A guidance w enters where the step does, before a linear layer: h = (waves of step + waves of w P) W + b, with the
projection P. So for one w it is part of the bias: b' = b + waves of w P W.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tinydiff import backends
from tinydiff.train.config import TrainConfig
from tinydiff.train.distill_config import DistillConfig

PROJECTION, WEIGHT, BIAS = (
    f"time_embedding.{name}" for name in ("cond_proj.weight", "linear_1.weight", "linear_1.bias")
)


def at_guidance(checkpoint, guidance):
    """The ``Checkpoint`` of a student, or any other, with the parameters and their average as those of a model that is
    not told the guidance; to draw from, not to train further.

    Raises ``ValueError`` for a guidance that the student was not taught.
    """
    config = checkpoint.config
    if not isinstance(config, DistillConfig):
        return checkpoint
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(TrainConfig)}
    parts = {part: dict(checkpoint.parts[part]) for part in ("model", "average")}
    if config.model.guidance_width:
        config.expect_taught(guidance)
        fields["model"] = dataclasses.replace(config.model, guidance_width=0)
        for named in parts.values():
            told = np.array([guidance], np.float64)
            waves = backends.get("numpy").timestep_embedding.forward(told, width=config.model.guidance_width)
            shift = waves @ named.pop(PROJECTION) @ named[WEIGHT]
            named[BIAS] = (named[BIAS] + shift[0]).astype(np.float32)
    return checkpoint._replace(config=TrainConfig(**fields), parts={**checkpoint.parts, **parts})
