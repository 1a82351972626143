"""A trained model as a folder of diffusers' and back.

    config.json                          read by UNet2DModel.from_pretrained(DIR)
    diffusion_pytorch_model.safetensors  the weights, and under "tinydiff" in its metadata our own configuration
    scheduler_config.json                read by DDIMScheduler.from_pretrained(DIR)
    positions.safetensors                of a U-Net with positions: "positions" (1, channels, H, W), the waves that ours
                                         puts beside the image itself and theirs must be given as its last channels

Of a model of latents these lie in the folders unet and scheduler, and vae is its autoencoder (``autoencoder``): so are the
parts of a pipeline.

Such a folder holds one set of parameters. What training needs besides (the optimizer's moments, the average apart from
the parameters, the step) is not in it: training that goes on from it starts with a fresh optimizer at step 0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy

from tinydiff import backends
from tinydiff.files import write_folder_atomically
from tinydiff.given import WEIGHTS, naming, read_json, read_weights, shown, to_json
from tinydiff.interop import autoencoder, settings, weights
from tinydiff.model.unet import UNet, position_waves
from tinydiff.train.checkpoint import METADATA, PARTS, Checkpoint, digest
from tinydiff.train.config import UNKNOWN, TrainConfig
from tinydiff.train.latents import for_latents

CONFIG, SCHEDULER = "config.json", "scheduler_config.json"
VAE = "vae"
POSITIONS = "positions.safetensors"
FORMAT = 1
NULL_LABELS = ("last", "none")


class Imported(NamedTuple):
    """A folder, read: a checkpoint at step 0, what had to be assumed, a sentence each, and which settings were passed
    over because they only tell how the parameters came about, "name value" each."""

    checkpoint: Checkpoint
    assumed: list[str]
    passed_over: list[str]


def export_folder(checkpoint, folder, *, part="average"):
    """Write the parameters of a checkpoint, or their average, as a folder that diffusers reads.

    The folder appears whole or not at all. Raises ``ValueError`` for one that is there and not empty, and for a U-Net
    that diffusers cannot express; ``OSError`` if it cannot be written.
    """
    config = checkpoint.config
    unet = settings.from_unet_config(config.model)
    scheduler = settings.from_noise(config.schedule, config.noise_steps, config.prediction)
    scheduler["clip_sample"] = not checkpoint.autoencoder
    arrays = weights.to_torch(checkpoint.parts[part], flip_sin_to_cos=unet["flip_sin_to_cos"])
    ours = {"format": FORMAT, "step": checkpoint.step, "part": part, "config": config.to_dict()}
    metadata = {"format": "pt", METADATA: json.dumps(ours)}
    files = {
        CONFIG: to_json(unet),
        SCHEDULER: to_json(scheduler),
        WEIGHTS: safetensors.numpy.save(arrays, metadata),
    }
    if config.model.positions:
        waves = position_waves(config.model.size, config.model.positions).astype(np.float32)
        files[POSITIONS] = safetensors.numpy.save({"positions": np.ascontiguousarray(waves.transpose(0, 3, 1, 2))})
    if checkpoint.autoencoder:
        files = _as_pipeline(files, checkpoint.autoencoder)
    write_folder_atomically(folder, files)


def _as_pipeline(files, vae):
    """The files of a U-Net in the folders of a pipeline, with those of its autoencoder, a ``Checkpoint``."""
    of_vae = autoencoder.files_of(vae.config.model, vae.parts["average"], vae.scale)
    placed = {f"{'scheduler' if name == SCHEDULER else 'unet'}/{name}": content for name, content in files.items()}
    return placed | {f"{VAE}/{name}": content for name, content in of_vae.items()}


def import_folder(folder, *, schedule=None, noise_steps=None, prediction=None, data=None, null_label=None):
    """Read a folder of diffusers', of a ``UNet2DModel`` or a pipeline with one -> ``Imported``.

    schedule, noise_steps, prediction, data  go before what the folder says
    null_label  whether the last row of the class embedding stands for "no class" ("last", the default) or there is no
                such row ("none"): then one of zeros is added, which says nothing, and only guidance 1 makes sense

    Raises ``ValueError`` naming the file and the setting or tensor that our U-Net does not have.
    """
    pipeline = folder = Path(folder)
    folder = folder / "unet" if (folder / "unet" / CONFIG).is_file() else folder
    described = read_json(folder / CONFIG)
    with naming(folder / CONFIG):
        given = settings.read(described)
    theirs, metadata, _ = read_weights(folder)
    overrides = dict(schedule=schedule, noise_steps=noise_steps, prediction=prediction, data=data)
    changed = {name: value for name, value in overrides.items() if value is not None}
    config, assumed = _described(folder, metadata), []

    if config is not None:
        if null_label == "none":
            raise ValueError(f"{folder}: null_label is last: this folder was written by tinydiff")
        if differing := _differences(settings.from_unet_config(config.model), given):
            raise ValueError(f"{folder / CONFIG} does not go with {WEIGHTS}: {differing}")
    else:
        with naming(folder / CONFIG):
            model = settings.to_unet_config(given, null_label=null_label or "last")
        found = _scheduler(folder, changed, assumed, clips=not _has_vae(pipeline))
        config = TrainConfig(model=model, data=UNKNOWN, schedule=found[0], noise_steps=found[1], prediction=found[2])
        if model.classes:
            assumed.append(_about_classes(model.classes, null_label))
    if null_label and not config.model.classes:
        raise ValueError(f"{folder}: null_label goes with classes, and this U-Net has none")
    vae = _vae(pipeline, config)
    if vae:
        changed["autoencoder"] = digest(vae)
    config = TrainConfig(**{**config.to_dict(), **changed})

    named = weights.from_torch(theirs, flip_sin_to_cos=given["flip_sin_to_cos"])
    table = named.get("class_embedding.weight")
    if null_label == "none" and table is not None and table.ndim == 2:
        named["class_embedding.weight"] = np.concatenate([table, np.zeros_like(table[:1])])
    parameters = _unet(folder, config).parameters
    with naming(folder / WEIGHTS):
        parameters.load(parameters.values, named)
    values = parameters.to_numpy(parameters.values)
    zeros = {name: np.zeros_like(array) for name, array in values.items()}
    parts = dict(zip(PARTS, (values, values, zeros, zeros), strict=True))
    checkpoint = Checkpoint(0, config, parts, autoencoder=vae)
    return Imported(checkpoint, assumed, settings.passed_over(described))


def _has_vae(folder):
    return (folder / VAE / autoencoder.CONFIG).is_file()


def _vae(folder, config):
    """The autoencoder of a pipeline, as the ``Checkpoint`` that a run in its latents keeps; None where there is none."""
    if not _has_vae(folder):
        if config.autoencoder:
            raise ValueError(f"{folder} holds no {VAE}, the autoencoder in whose latents its U-Net works")
        return None
    imported = autoencoder.import_autoencoder(folder)
    if imported.config.latent_shape != config.model.shape:
        shapes = f"latents of {imported.config.latent_shape}, the U-Net takes {config.model.shape}"
        raise ValueError(f"{folder / VAE} makes {shapes}")
    return for_latents(autoencoder.checkpoint_of(imported), folder / VAE)


def _unet(folder, config):
    """The U-Net of a configuration that the weights were not held against yet, so its size may be anything."""
    try:
        with naming(folder / CONFIG):
            return UNet(config.model, backends.get("numpy"))
    except (MemoryError, OverflowError):
        shape = f"block_out_channels {list(config.model.channels)}, num_class_embeds {config.model.classes + 1}"
        raise ValueError(f"{folder / CONFIG}: a U-Net of {shape} does not fit into memory") from None


def _scheduler(folder, changed, assumed, clips):
    """The schedule's name, T and prediction that the folder, or the pipeline it is part of, tells; else diffusers' own.

    What had to be assumed, and is not among what the caller has ``changed``, is added to ``assumed``.
    """
    for path in (folder / SCHEDULER, folder.parent / "scheduler" / SCHEDULER):
        if path.is_file():
            given = read_json(path)
            with naming(path):
                noise = settings.to_noise(given)
            if given.get("clip_sample") is False and clips:
                assumed.append("clip_sample false: tinydiff clips the predicted image to [-1, 1] all the same")
            return noise
    noise = settings.to_noise({})
    schedule, T, prediction = noise
    told = {
        "schedule": f"schedule {schedule}",
        "noise_steps": f"{T} noise steps",
        "prediction": f"prediction {prediction}",
    }
    if told := [text for name, text in told.items() if name not in changed]:
        assumed.append(f"no {SCHEDULER}: {', '.join(told)}, as diffusers' defaults")
    return noise


def _about_classes(classes, null_label):
    if null_label != "none":
        return f'{classes} classes, and the last row of the class embedding stands for "no class"'
    return f'{classes} classes, and no row for "no class": draw with --guidance 1'


def _described(folder, metadata):
    """The ``TrainConfig`` that the metadata holds where tinydiff wrote the file; else None."""
    if METADATA not in metadata:
        return None
    try:
        description = json.loads(metadata[METADATA])
        if description["format"] != FORMAT:
            raise ValueError(f"its format is {description['format']}, not {FORMAT}")
        return TrainConfig(**description["config"])
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / WEIGHTS} cannot be read by this version: {error}") from None


def _differences(expected, given):
    """Which settings of a config.json are not as expected, in words; empty if none."""
    return ", ".join(
        f"{name} must be {shown(expected[name])}, got {shown(value)}"
        for name, value in given.items()
        if expected[name] != value
    )
