"""What a training run is: every number that decides its result, and nothing that does not."""

from __future__ import annotations

import dataclasses
import math

from tinydiff.model.unet import UNetConfig
from tinydiff.noise import predictions, schedules

DECAYS = ("cosine", "constant")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A model, its noise, its optimizer. Raises ``ValueError`` naming the field that is out of range."""

    model: UNetConfig = UNetConfig()
    data: str = "mnist"  # the name of the data set
    schedule: str = "cosine"
    noise_steps: int = 200  # T
    prediction: str = "v"
    loss_weight: str = "simple"
    step_power: float = 1.0  # how often each noise step is met: 1 equally, more favours high noise (``noise.density``)
    label_dropout: float = 0.1  # probability of training without the label, for guidance

    batch: int = 64
    steps: int = 1000
    learning_rate: float = 1e-3  # its peak
    warmup_steps: int = 50  # steps over which the learning rate rises linearly from 0
    decay: str = "cosine"  # of the learning rate, to 0 at the last step; or "constant"
    weight_decay: float = 0.0
    clip: float = 1.0  # limit of the gradient's global norm
    average_decay: float = 0.999
    seed: int = 0

    def __post_init__(self):
        if isinstance(self.model, dict):  # from JSON
            object.__setattr__(self, "model", UNetConfig(**self.model))
        for name, allowed in (
            ("schedule", schedules.SCHEDULES),
            ("prediction", predictions.KINDS),
            ("loss_weight", predictions.WEIGHTINGS),
            ("decay", DECAYS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name, low, high in (
            ("noise_steps", 1, math.inf),
            ("label_dropout", 0, 1),
            ("batch", 1, math.inf),
            ("steps", 1, math.inf),
            ("warmup_steps", 0, math.inf),
            ("weight_decay", 0, math.inf),
            ("seed", 0, 2**64 - 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie in [{low}, {high}], got {getattr(self, name)}")
        for name in ("learning_rate", "clip", "step_power"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if not 0 <= self.average_decay < 1:
            raise ValueError(f"average_decay must lie in [0, 1), got {self.average_decay}")

    def learning_rate_at(self, step):
        """The learning rate of training step 1 .. steps."""
        warmup = min(1.0, step / (self.warmup_steps + 1))
        if self.decay == "constant":
            return self.learning_rate * warmup
        progress = max(0.0, (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
        return self.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def to_dict(self):
        """As plain dictionaries and lists, for JSON; ``TrainConfig(**config.to_dict())`` is the same."""
        return dataclasses.asdict(self)
