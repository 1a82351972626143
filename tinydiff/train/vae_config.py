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

    KIND, COMMAND, CALLED = "autoencoder", "train-vae", "the autoencoder"
    CHOICES = (("reconstruction", tuple(ERRORS)), *RunConfig.CHOICES)
    RANGES = (("kl_weight", 0, math.inf), *RunConfig.RANGES)
