"""What a training run of an autoencoder is."""

from __future__ import annotations

import dataclasses
import math

from tinydiff.model.autoencoder import AutoencoderConfig
from tinydiff.train.run_config import RunConfig

ERRORS = {"l1": "l1_loss", "mse": "mse_loss"}  # what an image is compared with its reconstruction by: the op


@dataclasses.dataclass(frozen=True)
class VAETrainConfig(RunConfig):
    """An autoencoder, its loss, and the run that trains it. Raises ``ValueError`` naming the field that is out of range."""

    model: AutoencoderConfig = AutoencoderConfig()
    reconstruction: str = "l1"  # the error of one value of an image in [-1, 1]: its size, or "mse", its square
    kl_weight: float = 1e-4  # of the divergence of one latent value, in nats, beside it
    feature_weight: float = 0.0  # of the error of a classifier's features (``feature_error``); 0: nobody looks at them

    KIND, COMMAND, CALLED = "autoencoder", "train-vae", "the autoencoder"
    CHOICES = (("reconstruction", tuple(ERRORS)), *RunConfig.CHOICES)
    RANGES = (("kl_weight", 0, math.inf), ("feature_weight", 0, math.inf), *RunConfig.RANGES)

    def to_dict(self):
        """As of ``RunConfig``; without a weight of features that is 0, as there was none when older files were written,
        whose digests are of what is here."""
        made = super().to_dict()
        return made if self.feature_weight else {name: each for name, each in made.items() if name != "feature_weight"}
