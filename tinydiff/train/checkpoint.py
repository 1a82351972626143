"""Checkpoints: one safetensors file that holds all it takes to go on as if nothing had happened.

    model.<name>           parameters, under diffusers' names, in this project's layouts
    average.<name>         their running average
    adamw.mean.<name>      the optimizer's moments
    adamw.mean_square.<name>
    teacher.<name>         of a student: the parameters of the teacher that it is learning from
    metadata "tinydiff"    JSON: "format", "kind" of run (a diffusion model's where it does not say), "step", "config",
                           "data_set" (its identity), "precision" in which it was trained, "scale" of the latents where an
                           autoencoder's were measured, and "sha256", of all the rest

A model of latents has its autoencoder, the averaged parameters alone, in such a file too: AUTOENCODER in the folder of
the run.

A file appears under its name whole or not at all: it is written to a temporary file beside it, synced to
disk and renamed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinydiff import tensors
from tinydiff.data.dataset import Identity
from tinydiff.files import write_atomically
from tinydiff.model.autoencoder import LatentScale
from tinydiff.tensors import Damaged
from tinydiff.train.config import TrainConfig
from tinydiff.train.distill_config import DistillConfig
from tinydiff.train.run_config import RunConfig
from tinydiff.train.vae_config import VAETrainConfig

METADATA = "tinydiff"  # one entry for all, as safetensors keeps several in no fixed order
FORMAT = 1
PARTS = ("model", "average", "adamw.mean", "adamw.mean_square")
TEACHER = "teacher"  # one part more, of a student: the parameters of the teacher that it is learning from
KINDS = {config.KIND: config for config in (TrainConfig, VAETrainConfig, DistillConfig)}
AUTOENCODER = "autoencoder.safetensors"
NAME = re.compile(r"step-(\d+)\.safetensors")  # what else lies beside a checkpoint is somebody's own


class Checkpoint(NamedTuple):
    """A file's content: ``parts`` maps each of ``PARTS``, and of a student ``TEACHER``, to named NumPy
    arrays.

    ``data_set`` is the identity of the images it was trained on, ``precision`` that of the backend, of which the bits of
    a run depend; None in files that do not say. ``scale`` is that of an autoencoder's latents, where it was measured
    (``latents``), and ``autoencoder`` the ``Checkpoint`` of that in whose latents a model works, or None.
    """

    step: int
    config: RunConfig
    parts: dict[str, dict[str, np.ndarray]]
    data_set: Identity | None = None
    precision: str | None = None
    scale: LatentScale | None = None
    autoencoder: Checkpoint | None = None

    @property
    def image_shape(self):
        """(H, W, C) of the images that it was trained on, and draws."""
        return (self.autoencoder or self).config.model.shape

    def of_size(self, pixels):
        """The same for images of another size, which a U-Net's parameters do not depend on.

        Raises ``ValueError`` for one that its levels do not divide, and for a model that is told where in an image it is.
        """
        config, vae = self.config, self.autoencoder
        scale = vae.config.model.factor if vae else 1
        if pixels < 1 or pixels % (scale * config.model.factor):
            raise ValueError(f"size must be a multiple of {scale * config.model.factor} for this model, got {pixels}")
        if config.model.positions and pixels != self.image_shape[0]:
            raise ValueError(f"size must be {self.image_shape[0]} for a model with positions, got {pixels}")
        sized = lambda of, size: dataclasses.replace(of, model=dataclasses.replace(of.model, size=size))
        if vae:
            vae = vae._replace(config=sized(vae.config, pixels))
            config = dataclasses.replace(config, autoencoder=digest(vae))
        return self._replace(config=sized(config, pixels // scale), autoencoder=vae)


def path_for(folder, step):
    return Path(folder) / f"step-{step:07d}.safetensors"


def number(path):
    """The step in the name of a checkpoint file."""
    return int(NAME.fullmatch(Path(path).name)[1])


def save(path, checkpoint):
    """Write a checkpoint, without its autoencoder. Raises ``OSError`` if that fails; a file of that name then is as it
    was."""
    description, named = _described(checkpoint)
    named = {name: named[name] for name in sorted(named)}
    write_atomically(path, tensors.pieces(named, metadata={METADATA: json.dumps(description)}))


def digest(checkpoint):
    """Sixteen hexadecimal digits that stand for all of a checkpoint."""
    return _described(checkpoint)[0]["sha256"][:16]


def _described(checkpoint):
    """What a file's metadata says of a checkpoint, and its tensors by name."""
    named = {f"{part}.{name}": array for part, named in checkpoint.parts.items() for name, array in named.items()}
    description = {"format": FORMAT, "kind": checkpoint.config.KIND, "step": checkpoint.step}
    description["config"] = checkpoint.config.to_dict()
    description["data_set"] = checkpoint.data_set and checkpoint.data_set._asdict()
    description["precision"] = checkpoint.precision
    if checkpoint.scale:
        description["scale"] = dataclasses.asdict(checkpoint.scale)
    description["sha256"] = _sha256(description, named)
    return description, named


