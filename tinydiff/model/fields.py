"""The fields of configurations, which also come from JSON that others wrote."""

from __future__ import annotations

import dataclasses
import numbers
import typing

WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "text"}


def expect_types(config):
    """Raise ``ValueError`` naming the first field of a frozen dataclass that is not of its declared type.

    A list, as JSON has it, becomes the tuple that is declared, and a dictionary the dataclass.
    """
    for name, kind in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if typing.get_origin(kind) is tuple:
            kind = typing.get_args(kind)[0]
            if not isinstance(value, (list, tuple)) or not all(_is_of(kind, each) for each in value):
                raise ValueError(f"{name} must be a list, each {WORDS[kind]}, got {value!r}")
            object.__setattr__(config, name, tuple(value))
        elif isinstance(value, dict) and dataclasses.is_dataclass(kind):
            object.__setattr__(config, name, kind(**value))
        elif not _is_of(kind, value):
            raise ValueError(f"{name} must be {WORDS.get(kind, kind.__name__)}, got {value!r}")


def _is_of(kind, value):
    if kind in (int, float):  # NumPy's count too, and an integer is a number; True is neither
        wanted = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, wanted) and not isinstance(value, bool)
    return isinstance(value, kind)


def expect_levels(config, *counts):
    """Raise ``ValueError`` unless the levels of a network, of ``channels`` widths, between which images of ``size`` halve,
    can be made, and its numbers of something, some common to all and these besides, are at least 1."""
    levels = len(config.channels)
    if levels < 1 or min(config.channels) < 1:
        raise ValueError(f"channels must be at least one positive width, got {config.channels}")
    for name in ("size", "image_channels", "blocks", "groups", *counts):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(config, name)}")
    if any(width % config.groups for width in config.channels):
        raise ValueError(f"groups must divide every width in {config.channels}, got {config.groups}")
    if config.size % config.factor:
        raise ValueError(
            f"size must be divisible by {config.factor}, as {levels} levels halve it {levels - 1} times, got {config.size}"
        )
