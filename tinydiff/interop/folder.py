"""A trained model as a folder of diffusers' and back.

    config.json                          read by UNet2DModel.from_pretrained(DIR)
    diffusion_pytorch_model.safetensors  the weights, and under "tinydiff" in its metadata our own configuration
    scheduler_config.json                read by DDIMScheduler.from_pretrained(DIR)
    positions.safetensors                of a U-Net with positions: "positions" (1, channels, H, W), the waves that ours
                                         puts beside the image itself and theirs must be given as its last channels

Of a model of latents these lie in the folders unet and scheduler, and vae is its autoencoder (``autoencoder``): so are
the parts of a pipeline. Of a model of texts they do too, and config.json is read by UNet2DConditionModel; text_encoder
and tokenizer are the files of its encoder, as transformers reads them. With all of these, and CLIP for the encoder, it
is a StableDiffusionPipeline, which model_index.json says (``pipeline``).

Such a folder holds one set of parameters. What training needs besides (the optimizer's moments, the average apart from
the parameters, the step) is not in it: training that goes on from it starts with a fresh optimizer at step 0.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from tinydiff import backends
from tinydiff.files import write_folder_atomically
from tinydiff.given import WEIGHTS, naming, read_json, read_weights, refuse_pickle, shown, to_json
from tinydiff.interop import autoencoder, conditional, pipeline, settings, weights
from tinydiff.model.unet import UNet, position_waves
from tinydiff.train.checkpoint import METADATA, PARTS, Checkpoint, digest
from tinydiff.train.config import UNKNOWN, TrainConfig
from tinydiff.train.latents import for_latents

CONFIG, SCHEDULER = "config.json", "scheduler_config.json"
UNET, VAE = "unet", "vae"
POSITIONS = "positions.safetensors"
FORMAT = 1
NULL_LABELS = ("last", "none")


class Imported(NamedTuple):
    """A folder, read: a checkpoint at step 0, what had to be assumed, a sentence each, which settings were passed over
    because they only tell how the parameters came about, "name value" each, and the ``text.Encoder`` of a model of
    texts."""

    checkpoint: Checkpoint
    assumed: list[str]
    passed_over: list[str]
    encoder: Any = None


def is_folder(path):
    """Whether this is a folder of a network of diffusers', or of a pipeline with one.

    Raises ``ValueError`` for a pickle, which is not opened.
    """
    refuse_pickle(path)
    return (Path(path) / UNET / CONFIG).is_file() or "_class_name" in _described_in(Path(path) / CONFIG)


def _described_in(path):
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}


def export_folder(checkpoint, folder, *, part="average", encoder=None):
    """Write the parameters of a checkpoint, or their average, as a folder that diffusers reads.

    encoder  of a model of texts their ``text.Encoder``

    The folder appears whole or not at all. Raises ``ValueError`` for one that is there and not empty, and for a U-Net
    that diffusers cannot express; ``OSError`` if it cannot be written.
    """
    config = checkpoint.config
    unet = _settings_of(config.model).from_unet_config(config.model)
    scheduler = settings.from_noise(config.schedule, config.noise_steps, config.prediction)
    scheduler["clip_sample"] = not checkpoint.autoencoder
    is_stable_diffusion = encoder is not None and pipeline.is_stable_diffusion(checkpoint, encoder)
    if is_stable_diffusion:
        scheduler["steps_offset"] = 1  # which their pipeline insists on; it says nothing with steps that are "trailing"
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
    if checkpoint.autoencoder or encoder:
        files = {f"{'scheduler' if name == SCHEDULER else UNET}/{name}": content for name, content in files.items()}
    if vae := checkpoint.autoencoder:
        of_vae = autoencoder.files_of(vae.config.model, vae.parts["average"], vae.scale)
        files |= {f"{VAE}/{name}": content for name, content in of_vae.items()}
    if encoder:
        files |= pipeline.files_of(encoder)
    if is_stable_diffusion:
        files[pipeline.INDEX] = to_json(pipeline.MODEL_INDEX)
    write_folder_atomically(folder, files)


def _settings_of(model):
    """The module that knows the settings of a ``UNetConfig``."""
    return conditional if model.context_width else settings


def import_folder(
    folder, *, schedule=None, noise_steps=None, prediction=None, data=None, null_label=None, size=None, backend=None
):
    """Read a folder of diffusers', of a ``UNet2DModel`` or a pipeline with one, or of Stable Diffusion -> ``Imported``.

    schedule, noise_steps, prediction, data  go before what the folder says
    null_label  whether the last row of the class embedding stands for "no class" ("last", the default) or there is no
                such row ("none"): then one of zeros is added, which says nothing, and only guidance 1 makes sense
    size        pixels of an image's height and width, if not those that the folder says
    backend     to draw with: the encoder is on it, and of a checkpoint there is only what drawing takes, a ``Lazy`` for
                each parameter, so that what is in memory is what a model is given of it

    Raises ``ValueError`` naming the file and the setting or tensor that our U-Net does not have.
    """
    refuse_pickle(folder)
    whole = folder = Path(folder)
    folder = folder / UNET if (folder / UNET / CONFIG).is_file() else folder
    described = read_json(folder / CONFIG)
    theirs_of = conditional if described.get("_class_name") == conditional.CLASS else settings
    with naming(folder / CONFIG):
        given = theirs_of.read(described)
    theirs = read_weights(folder)
    overrides = dict(schedule=schedule, noise_steps=noise_steps, prediction=prediction, data=data)
    changed = {name: value for name, value in overrides.items() if value is not None}
    config, assumed = _described(theirs), []

    if config is not None:
        if null_label == "none":
            raise ValueError(f"{folder}: null_label is last: this folder was written by tinydiff")
        expected = theirs_of.read(theirs_of.from_unet_config(config.model))
        if differing := _differences(expected, given):
            raise ValueError(f"{folder / CONFIG} does not go with {WEIGHTS}: {differing}")
    else:
        with naming(folder / CONFIG):
            model = theirs_of.to_unet_config(given, null_label=null_label or "last")
        found = _scheduler(folder, changed, assumed, clips=not _has_vae(whole))
        config = TrainConfig(model=model, data=UNKNOWN, schedule=found[0], noise_steps=found[1], prediction=found[2])
        if model.classes:
            assumed.append(_about_classes(model.classes, null_label))
    if null_label and not config.model.classes:
        raise ValueError(f"{folder}: null_label goes with classes, and this U-Net has none")
    vae = _vae(whole, config)
    if vae:
        changed["autoencoder"] = digest(vae)
    encoder = None
    if width := config.model.context_width:
        encoder = pipeline.encoder_of(whole, width, backend or backends.get("numpy"))
        changed["text"] = encoder.fingerprint
    config = TrainConfig(**{**config.to_dict(), **changed})

    named = weights.from_torch(theirs.named, flip_sin_to_cos=given["flip_sin_to_cos"])
    table = named.get("class_embedding.weight")
    if null_label == "none" and table is not None and len(table.shape) == 2:
        named["class_embedding.weight"] = np.concatenate([table, np.zeros((1, table.shape[1]), np.float32)])
    parameters = _unet(folder, config).parameters
    with naming(theirs.path):
        parameters.expect(named)
    named = {each.name: named[each.name] for each in parameters}
    parts = dict.fromkeys(("model", "average"), named) if backend else _parts(named)
    checkpoint = Checkpoint(0, config, parts, autoencoder=vae)
    if size is not None:
        checkpoint = checkpoint.of_size(size)
    return Imported(checkpoint, assumed, theirs_of.passed_over(described), encoder)


def _parts(named):
    """The parts of a checkpoint at step 0: the parameters, which are their average as well, and moments of zero."""
    values = {name: np.array(each, np.float32, order="C") for name, each in named.items()}
    zeros = {name: np.zeros(array.shape, np.float32) for name, array in values.items()}
    return dict(zip(PARTS, (values, values, zeros, zeros), strict=True))


def _has_vae(folder):
    return (folder / VAE / autoencoder.CONFIG).is_file()


def _vae(folder, config):
    """The autoencoder of a pipeline, as the ``Checkpoint`` that a run in its latents keeps; None where there is none."""
    if not _has_vae(folder):
        if config.autoencoder:
            raise ValueError(f"{folder} holds no {VAE}, the autoencoder in whose latents its U-Net works")
        return None
    imported = autoencoder.import_autoencoder(folder)
    made, taken = imported.config.latent_channels, config.model.image_channels
    if made != taken:
        raise ValueError(f"{folder / VAE} makes latents of {made} channels, the U-Net takes {taken}")
    # both take images of any size: what the U-Net's says is what its pipeline draws
    of_its_size = dataclasses.replace(imported.config, size=config.model.size * imported.config.factor)
    return for_latents(autoencoder.checkpoint_of(imported._replace(config=of_its_size)), folder / VAE)


def _unet(folder, config):
    """The U-Net of a configuration that the weights were not held against yet, so its size may be anything."""
    try:
        with naming(folder / CONFIG):
            return UNet(config.model, backends.get("numpy"), frozen=True)
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


def _described(theirs):
    """The ``TrainConfig`` that the metadata of ``Weights`` holds where tinydiff wrote the file; else None."""
    if METADATA not in theirs.metadata:
        return None
    try:
        description = json.loads(theirs.metadata[METADATA])
        if description["format"] != FORMAT:
            raise ValueError(f"its format is {description['format']}, not {FORMAT}")
        return TrainConfig(**description["config"])
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{theirs.path} cannot be read by this version: {error}") from None


def _differences(expected, given):
    """Which settings of a config.json are not as expected, in words; empty if none."""
    return ", ".join(
        f"{name} must be {shown(expected[name])}, got {shown(value)}"
        for name, value in given.items()
        if expected[name] != value
    )
