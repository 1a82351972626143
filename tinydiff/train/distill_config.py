"""What a run that teaches a student is: a diffusion model that draws in few steps what its teacher draws in many."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

from tinydiff.noise.guidance import USUAL
from tinydiff.train.config import TrainConfig

GUIDANCE_WIDTH = 32  # of the waves that tell a student of a guided teacher the guidance


class Stage(NamedTuple):
    """A part of the run, with a teacher of its own: the run's, then the averaged student of the stage before.

    last           its last training step
    teacher_steps  of the grid that the teacher goes along
    steps          that the student then takes: half as many, or of consistency what the run is for
    consistency    whether it learns to see one image from everywhere on the teacher's way, instead of two steps in one
    told           whether its teacher is told the guidance; one that is not is asked twice
    """

    last: int
    teacher_steps: int
    steps: int
    consistency: bool
    told: bool

    @property
    def sampling(self):
        """How the student then draws, as options of ``Trajectory``. One made consistent is asked again at images that are
        noised anew (Song et al., "Consistency models", 2023, algorithm 1), as DDPM does from next to pure noise."""
        return {"sampler": "ddpm" if self.consistency else "ddim", "steps": self.steps}


@dataclasses.dataclass(frozen=True)
class DistillConfig(TrainConfig):
    """A student and the run that teaches it. Raises ``ValueError`` naming the field that is out of range.

    Stages halve the number of steps from ``teacher_steps`` to ``sampling_steps``, or to ``consistency_steps`` where
    those are not 0: then the last one is of consistency. ``restarts`` are where stages end, if none are given equally
    far apart, and where the last was made longer.
    """

    loss_weight: str = "truncated_snr"
    sampling_steps: int = 4  # of DDIM, in which the student is to draw
    teacher_steps: int = 32  # of DDIM, in which the first teacher is followed
    consistency_steps: int = 0
    guidance_range: tuple[float, ...] = (
        0.0,
        4.0,
    )  # from which the student is told one, where its teacher can be guided
    teacher: str = ""  # the digest of the run's teacher
    from_student: bool = False  # whether that is a student itself, which is told the guidance

    KIND, COMMAND, CALLED = "student", "distill", "the student"
    RANGES = (
        ("sampling_steps", 1, math.inf),
        ("consistency_steps", 0, math.inf),
        *TrainConfig.RANGES,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.prediction == "eps":
            raise ValueError(
                "prediction eps cannot be distilled: where there is next to no signal, as at the first of few steps, it "
                "says nothing of the image; train the teacher with prediction v, x0 or flow"
            )
        if self.teacher_steps > self.noise_steps:
            raise ValueError(
                f"teacher_steps must be at most the {self.noise_steps} noise steps of the schedule, got {self.teacher_steps}"
            )
        if self.consistency_steps and self.consistency_steps % self.sampling_steps:
            raise ValueError(
                f"consistency_steps must be a multiple of the {self.sampling_steps} of the student, got "
                f"{self.consistency_steps}"
            )
        low, high = self.guidance_range if len(self.guidance_range) == 2 else (0, -1)
        if not 0 <= low < high < math.inf:
            raise ValueError(f"guidance_range must be two numbers that rise from at least 0, got {self.guidance_range}")
        last = self.consistency_steps or self.sampling_steps
        ratio = self.teacher_steps / last
        if ratio not in {2.0**k for k in range(32)} or (ratio == 1 and not self.consistency_steps):
            raise ValueError(
                f"teacher_steps must be twice, four times, ... the {last} that they are halved to, got {self.teacher_steps}"
            )
        count = len(self._shapes)
        if not self.restarts:
            object.__setattr__(self, "restarts", tuple(self.steps * number // count for number in range(1, count)))
        if self.steps < count or len(self.restarts) < count - 1:
            raise ValueError(f"steps of training must be at least one for each of {count} stages, got {self.steps}")

    @property
    def _shapes(self):
        """(steps of the teacher, of the student, whether of consistency) of each stage."""
        last, steps, shapes = self.consistency_steps or self.sampling_steps, self.teacher_steps, []
        while steps > last:
            shapes.append((steps, steps // 2, False))
            steps //= 2
        return shapes + ([(steps, self.sampling_steps, True)] if self.consistency_steps else [])

    @property
    def stages(self):
        """The ``Stage``s, one after another."""
        shapes = self._shapes
        lasts = [*self.restarts[: len(shapes) - 1], self.steps]
        return [
            Stage(last, *shape, told=number > 0 or self.from_student)
            for number, (last, shape) in enumerate(zip(lasts, shapes, strict=True))
        ]

    def stage_at(self, step):
        """The ``Stage`` of training step 1 .. steps; of step 0 the first."""
        return next(stage for stage in self.stages if step <= stage.last)

    def guidance_near(self, guidance):
        """The guidance nearest to this one that the student knows."""
        low, high = self.guidance_range
        return min(max(guidance, low), high) if self.model.guidance_width else guidance

    def guidance_told(self, asked=None):
        """The guidance to draw with: the one asked for, by default that nearest to the usual one. Raises ``ValueError`` as
        ``expect_taught``."""
        guidance = self.guidance_near(USUAL) if asked is None else asked
        self.expect_taught(guidance)
        return guidance

    def expect_taught(self, guidance):
        """Raise ``ValueError`` for a guidance that the student does not know."""
        low, high = self.guidance_range
        if self.model.guidance_width and not low <= guidance <= high:
            raise ValueError(
                f"guidance must lie in [{low:g}, {high:g}], which this student was taught, got {guidance:g}"
            )
