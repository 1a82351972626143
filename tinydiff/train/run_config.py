"""What every training run is, whatever it trains: the numbers of its batches, its optimizer and its learning rate."""

from __future__ import annotations

import dataclasses
import math

from tinydiff.model.fields import expect_types

DECAYS = ("cosine", "constant")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The part that all runs have; a run's own configuration adds its ``model`` and what that is to learn.

    KIND     what checkpoints call a run of this configuration
    COMMAND  of ``tinydiff`` that begins it and goes on with it
    CALLED   what messages call its model

    autoencoder  the digest of that in whose latents the model works (``latents``); "": on images themselves
    text         the fingerprint of the encoder of the texts that it looks at (``texts``); "": it looks at none

    Raises ``ValueError`` naming the field that is not as CHOICES, RANGES and POSITIVE, which a subclass adds to, have it.
    """

    data: str = "mnist"  # the name of the data set
    batch: int = 64
    parts: int = 1  # that it is computed in, one after another or by many ranks; their gradients are added as a tree
    steps: int = 1000
    learning_rate: float = 1e-3  # its peak
    warmup_steps: int = 50  # steps over which the learning rate rises linearly from 0
    decay: str = "cosine"  # of the learning rate, to 0 at the last step; or "constant"
    weight_decay: float = 0.0
    clip: float = 1.0  # limit of the gradient's global norm
    average_decay: float = 0.999
    seed: int = 0
    flip: bool = False  # whether every image is met as often mirrored along its width
    restarts: tuple[int, ...] = ()  # after which steps the run, finished, was made longer and the decay began anew

    KIND = COMMAND = None
    CALLED = "the model"
    autoencoder = text = ""
    captioned = False  # whether its data are images with captions
    CHOICES = (("decay", DECAYS),)
    RANGES = (
        ("batch", 1, math.inf),
        ("parts", 1, math.inf),
        ("steps", 1, 10**9),
        ("warmup_steps", 0, math.inf),
        ("weight_decay", 0, math.inf),
        ("seed", 0, 2**64 - 1),
    )
    POSITIVE = ("learning_rate", "clip")

    def __post_init__(self):
        expect_types(self)
        for name, allowed in self.CHOICES:
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name, low, high in self.RANGES:
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie in [{low}, {high}], got {getattr(self, name)}")
        if self.batch % self.parts:
            raise ValueError(f"batch must be a multiple of parts, {self.parts}, got {self.batch}")
        for name in self.POSITIVE:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if not 0 <= self.average_decay < 1:
            raise ValueError(f"average_decay must lie in [0, 1), got {self.average_decay}")
        if list(self.restarts) != sorted({each for each in self.restarts if 0 < each < self.steps}):
            raise ValueError(f"restarts must be rising steps in (0, {self.steps}), got {self.restarts}")

    @property
    def part(self):
        """How many images are computed at once."""
        return self.batch // self.parts

    def expect_fits(self, dataset, shape=None):
        """Raise ``ValueError`` unless the images of a data set are such as the model takes, or of a given shape."""
        shape = shape or self.model.shape
        if dataset.shape != shape:
            raise ValueError(f"{dataset.name} has images of {dataset.shape}, {self.CALLED} takes {shape}")

    def learning_rate_at(self, step):
        """The learning rate of training step 1 .. steps.

        After each of ``restarts`` it rises and falls once more, as if a run began there (Loshchilov and Hutter, "SGDR:
        stochastic gradient descent with warm restarts", 2017).
        """
        begin = max((each for each in self.restarts if each < step), default=0)
        end = min((each for each in self.restarts if each >= step), default=self.steps)
        warmup = min(1.0, (step - begin) / (self.warmup_steps + 1))
        if self.decay == "constant":
            return self.learning_rate * warmup
        progress = max(0.0, (step - begin - self.warmup_steps) / max(1, end - begin - self.warmup_steps))
        return self.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def lengthened(self, steps, *, at):
        """The same run, now at step ``at``, made ``steps`` long in all.

        A constant learning rate goes on as it is. A cosine has fallen to 0: after a restart it rises and falls again, and
        training goes on from the averaged parameters, which is what the finished run is used with.

        Raises ``ValueError`` for a run on a cosine that is not finished: its learning rate is on the way to another end.
        """
        if steps <= self.steps:
            raise ValueError(f"steps must be more than the {self.steps} of the run, got {steps}")
        if self.decay == "constant":
            return dataclasses.replace(self, steps=steps)
        if at != self.steps:
            raise ValueError(
                f"a run whose learning rate falls on a cosine can be made longer when it is finished; this one is at step "
                f"{at} of {self.steps}"
            )
        return dataclasses.replace(self, steps=steps, restarts=(*self.restarts, at))

    def to_dict(self):
        """As plain dictionaries and lists, for JSON; ``TrainConfig(**config.to_dict())`` is the same."""
        return dataclasses.asdict(self)