def _sha256(description, named):
    """Of a description without its own digest, and of tensors by name."""
    rest = {key: value for key, value in description.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(rest).encode())
    for name in sorted(named):
        array = np.asarray(named[name])  # which may be lazy
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def load(path, kind=TrainConfig, *, lazily=False, say=print):
    """Read a checkpoint: a file, or the newest in a folder (or in its ``checkpoints``); and its autoencoder, where it works
    in the latents of one.

    kind    the class of the configuration that is asked for; ``RunConfig`` asks for any
    lazily  the parts hold a ``tensors.Lazy`` for each array: who needs one of them has no more in memory

    Of a folder whose newest is damaged the one before it is read, and ``say`` tells.
    Raises ``ValueError`` naming the file if it is missing, not a checkpoint of this project or of another kind of run, or
    without its autoencoder, and ``Damaged`` if it is truncated, differs from what was written or holds a value that is not
    finite.
    """
    files = _files(path)
    for file, before in zip(reversed(files), [*reversed(files[:-1]), None]):
        try:
            return _with_autoencoder(_read(file, kind, lazily), file)
        except Damaged as error:
            if before is None:
                raise
            say(f"{error}; {before.name}, the one before it, is read instead")


def _with_autoencoder(checkpoint, file):
    """The same with the autoencoder in whose latents it works, if it does; it lies in the folder of the run."""
    expected = checkpoint.config.autoencoder
    if not expected:
        return checkpoint
    path = run_folder(file) / AUTOENCODER
    if not path.is_file():
        raise ValueError(f"{path} is missing: the autoencoder in whose latents {file} works")
    autoencoder = _read(path, VAETrainConfig)
    if digest(autoencoder) != expected:
        raise ValueError(f"{path} is not the autoencoder in whose latents {file} works")
    return checkpoint._replace(autoencoder=autoencoder)


def run_folder(path):
    """The folder of the run that a checkpoint file, or the folder itself, belongs to."""
    path = Path(path)
    beside = path.parent if path.is_file() else path
    return beside.parent if beside.name == "checkpoints" else beside


def _read(path, kind, lazily=False):
    named, metadata, types = (tensors.read_lazily if lazily else tensors.read)(path)
    if METADATA not in metadata:
        raise ValueError(f"{path} is a safetensors file, but not a tinydiff checkpoint")
    try:
        description = json.loads(metadata[METADATA])
        if description["format"] != FORMAT:
            raise ValueError(f"its format is {description['format']}, not {FORMAT}")
        if (found := description.get("kind", TrainConfig.KIND)) not in KINDS:
            raise ValueError(f"its kind is {found!r}, not one of {', '.join(KINDS)}")
        step, config = description["step"], KINDS[found](**description["config"])
        data_set = Identity.from_json(description["data_set"]) if description.get("data_set") else None
        scale = LatentScale(**description["scale"]) if description.get("scale") else None
        if type(step) is not int or not 0 <= step <= config.steps:
            raise ValueError(f"step must be an integer in [0, {config.steps}], got {step!r}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read by this version: {error}") from None
    if not isinstance(config, kind):
        of, not_of = (f"{each.KIND} (tinydiff {each.COMMAND})" for each in (config, kind))
        raise ValueError(f"{path} is of the kind {of}, not {not_of}")
    # what another program wrote in another type is no longer what the digest is of; older files have none
    if types == {"F32"} and description.get("sha256", digest := _sha256(description, named)) != digest:
        raise Damaged(f"{path} is damaged: its content is not what its checksum was made of")

    parts = {part: {} for part in PARTS + ((TEACHER,) if isinstance(config, DistillConfig) else ())}
    for name, array in named.items():
        part = next((part for part in parts if name.startswith(part + ".")), None)
        if part is None:
            raise ValueError(f"{path}: unexpected tensor {name}")
        parts[part][name.removeprefix(part + ".")] = array
    return Checkpoint(step, config, parts, data_set, description.get("precision"), scale)


def find(path):
    """The checkpoint file that ``path`` means: itself, or the newest in the folder it names."""
    return _files(path)[-1]


def _files(path):
    path = Path(path)
    if path.is_dir():
        files = saved(path) or saved(path / "checkpoints")
        if not files:
            raise ValueError(f"{path} holds no checkpoint (step-*.safetensors)")
        return files
    if not path.is_file():
        raise ValueError(f"checkpoint {path} does not exist")
    return [path]


def saved(folder):
    """The checkpoint files in a folder, by the number of their step. Other files and folders are not ours."""
    files = [path for path in Path(folder).glob("step-*.safetensors") if NAME.fullmatch(path.name) and path.is_file()]
    return sorted(files, key=lambda path: (number(path), path.name))
