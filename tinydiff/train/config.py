"""What a training run of a diffusion model is: every number that decides its result, and nothing that does not."""

from __future__ import annotations

import dataclasses

from tinydiff.model.unet import UNetConfig
from tinydiff.noise import predictions, schedules
from tinydiff.train.run_config import RunConfig

UNKNOWN = "unknown"  # the data set of an imported model that does not say


@dataclasses.dataclass(frozen=True)
class TrainConfig(RunConfig):
    """A model, its noise, and the run that trains it. Raises ``ValueError`` naming the field that is out of range."""

    model: UNetConfig = UNetConfig()
    schedule: str = "cosine"
    noise_steps: int = 200  # T
    prediction: str = "v"
    loss_weight: str = "simple"
    step_power: float = 1.0  # how often each noise step is met: 1 equally, more favours high noise (``noise.density``)
    label_dropout: float = 0.1  # probability of training without the label, for guidance
    text: str = ""  # the fingerprint of the encoder of the texts that the model looks at (``texts``); "": at none
    autoencoder: str = ""  # the digest of that in whose latents the model works (``latents``); "": on images themselves

    KIND, COMMAND = "diffusion", "train"
    CHOICES = (
        ("schedule", schedules.SCHEDULES),
        ("prediction", predictions.KINDS),
        ("loss_weight", predictions.WEIGHTINGS),
        *RunConfig.CHOICES,
    )
    RANGES = (
        ("noise_steps", 1, 10**6),
        ("label_dropout", 0, 1),
        *RunConfig.RANGES,
    )
    POSITIVE = (*RunConfig.POSITIVE, "step_power")

    @property
    def captioned(self):
        return bool(self.text)

    @property
    def drawing(self):
        """Options of ``Trajectory`` that follow: latents have no range that they could be clipped to."""
        return {"clip": None} if self.autoencoder else {}

    def expect_fits(self, dataset, shape=None):
        """Raise ``ValueError`` unless images and classes of a data set are those of the model."""
        super().expect_fits(dataset, shape)
        if self.model.classes and dataset.classes != self.model.classes:
            raise ValueError(f"{dataset.name} has {dataset.classes} classes, the model {self.model.classes}")
