"""Checkpoints: one safetensors file that holds all it takes to go on as if nothing had happened.

    model.<name>           parameters, under diffusers' names, in this project's layouts
    average.<name>         their running average
    adamw.mean.<name>      the optimizer's moments
    adamw.mean_square.<name>
    metadata "tinydiff"    JSON: "format", "step" and "config"

A file appears under its name whole or not at all: it is written to a temporary file beside it, synced to
disk and renamed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from tinydiff.files import write_atomically
from tinydiff.train.config import TrainConfig

METADATA = "tinydiff"  # one entry for all, as safetensors keeps several in no fixed order
FORMAT = 1
PARTS = ("model", "average", "adamw.mean", "adamw.mean_square")


class Checkpoint(NamedTuple):
    """A file's content: ``parts`` maps each of ``PARTS`` to named NumPy arrays."""

    step: int
    config: TrainConfig
    parts: dict[str, dict[str, np.ndarray]]


def path_for(folder, step):
    return Path(folder) / f"step-{step:07d}.safetensors"


def save(path, checkpoint):
    """Write a checkpoint. Raises ``OSError`` if that fails; a file of that name then is as it was."""
    tensors = {f"{part}.{name}": array for part, named in checkpoint.parts.items() for name, array in named.items()}
    description = {"format": FORMAT, "step": checkpoint.step, "config": checkpoint.config.to_dict()}
    write_atomically(path, safetensors.numpy.save(tensors, {METADATA: json.dumps(description)}))


def load(path):
    """Read a checkpoint, from a file or the newest in a folder (or in its ``checkpoints``).

    Raises ``ValueError`` naming the file if it is missing, truncated, not a checkpoint of this project, or
    holds a value that is not finite.
    """
    path = find(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if METADATA not in metadata:
                raise ValueError(f"{path} is a safetensors file, but not a tinydiff checkpoint")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is truncated or not a safetensors file: {error}") from None
    try:
        description = json.loads(metadata[METADATA])
        if description["format"] != FORMAT:
            raise ValueError(f"its format is {description['format']}, not {FORMAT}")
        step, config = description["step"], TrainConfig(**description["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read by this version: {error}") from None

    parts = {part: {} for part in PARTS}
    for name, array in tensors.items():
        part = next((part for part in PARTS if name.startswith(part + ".")), None)
        if part is None:
            raise ValueError(f"{path}: unexpected tensor {name}")
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: tensor {name} holds a value that is not finite")
        parts[part][name.removeprefix(part + ".")] = array
    return Checkpoint(step, config, parts)


def find(path):
    """The checkpoint file that ``path`` means: itself, or the newest in the folder it names."""
    path = Path(path)
    if path.is_dir():
        files = saved(path) or saved(path / "checkpoints")
        if not files:
            raise ValueError(f"{path} holds no checkpoint (step-*.safetensors)")
        return files[-1]
    if not path.is_file():
        raise ValueError(f"checkpoint {path} does not exist")
    return path


def saved(folder):
    """The checkpoint files in a folder, oldest first."""
    return sorted(Path(folder).glob("step-*.safetensors"))
