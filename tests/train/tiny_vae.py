"""Autoencoders small enough for a test, on the bars of ``tiny``, and a run in the latents of one."""

import numpy as np

from tests.train import tiny
from tinydiff import backends
from tinydiff.model.autoencoder import AutoencoderConfig
from tinydiff.model.unet import UNetConfig
from tinydiff.ranks import alone
from tinydiff.train import TrainConfig, Trainer, latents
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.vae_config import VAETrainConfig
from tinydiff.train.vae_trainer import VAETrainer

MODEL = dict(size=8, image_channels=1, channels=(8, 16), blocks=1, latent_channels=2, groups=4)


def config(data=None, model=None, **changes):
    settings = dict(data=(data or tiny.dataset()).name, batch=8, steps=20, learning_rate=2e-3, warmup_steps=5)
    return VAETrainConfig(model=AutoencoderConfig(**{**MODEL, **(model or {})}), **{**settings, **changes})


def trainer(data=None, model=None, backend=None, ranks=alone(), captured=True, **changes):
    data = data or tiny.dataset()
    backend = backend or backends.get("numpy")
    return VAETrainer(config(data, model, **changes), data, backend, ranks=ranks, captured=captured)


def measured(data=None, steps=0, **changes):
    """The ``Checkpoint`` that a run in latents keeps of an autoencoder after so many steps."""
    trained = trainer(data, **{"steps": steps or 1, **changes})
    # none of its layers at its quiet start
    trained.parameters.values[...] += 0.1 * np.random.default_rng(3).standard_normal(trained.parameters.count)
    trained.average[...] = trained.parameters.values
    for _ in range(steps):
        trained.train_step()
    trained.scale = latents.measured_scale(trained.codec, trained.dataset.images)
    return latents.for_latents(trained.checkpoint(), "runs/vae")


def encoded(autoencoder, data=None, **options):
    """A data set in the latents of an autoencoder."""
    options = {"cache": False, **options}
    return latents.encode(data or tiny.dataset(), autoencoder, backends.get("numpy"), **options)


def latent_trainer(data, backend=None, ranks=alone(), captured=True, **changes):
    """A run on what ``encoded`` gives."""
    h, _, Z = data.shape
    model = UNetConfig(**{**tiny.MODEL, "size": h, "image_channels": Z})
    run = dict(data=data.name, batch=8, steps=20, noise_steps=50, learning_rate=2e-3, warmup_steps=5)
    of = TrainConfig(model=model, autoencoder=checkpoints.digest(data.autoencoder), **{**run, **changes})
    return Trainer(of, data, backend or backends.get("numpy"), ranks=ranks, captured=captured)
