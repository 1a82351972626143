"""Data sets: MNIST from its files or the network, and drawn digits that need neither."""

from __future__ import annotations

from tinydiff.data import mnist, strokes
from tinydiff.data.dataset import Dataset, bytes_to_signed, signed_to_bytes

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
    except mnist.NotFound as error:
        if name == "mnist" or data_dir:
            raise
        say(f"MNIST is not to be had ({error}); training on drawn digits (--data strokes) instead.")
        return strokes.load()


__all__ = ["NAMES", "Dataset", "bytes_to_signed", "load", "mnist", "signed_to_bytes", "strokes"]
