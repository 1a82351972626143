"""What files of other libraries give: read, and checked setting by setting."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import NamedTuple

from tinydiff import tensors

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = ".index.json"  # behind it: of weights in several files
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
CONVERT = "convert it to safetensors (save_pretrained does)"
LONGEST_SHOWN = 100  # characters of a value in a message
MANY = 2**16  # a number far beyond any network is a damaged file
MOST_LEVELS = 16


@contextlib.contextmanager
def naming(path):
    """Let a ``ValueError`` begin with the file that it is about, but for one of ``tensors``, which does."""
    try:
        yield
    except tensors.Damaged:
        raise
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_json(path, what="a folder of diffusers'"):
    """The settings of a JSON file, {name: value}. Raises ``ValueError`` naming a file that is none; one that is missing is
    why its folder is not ``what`` it should be."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist: not {what}") from None
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold settings by name, got {type(content).__name__}")
    return content


def to_json(content):
    """Settings as the bytes of such a file."""
    return (json.dumps(content, indent=2) + "\n").encode()


class Weights(NamedTuple):
    """What ``read_weights`` found."""

    named: dict[str, tensors.Lazy]
    metadata: dict[str, str]
    path: Path  # of the file, or of the index of several: what errors are to name


def read_weights(folder, name=WEIGHTS, passed_over=lambda name: False):
    """The tensors of a folder -> ``Weights``, read when they are asked for; but for those ``passed_over``.

    Raises ``ValueError`` as ``weight_files``, and what ``tensors.read`` raises.
    """
    files = weight_files(folder, name)
    parts = [tensors.read_lazily(path, passed_over) for path in files]
    named = {key: each for part in parts for key, each in part.named.items()}
    return Weights(named, parts[0].metadata, files[0] if len(files) == 1 else folder / f"{name}{INDEX}")


def weight_files(folder, name=WEIGHTS):
    """The safetensors files that hold the weights of a folder: ``name``, or the parts that its index names, or else the one
    of another precision beside it (``diffusion_pytorch_model.fp16.safetensors``).

    Raises ``ValueError`` where there is none, or of several precisions more than one; pickles are not opened, as that
    could run any program.
    """
    if (folder / name).is_file():
        return [folder / name]
    if (index := folder / f"{name}{INDEX}").is_file():
        return _parts(folder, index)
    stem = Path(name).stem
    others = [path for path in sorted(folder.glob(f"{stem}.*.safetensors")) if "-of-" not in path.name]
    if len(others) > 1:
        raise ValueError(f"{folder} holds no {name}, but {', '.join(each.name for each in others)}: leave one of them")
    if others:
        return others
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLES) if folder.is_dir() else ()
    hint = f"; {', '.join(pickles)} is a pickle, which could run any program, and is not read: {CONVERT}" if pickles else ""
    raise ValueError(f"{folder} holds no {name}{hint}")


def refuse_pickle(path):
    """Raise ``ValueError`` for a file that is a pickle, by its name."""
    if Path(path).suffix in PICKLES and Path(path).is_file():
        raise ValueError(f"{path} is a pickle, which could run any program, and is not read: {CONVERT}")


def _parts(folder, index):
    found = read_json(index).get("weight_map")
    is_map = isinstance(found, dict) and all(isinstance(each, str) for each in found.values())
    names = sorted(set(found.values())) if is_map else []
    if not names or any(Path(each).name != each for each in names):
        raise ValueError(f"{index} must have weight_map, the name of a file beside it for each tensor")
    for each in names:
        if not (folder / each).is_file():
            raise ValueError(f"{folder} holds no {each}, which {index.name} names")
    return [folder / each for each in names]


def public(given, class_name, known):
    """The settings of a config.json that describe a network of that class.

    Raises ``ValueError`` for another class, and for the first setting that is not among those ``known``.
    """
    if given.get("_class_name", class_name) != class_name:
        raise ValueError(f"_class_name must be {class_name}, got {shown(given['_class_name'])}")
    settings = {name: value for name, value in given.items() if not name.startswith("_")}
    for name in settings:
        if name not in known:
            raise ValueError(f"{name} {shown(settings[name])}: this setting is not known")
    return settings


def require(settings, allowed):
    """Raise ``ValueError`` for the first setting that has none of its ``allowed`` values."""
    for name, values in allowed.items():
        # by type as well: in Python 1 == True
        if not any(
            settings[name] == value and isinstance(settings[name], bool) == isinstance(value, bool) for value in values
        ):
            one_of = " or ".join(shown(value) for value in values)
            raise ValueError(f"{name} must be {one_of}, got {shown(settings[name])}")


def require_integer(name, value, low, high):
    if type(value) is not int:  # nor bool
        raise ValueError(f"{name} must be one integer, got {shown(value)}")
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low}, {high}], got {shown(value)}")


def require_number(name, value, high):
    if type(value) not in (int, float) or not 0 < value <= high:
        raise ValueError(f"{name} must be a number above 0 and at most {high}, got {shown(value)}")


def require_widths(channels):
    """Raise ``ValueError`` unless these are ``block_out_channels``."""
    if not isinstance(channels, list) or not 1 <= len(channels) <= MOST_LEVELS:
        raise ValueError(f"block_out_channels must be a list of 1 to {MOST_LEVELS} widths, got {shown(channels)}")
    for width in channels:
        require_integer("each of block_out_channels", width, 1, MANY)


def one_size(settings):
    """``sample_size`` as one number where it is given as two that are the same."""
    size = settings["sample_size"]
    return size[0] if isinstance(size, list) and size and all(each == size[0] for each in size) else size


def shown(value):
    """As it stands in the JSON file, its beginning where it is long."""
    text = json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
