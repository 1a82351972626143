"""Folders of diffusers' for tests, small enough to make in a moment."""

import json

import numpy as np
import safetensors.numpy

from tests.model.checks import randomise
from tests.train import tiny
from tinydiff import backends
from tinydiff.interop import settings, weights
from tinydiff.model.autoencoder import Autoencoder, AutoencoderConfig, LatentScale
from tinydiff.model.unet import UNet, UNetConfig
from tinydiff.train import TrainConfig
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.checkpoint import PARTS, Checkpoint
from tinydiff.train.vae_config import VAETrainConfig

# every way in which a U-Net may differ, in a few
CONFIGS = {
    "plain": {},
    "film": {"film": True},
    "no classes": {"classes": 0, "image_channels": 3},
    "padding after": {"downsample_padding": 0, "channels": (8, 16, 16), "eps": 1e-6},
    "heads of 4, attention everywhere": {"head_width": 4, "attention_levels": (0, 1), "blocks": 2},
    "heads of the full width": {"head_width": 64, "attention_levels": (0,), "groups": 2},
    "one level": {"channels": (8,), "film": True},
}
# and one that diffusers has only when it is given more than the image
POSITIONS = {"positions": {"positions": 2, "film": True}}
# and one that has it only in training
DROPOUT = {"dropout": {"dropout": 0.1}}


def unet_config(**changes):
    return UNetConfig(**{**tiny.MODEL, **changes})


def checkpoint(changes=(), seed=0, **train):
    """A checkpoint with random parameters, another set of them in each part."""
    config = TrainConfig(model=unet_config(**dict(changes)), data="bars", **{"noise_steps": 50, **train})
    parameters = UNet(config.model, backends.get("numpy")).parameters
    parts = {}
    for i, part in enumerate(PARTS):
        randomise(parameters, seed + i)
        parts[part] = {name: array.copy() for name, array in parameters.to_numpy(parameters.values).items()}
    return Checkpoint(12, config, parts)


def write_foreign(folder, checkpoint, *, scheduler=None, **changes):
    """A folder as somebody else's program leaves it: no metadata, settings at diffusers' defaults left out."""
    folder.mkdir(parents=True, exist_ok=True)
    given = settings.from_unet_config(checkpoint.config.model)
    given = {name: value for name, value in given.items() if value != settings.UNET_DEFAULTS.get(name)} | changes
    (folder / "config.json").write_text(json.dumps(given))
    if scheduler is not None:
        (folder / "scheduler_config.json").write_text(json.dumps(scheduler))
    flip = given.get("flip_sin_to_cos", True)
    arrays = weights.to_torch(checkpoint.parts["average"], flip_sin_to_cos=flip)
    safetensors.numpy.save_file(arrays, folder / "diffusion_pytorch_model.safetensors")
    return folder


def vae(seed=3):
    """What a run in latents keeps of an autoencoder of colour images: two channels, half as wide and high."""
    model = AutoencoderConfig(size=8, image_channels=3, channels=(8, 16), blocks=1, latent_channels=2, groups=4)
    parameters = Autoencoder(model, backends.get("numpy")).parameters
    randomise(parameters, seed)
    scale = LatentScale((0.0, 0.0), (0.18215, 0.18215))
    parts = {"average": parameters.to_numpy(parameters.values)}
    return Checkpoint(0, VAETrainConfig(model=model, data="scenes"), parts, scale=scale)


def of_texts(encoder, seed=0, vae=None, **changes):
    """A checkpoint with random parameters that looks at the texts of a ``text.Encoder``; in the latents of an
    autoencoder, a ``Checkpoint``, or of images."""
    shape = dict(size=8, image_channels=3) if vae is None else dict(size=4, image_channels=2)
    of_vae = dict(autoencoder=checkpoints.digest(vae)) if vae else {}
    model = dict(classes=0, context_width=encoder.width, **shape, **changes)
    made = checkpoint(model, seed, text=encoder.fingerprint, **of_vae, schedule="scaled_linear", prediction="eps")
    return made._replace(autoencoder=vae)


def same(a, b):
    """Whether two {name: array} are the same to the bit."""
    return a.keys() == b.keys() and all(
        np.array_equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a
    )
