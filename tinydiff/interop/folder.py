"""A trained model as a folder of diffusers' and back.

    config.json                          read by UNet2DModel.from_pretrained(DIR)
    diffusion_pytorch_model.safetensors  the weights, and under "tinydiff" in its metadata our own configuration
    scheduler_config.json                read by DDIMScheduler.from_pretrained(DIR)
    positions.safetensors                of a U-Net with positions: "positions" (1, channels, H, W), the waves that ours
                                         puts beside the image itself and theirs must be given as its last channels

Such a folder holds one set of parameters. What training needs besides (the optimizer's moments, the average apart from
the parameters, the step) is not in it: training that goes on from it starts with a fresh optimizer at step 0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy

from tinydiff import backends, tensors
from tinydiff.files import write_folder_atomically
from tinydiff.interop import settings, weights
from tinydiff.model.unet import UNet, position_waves
from tinydiff.train.checkpoint import METADATA, PARTS, Checkpoint
from tinydiff.train.config import TrainConfig

CONFIG, SCHEDULER = "config.json", "scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
POSITIONS = "positions.safetensors"
FORMAT = 1
NULL_LABELS = ("last", "none")


class Imported(NamedTuple):
    """A folder, read: a checkpoint at step 0, and what had to be assumed, a sentence each."""

    checkpoint: Checkpoint
    assumed: list[str]


def export_folder(checkpoint, folder, *, part="average"):
    """Write the parameters of a checkpoint, or their average, as a folder that diffusers reads.

    The folder appears whole or not at all. Raises ``ValueError`` for one that is there and not empty, and for a U-Net
    that diffusers cannot express; ``OSError`` if it cannot be written.
    """
    config = checkpoint.config
    unet = settings.from_unet_config(config.model)
    scheduler = settings.from_noise(config.schedule, config.noise_steps, config.prediction)
    arrays = weights.to_torch(checkpoint.parts[part], flip_sin_to_cos=unet["flip_sin_to_cos"])
    ours = {"format": FORMAT, "step": checkpoint.step, "part": part, "config": config.to_dict()}
    metadata = {"format": "pt", METADATA: json.dumps(ours)}
    files = {
        CONFIG: _json(unet),
        SCHEDULER: _json(scheduler),
        WEIGHTS: safetensors.numpy.save(arrays, metadata),
    }
    if config.model.positions:
        waves = position_waves(config.model.size, config.model.positions).astype(np.float32)
        files[POSITIONS] = safetensors.numpy.save({"positions": np.ascontiguousarray(waves.transpose(0, 3, 1, 2))})
    write_folder_atomically(folder, files)


def import_folder(folder, *, schedule=None, noise_steps=None, prediction=None, data=None, null_label=None):
    """Read a folder of diffusers', of a ``UNet2DModel`` or a pipeline with one -> ``Imported``.

    schedule, noise_steps, prediction, data  go before what the folder says
    null_label  whether the last row of the class embedding stands for "no class" ("last", the default) or there is no
                such row ("none"): then one of zeros is added, which says nothing, and only guidance 1 makes sense

    Raises ``ValueError`` naming the file and the setting or tensor that our U-Net does not have.
    """
    folder = Path(folder)
    folder = folder / "unet" if (folder / "unet" / CONFIG).is_file() else folder
    given = _read_json(folder / CONFIG)
    theirs, metadata, _ = _read_weights(folder)
    ours = _described(folder, metadata)
    assumed = []

    if ours is not None:
        config = ours
        if null_label == "none":
            raise ValueError(f"{folder}: null_label is last: this folder was written by tinydiff")
        if differing := _differences(settings.from_unet_config(config.model), given):
            raise ValueError(f"{folder / CONFIG} does not go with {WEIGHTS}: {differing}")
    else:
        null_label = null_label or "last"
        try:
            model = settings.to_unet_config(given, null_label=null_label)
        except ValueError as error:
            raise ValueError(f"{folder / CONFIG}: {error}") from None
        found = _scheduler(folder, assumed)
        config = TrainConfig(model=model, data="unknown", schedule=found[0], noise_steps=found[1], prediction=found[2])
        if model.classes:
            assumed.append(_about_classes(model.classes, null_label))
        if given.get("dropout"):
            assumed.append(f"dropout {given['dropout']} acts in training alone; this U-Net has none")
    overrides = dict(schedule=schedule, noise_steps=noise_steps, prediction=prediction, data=data)
    changed = {name: value for name, value in overrides.items() if value is not None}
    config = TrainConfig(**{**config.to_dict(), **changed})

    flip = given.get("flip_sin_to_cos", settings.UNET_DEFAULTS["flip_sin_to_cos"])
    named = weights.from_torch(theirs, flip_sin_to_cos=flip)
    table = named.get("class_embedding.weight")
    if null_label == "none" and table is not None:
        named["class_embedding.weight"] = np.concatenate([table, np.zeros_like(table[:1])])
    parameters = UNet(config.model, backends.get("numpy")).parameters
    try:
        parameters.load(parameters.values, named)
    except ValueError as error:
        raise ValueError(f"{folder / WEIGHTS}: {error}") from None
    values = parameters.to_numpy(parameters.values)
    zeros = {name: np.zeros_like(array) for name, array in values.items()}
    return Imported(Checkpoint(0, config, dict(zip(PARTS, (values, values, zeros, zeros), strict=True))), assumed)


def _scheduler(folder, assumed):
    """The schedule's name, T and prediction that the folder, or the pipeline it is part of, tells; else diffusers' own."""
    for path in (folder / SCHEDULER, folder.parent / "scheduler" / SCHEDULER):
        if path.is_file():
            given = _read_json(path)
            try:
                noise = settings.to_noise(given)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
            if not given.get("clip_sample", True):
                assumed.append("clip_sample false: tinydiff clips the predicted image to [-1, 1] all the same")
            return noise
    noise = settings.to_noise({})
    schedule, T, prediction = noise
    assumed.append(
        f"no {SCHEDULER}: schedule {schedule}, {T} noise steps, prediction {prediction}, as diffusers' defaults"
    )
    return noise


def _about_classes(classes, null_label):
    if null_label == "last":
        return f'{classes} classes, and the last row of the class embedding stands for "no class"'
    return f'{classes} classes, and no row for "no class": draw with --guidance 1'


def _read_weights(folder):
    """{name: float32 array} and the metadata of the safetensors file of a folder."""
    path = folder / WEIGHTS
    if not path.is_file():
        others = sorted(each.name for each in folder.glob("diffusion_pytorch_model*"))
        hint = f"; {', '.join(others)} is not read: save it in one piece with safe_serialization=True" if others else ""
        raise ValueError(f"{folder} holds no {WEIGHTS}{hint}")
    return tensors.read(path)


def _described(folder, metadata):
    """The ``TrainConfig`` that the metadata holds where tinydiff wrote the file; else None."""
    if METADATA not in metadata:
        return None
    try:
        description = json.loads(metadata[METADATA])
        if description["format"] != FORMAT:
            raise ValueError(f"its format is {description['format']}, not {FORMAT}")
        return TrainConfig(**description["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / WEIGHTS} cannot be read by this version: {error}") from None


def _differences(expected, given):
    """Which settings of a config.json are not as expected, in words; empty if none."""
    given = {**settings.UNET_DEFAULTS, **given}
    public = {name: value for name, value in given.items() if not name.startswith("_")}
    return ", ".join(
        f"{name} must be {json.dumps(expected.get(name))}, got {json.dumps(value)}"
        for name, value in public.items()
        if expected.get(name) != value
    )


def _read_json(path):
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: not a folder of diffusers'") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold settings by name, got {type(content).__name__}")
    return content


def _json(content):
    return (json.dumps(content, indent=2) + "\n").encode()
