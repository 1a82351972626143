"""Folders of diffusers' for tests, small enough to make in a moment."""

import json

import numpy as np
import safetensors.numpy

from tests.model.checks import randomise
from tests.train import tiny
from tinydiff import backends
from tinydiff.interop import settings, weights
from tinydiff.model.unet import UNet, UNetConfig
from tinydiff.train import TrainConfig
from tinydiff.train.checkpoint import PARTS, Checkpoint

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


def same(a, b):
    """Whether two {name: array} are the same to the bit."""
    return a.keys() == b.keys() and all(
        np.array_equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a
    )
