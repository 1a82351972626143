"""What files of other libraries give: read, and checked setting by setting."""

from __future__ import annotations

import contextlib
import json

from tinydiff import tensors

WEIGHTS = "diffusion_pytorch_model.safetensors"
LONGEST_SHOWN = 100  # characters of a value in a message
MANY = 2**16  # a number far beyond any network is a damaged file
MOST_LEVELS = 16


@contextlib.contextmanager
def naming(path):
    """Let a ``ValueError`` begin with the file that it is about."""
    try:
        yield
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


def read_weights(folder):
    """{name: float32 array} and the metadata of the safetensors file of a folder."""
    path = folder / WEIGHTS
    if not path.is_file():
        others = sorted(each.name for each in folder.glob("diffusion_pytorch_model*"))
        hint = f"; {', '.join(others)} is not read: save it in one piece with safe_serialization=True" if others else ""
        raise ValueError(f"{folder} holds no {WEIGHTS}{hint}")
    return tensors.read(path)


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
