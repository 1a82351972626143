"""An autoencoder as a folder of diffusers' ``AutoencoderKL`` and back.

    config.json                          read by AutoencoderKL.from_pretrained(DIR)
    diffusion_pytorch_model.safetensors  the weights

    theirs                               ours
    sample_size                          size
    in_channels, out_channels            image_channels
    block_out_channels                   channels
    layers_per_block                     blocks
    latent_channels, norm_num_groups     latent_channels, groups
    mid_block_add_attention              mid_attention
    use_quant_conv, use_post_quant_conv  quant_conv, post_quant_conv
    shift_factor, scaling_factor         the ``LatentScale`` of all channels alike: (z - shift_factor) scaling_factor
    latents_mean, latents_std            and of each its own: (z - latents_mean) scaling_factor / latents_std

Every other setting must have the value under which their network computes what ours does, or is refused by its name
and value; ``force_upcast``, about half precision, is passed over.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy

from tinydiff import backends
from tinydiff.files import write_folder_atomically
from tinydiff.given import (
    MANY,
    WEIGHTS,
    naming,
    one_size,
    public,
    read_json,
    read_weights,
    require,
    require_integer,
    require_number,
    require_widths,
    shown,
    to_json,
)
from tinydiff.interop import weights
from tinydiff.model.autoencoder import Autoencoder, AutoencoderConfig, LatentScale
from tinydiff.train.checkpoint import PARTS, Checkpoint
from tinydiff.train.config import UNKNOWN
from tinydiff.train.vae_config import VAETrainConfig

CLASS, CONFIG = "AutoencoderKL", "config.json"
DOWN, UP = "DownEncoderBlock2D", "UpDecoderBlock2D"
EPS = 1e-6  # theirs, which no setting changes
# diffusers 0.42: what a setting is where config.json leaves it out
DEFAULTS = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": [DOWN],
    "up_block_types": [UP],
    "block_out_channels": [64],
    "layers_per_block": 1,
    "act_fn": "silu",
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": 32,
    "scaling_factor": 0.18215,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
    "force_upcast": True,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}
SWITCHES = ("use_quant_conv", "use_post_quant_conv", "mid_block_add_attention")
INTEGERS = {
    "in_channels": (1, MANY),
    "out_channels": (1, MANY),
    "layers_per_block": (1, 1000),
    "latent_channels": (1, MANY),
    "norm_num_groups": (1, MANY),
    "sample_size": (1, MANY),
}


class ImportedAutoencoder(NamedTuple):
    """A folder, read."""

    config: AutoencoderConfig
    parameters: dict  # {name: float32 array}
    scale: LatentScale


def export_autoencoder(config, parameters, folder, *, scale=None):
    """Write an autoencoder as a folder that diffusers reads.

    parameters  {name: array}, as ``Parameters.to_numpy`` gives them
    scale       the ``LatentScale`` of its latents; None: they are used as they are

    The folder appears whole or not at all. Raises ``ValueError`` for one that is there and not empty, and for an
    autoencoder that diffusers cannot express; ``OSError`` if it cannot be written.
    """
    write_folder_atomically(folder, files_of(config, parameters, scale))


def files_of(config, parameters, scale=None):
    """What ``export_autoencoder`` writes, {name: bytes}."""
    settings = from_config(config, scale)
    arrays = weights.to_torch(parameters, flip_sin_to_cos=False)
    return {CONFIG: to_json(settings), WEIGHTS: safetensors.numpy.save(arrays, {"format": "pt"})}


def import_autoencoder(folder):
    """Read a folder of an ``AutoencoderKL``, or of a pipeline with one as its ``vae`` -> ``ImportedAutoencoder``.

    Raises ``ValueError`` naming the file and the setting or tensor that our autoencoder does not have.
    """
    folder = Path(folder)
    folder = folder / "vae" if (folder / "vae" / CONFIG).is_file() else folder
    given = read_json(folder / CONFIG)
    with naming(folder / CONFIG):
        config, scale = to_config(given)
    theirs = read_weights(folder)
    try:
        parameters = Autoencoder(config, backends.get("numpy")).parameters
    except (MemoryError, OverflowError):
        shape = f"block_out_channels {list(config.channels)}"
        raise ValueError(f"{folder / CONFIG}: an autoencoder of {shape} does not fit into memory") from None
    with naming(theirs.path):
        parameters.load(parameters.values, weights.from_torch(theirs.named, flip_sin_to_cos=False))
    return ImportedAutoencoder(config, parameters.to_numpy(parameters.values), scale)


def checkpoint_of(imported):
    """The ``Checkpoint`` at step 0, with a fresh optimizer, of what was imported."""
    config = VAETrainConfig(model=imported.config, data=UNKNOWN)
    zeros = {name: np.zeros_like(array) for name, array in imported.parameters.items()}
    parts = dict(zip(PARTS, (imported.parameters, imported.parameters, zeros, zeros), strict=True))
    return Checkpoint(0, config, parts, scale=imported.scale)


def is_autoencoder(folder):
    """Whether a folder says that it is of an ``AutoencoderKL``."""
    path = Path(folder) / CONFIG
    return path.is_file() and read_json(path).get("_class_name") == CLASS


def from_config(config, scale=None):
    """The ``config.json`` of an ``AutoencoderConfig`` and the ``LatentScale`` of its latents, as a dict.

    Raises ``ValueError`` for another eps than theirs, and for a scale of another number of channels.
    """
    if config.eps != EPS:
        raise ValueError(f"eps must be {EPS}, as diffusers' AutoencoderKL has it, got {config.eps}")
    levels = len(config.channels)
    return {
        "_class_name": CLASS,
        **DEFAULTS,
        "in_channels": config.image_channels,
        "out_channels": config.image_channels,
        "down_block_types": [DOWN] * levels,
        "up_block_types": [UP] * levels,
        "block_out_channels": list(config.channels),
        "layers_per_block": config.blocks,
        "latent_channels": config.latent_channels,
        "norm_num_groups": config.groups,
        "sample_size": config.size,
        "use_quant_conv": config.quant_conv,
        "use_post_quant_conv": config.post_quant_conv,
        "mid_block_add_attention": config.mid_attention,
        **_from_scale(scale, config.latent_channels),
    }


def to_config(given):
    """``AutoencoderConfig``, ``LatentScale`` of a ``config.json`` given as a dict.

    Raises ``ValueError`` naming the first setting that our autoencoder does not have, and its value.
    """
    settings = {**DEFAULTS, **public(given, CLASS, DEFAULTS)}
    settings["sample_size"] = one_size(settings)
    require(settings, {"act_fn": ("silu", "swish"), **{name: (True, False) for name in SWITCHES}})
    for name, (low, high) in INTEGERS.items():
        require_integer(name, settings[name], low, high)
    require_widths(settings["block_out_channels"])
    levels = len(settings["block_out_channels"])
    require(
        settings,
        {
            "out_channels": (settings["in_channels"],),
            "down_block_types": ([DOWN] * levels,),
            "up_block_types": ([UP] * levels,),
        },
    )
    scale = _to_scale(settings)
    try:
        config = AutoencoderConfig(
            size=settings["sample_size"],
            image_channels=settings["in_channels"],
            channels=settings["block_out_channels"],
            blocks=settings["layers_per_block"],
            latent_channels=settings["latent_channels"],
            groups=settings["norm_num_groups"],
            eps=EPS,
            mid_attention=settings["mid_block_add_attention"],
            quant_conv=settings["use_quant_conv"],
            post_quant_conv=settings["use_post_quant_conv"],
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"not an autoencoder of this project: {error}") from None
    return config, scale


def _from_scale(scale, channels):
    """The settings that tell a ``LatentScale``: of all channels alike by one number, else by one each."""
    if scale is None:
        return {"scaling_factor": 1.0}
    if len(scale.scale) != channels:
        raise ValueError(f"scale must be of {channels} channels, as the latents are, got {len(scale.scale)}")
    if len(set(scale.scale)) == len(set(scale.shift)) == 1:
        return {"scaling_factor": scale.scale[0], "shift_factor": scale.shift[0] or None}
    std = [1 / each for each in scale.scale]
    return {"scaling_factor": 1.0, "latents_mean": list(scale.shift), "latents_std": std}


def _to_scale(settings):
    channels, factor = settings["latent_channels"], settings["scaling_factor"]
    shift, mean, std = (settings[name] for name in ("shift_factor", "latents_mean", "latents_std"))
    require_number("scaling_factor", factor, float("inf"))
    if shift is not None:
        _require_finite("shift_factor", shift)
    if (mean is None) != (std is None):
        raise ValueError(f"latents_mean must be given with latents_std, got {shown(mean)} and {shown(std)}")
    if mean is None:
        return LatentScale((float(shift or 0),) * channels, (float(factor),) * channels)
    if shift:
        raise ValueError(f"shift_factor must be null beside latents_mean, got {shown(shift)}")
    for name, values in (("latents_mean", mean), ("latents_std", std)):
        if not isinstance(values, list) or len(values) != channels:
            raise ValueError(f"{name} must be {channels} numbers, one a channel, got {shown(values)}")
    for each in mean:
        _require_finite("each of latents_mean", each)
    for each in std:
        require_number("each of latents_std", each, float("inf"))
    return LatentScale(tuple(map(float, mean)), tuple(factor / each for each in std))


def _require_finite(name, value):
    if type(value) not in (int, float) or abs(value) == float("inf") or value != value:
        raise ValueError(f"{name} must be a number, got {shown(value)}")
