"""Data sets: MNIST from its files or the network, and drawn digits that need neither."""

from __future__ import annotations

from tinydiff.data import mnist, strokes
from tinydiff.data.dataset import Dataset, bytes_to_signed, signed_to_bytes
from tinydiff.data.download import NotFound

NAMES = ("auto", "mnist", "strokes")


def load(name="auto", *, data_dir=None, say=print):
    """The training set of that name; ``"auto"`` is MNIST where it can be had, else ``strokes``, and says so.

    Raises ``ValueError`` for an unknown name, MNIST that cannot be had when it was asked for by name or by
    ``data_dir``, and files that are damaged.
    """
    if name not in NAMES:
        raise ValueError(f"data must be one of {', '.join(NAMES)}, got {name!r}")
    if name == "strokes":
        return strokes.load()
    try:
        return mnist.load("train", data_dir=data_dir)
    except NotFound as error:
        if name == "mnist" or data_dir:
            raise
        say(f"MNIST is not to be had ({error}); training on drawn digits (--data strokes) instead.")
        return strokes.load()


def load_test(name, *, data_dir=None, count=10_000):
    """Images of the same kind as the training set of that name, but none of it; None where there are none."""
    if name == "mnist":
        return mnist.load("test", data_dir=data_dir)
    if name == "strokes":
        return strokes.load(count, first=10_000)
    return None


__all__ = [
    "NAMES",
    "Dataset",
    "NotFound",
    "bytes_to_signed",
    "load",
    "load_test",
    "mnist",
    "signed_to_bytes",
    "strokes",
]
