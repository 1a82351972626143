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
    shapes: bool = False  # whether scenes are those that captions speak of, with shapes among the digits

    KIND, COMMAND, CALLED = "autoencoder", "train-vae", "the autoencoder"
    CHOICES = (("reconstruction", tuple(ERRORS)), *RunConfig.CHOICES)
    RANGES = (("kl_weight", 0, math.inf), ("feature_weight", 0, math.inf), *RunConfig.RANGES)
    YOUNGER = ("feature_weight", "shapes")  # than the first files

    def __post_init__(self):
        super().__post_init__()
        if self.shapes and self.data != "scenes":
            raise ValueError(f"shapes goes with data 'scenes', not {self.data!r}")

    @property
    def captioned(self):
        return self.shapes

    def to_dict(self):
        """As of ``RunConfig``; without what is younger and was not asked for: older files have none of it, and their
        digests are of what is here."""
        return {name: each for name, each in super().to_dict().items() if each or name not in self.YOUNGER}
