"""MNIST in its idx format: found on disk, or downloaded and checked.

An idx file is a big-endian header (two zero bytes, a type code, the number of axes, then each axis' length as
32 bits) and the values, here unsigned bytes; it may be gzipped. Other data sets come in files of the same names, above
all Fashion-MNIST: any are read, but only MNIST's, known by their checksums, pass for digits.

Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from tinydiff.data.dataset import Dataset
from tinydiff.data.download import obtain, unzipped

UNSIGNED_BYTE = 0x08
FILES = {
    # split: (images, labels), each a file name and the SHA-256 of its content, unzipped
    "train": (
        ("train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        ("train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    ),
    "test": (
        ("t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        ("t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ),
}
FASHION = {  # the same of Fashion-MNIST's images
    "train": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "test": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


def load(split="train", *, data_dir=None, download=True, say=print):
    """MNIST as a ``Dataset`` of 60,000 (train) or 10,000 (test) images (n, 28, 28, 1).

    Looks in ``data_dir`` (and nowhere else, if given), else in ``$TINYDIFF_DATA`` and the user's cache, then
    downloads into the cache from ``MIRRORS`` (or ``$TINYDIFF_MIRROR``), checking SHA-256. Files of other content
    than MNIST's are used, whatever the number and size of their images, and it is said.

    Raises ``NotFound`` if it can be had nowhere, ``ValueError`` naming the file for one that is truncated,
    not in idx format, or inconsistent.
    """
    if split not in FILES:
        raise ValueError(f"split must be one of {', '.join(FILES)}, got {split!r}")
    images_path, labels_path = (
        obtain(
            "mnist",
            (f"{name}.gz", name),
            lambda path, sha256=sha256: hashlib.sha256(unzipped(path)).hexdigest() == sha256,
            MIRRORS,
            data_dir=data_dir,
            download=download,
        )
        for name, sha256 in FILES[split]
    )
    (images, images_sum), (labels, labels_sum) = read_idx(images_path, axes=3), read_idx(labels_path, axes=1)
    if len(images) != len(labels):
        raise ValueError(f"{labels_path} has {len(labels)} labels for the {len(images)} images of {images_path}")
    if labels.max(initial=0) > 9:
        raise ValueError(f"{labels_path}: label {labels.max()} is not a digit")
    digits = [images_sum, labels_sum] == [sha256 for _, sha256 in FILES[split]]
    if not digits:
        content = "Fashion-MNIST" if images_sum == FASHION[split] else "of unknown content"
        say(f"{images_path} and its labels are not MNIST but {content}: used, but not by what reads digits")
    return Dataset(
        "mnist" if split == "train" else f"mnist {split}",
        images[..., None],
        labels.astype(np.int32),
        10,
        files_digest=hashlib.sha256(f"{images_sum} {labels_sum}".encode()).hexdigest()[:16],
        digits=digits,
    )


def read_idx(path, *, axes):
    """The unsigned bytes of an idx file with that many axes, gzipped or not: a uint8 array, and its content's SHA-256.

    Raises ``ValueError`` naming the file if it is truncated, too long, or of another format.
    """
    content = unzipped(path)
    magic = bytes([0, 0, UNSIGNED_BYTE, axes])
    if content[:4] != magic:
        raise ValueError(
            f"{path} is not an idx file of bytes with {axes} axes: begins {content[:4].hex()}, not {magic.hex()}"
        )
    header = 4 + 4 * axes
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4)]
    if len(content) != header + math.prod(shape):
        raise ValueError(
            f"{path} is truncated or damaged: {' x '.join(map(str, shape))} values need "
            f"{header + math.prod(shape)} bytes, the file holds {len(content)}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape), hashlib.sha256(content).hexdigest()
