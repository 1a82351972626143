"""Data sets: MNIST and CIFAR-10 from their files or the network, any folder of images, drawn digits and scenes that need
neither, and points in the plane (``points2d``)."""

from __future__ import annotations

import os

from tinydiff.data import captioned_folder, captions, cifar10, folder, mnist, scenes, strokes
from tinydiff.data.dataset import Captioned, Dataset, Identity, bytes_to_signed, signed_to_bytes
from tinydiff.data.download import NotFound

NAMES = ("auto", "mnist", "strokes", "cifar10", "scenes", "folder")
OF_MANY_SIZES = ("scenes", "folder")  # those whose images come in the size that is asked for
CAPTIONED = ("scenes", "folder")  # those that have texts


def load(name="auto", *, data_dir=None, image_size=None, skip_unreadable=False, captioned=False, cache=True, say=print):
    """The training set of that name; ``"auto"`` is MNIST where it can be had, else ``strokes``, and says so.

    data_dir         where the files are; of "folder" the folder of images itself
    image_size       height and width that images of "folder" are brought to, and those of "scenes" drawn in, 32 (the
                     default) or 64; the others come in one size
    skip_unreadable  go on without images of "folder" that cannot be read, naming them
    captioned        with a text for each image, as a ``Captioned``: of "folder", and of "scenes", which then have shapes too
    cache            keep what is decoded of "folder", or drawn of "scenes", in a file; False: do it again every time

    Raises ``ValueError`` for an unknown name, a set that cannot be had when it was asked for by name or by
    ``data_dir``, files that are damaged, a size that the set does not come in, and an option that it has no use for.
    """
    if name not in NAMES:
        raise ValueError(f"data must be one of {', '.join(NAMES)}, got {name!r}")
    if captioned and name not in CAPTIONED:
        raise ValueError(f"text goes with data {' or '.join(map(repr, CAPTIONED))}, which have captions, not {name!r}")
    if name == "folder":
        if not data_dir:
            raise ValueError("data 'folder' needs data_dir, the folder of images")
        of = captioned_folder if captioned else folder
        return of.load(data_dir, size=image_size, skip_unreadable=skip_unreadable, cache=cache, say=say)
    if skip_unreadable:
        raise ValueError(f"skip_unreadable goes with data 'folder', not {name!r}")
    if not cache and name != "scenes":
        raise ValueError(f"no_cache goes with data 'folder' or 'scenes', not {name!r}")
    if name in ("strokes", "scenes") and data_dir:
        raise ValueError(f"data_dir: {name!r} are drawn, not read, got {data_dir}")
    if name == "scenes" and captioned:
        return captions.load(size=image_size, cache=cache, say=say)[0]
    if name == "scenes":
        return scenes.load(size=image_size, cache=cache, say=say)
    dataset = _load(name, data_dir, say)
    own = dataset.images.shape[1]
    if image_size not in (None, own):
        raise ValueError(f"image_size: {dataset.name} has images of {own}x{own}, got {image_size}")
    return dataset


def _load(name, data_dir, say):
    if name == "strokes":
        return strokes.load()
    if name == "cifar10":
        return cifar10.load("train", data_dir=data_dir)
    try:
        return mnist.load("train", data_dir=data_dir, say=say)
    except NotFound as error:
        if name == "mnist" or data_dir:
            raise
        say(f"MNIST is not to be had ({error}); training on drawn digits (--data strokes) instead.")
        return strokes.load()


def load_test(name, *, data_dir=None, count=10_000, image_size=None, test_dir=None, captioned=False, **options):
    """Images of the same kind as the training set of that name, but none of it; None where there are none.

    count       how many of a set that is drawn
    image_size  of "scenes" and "folder", which come in several; as of ``load``
    test_dir    a folder that holds them, for "folder", which is read with the ``options`` of ``folder.load``
    captioned   of "scenes" those that captions speak of

    Raises ``ValueError`` for ``test_dir`` with another set, or where it is ``data_dir``, and as ``load``.
    """
    if test_dir is not None:
        if name != "folder":
            raise ValueError(f"test_dir goes with data 'folder', not {name!r}")
        if data_dir and os.path.realpath(test_dir) == os.path.realpath(data_dir):
            raise ValueError(f"test_dir must hold images that were held out, and {test_dir} is the training set")
        return folder.load(test_dir, size=image_size, **options)
    if name == "mnist":
        return mnist.load("test", data_dir=data_dir)
    if name == "strokes":
        return strokes.load(count, first=10_000)
    if name == "cifar10":
        return cifar10.load("test", data_dir=data_dir)
    if name == "scenes":
        of = dict(size=image_size, first=scenes.HELD_OUT)
        return captions.load(count, **of)[0] if captioned else scenes.load(count, **of)
    return None


__all__ = [
    "CAPTIONED",
    "NAMES",
    "OF_MANY_SIZES",
    "Captioned",
    "Dataset",
    "Identity",
    "NotFound",
    "bytes_to_signed",
    "captions",
    "cifar10",
    "folder",
    "load",
    "load_test",
    "mnist",
    "scenes",
    "signed_to_bytes",
    "strokes",
]
