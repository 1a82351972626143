"""CIFAR-10 in its official binary and Python formats: found on disk, or downloaded and checked.

Both come as an archive of six batches of 10,000 images, five to train on and one to test, and are read from the archive or
unpacked. An image is 3,072 bytes: its red plane, row by row, then green, then blue.

    binary   each image one byte of label and its bytes, one after the other
    Python   a pickled dictionary, b"data" (10000, 3072) uint8 and b"labels"; unpickled with nothing but NumPy's arrays
             allowed, as a pickle could otherwise run any program

Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import zlib
from pathlib import Path

import numpy as np

from tinydiff.data.dataset import Dataset
from tinydiff.data.download import obtain

SIZE = 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORDS = 10_000  # images in a batch
BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
ARCHIVES = {
    # what is downloaded comes first: no pickle in it
    "cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    "cifar-10-python.tar.gz": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
}
UNPACKED = ("cifar-10-batches-bin", "cifar-10-batches-py", "data_batch_1.bin", "data_batch_1")
MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)


def load(split="train", *, data_dir=None, download=True):
    """CIFAR-10 as a ``Dataset`` of 50,000 (train) or 10,000 (test) images (n, 32, 32, 3).

    Looks in ``data_dir`` (and nowhere else, if given), else in ``$TINYDIFF_DATA`` and the user's cache, for an archive or
    the folder it unpacks to, then downloads the binary archive into the cache, checking SHA-256.

    Raises ``NotFound`` if it can be had nowhere, ``ValueError`` naming the file for one that is missing, truncated or of
    another format.
    """
    if split not in BATCHES:
        raise ValueError(f"split must be one of {', '.join(BATCHES)}, got {split!r}")
    path = obtain("cifar10", (*ARCHIVES, *UNPACKED), _is_right, MIRRORS, data_dir=data_dir, download=download)
    files = _read_archive(path, split) if path.name.endswith(".tar.gz") else _read_folder(path, split)
    batches = [_decode(where, content) for where, content in files]
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    return Dataset("cifar10" if split == "train" else f"cifar10 {split}", images, labels, len(CLASSES), CLASSES)


def _is_right(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest() == next(iter(ARCHIVES.values()))


def _read_archive(path, split):
    """(name, bytes) of each batch of a split in an archive."""
    try:
        with tarfile.open(path) as archive:
            members = {Path(member.name).name: member for member in archive if member.isfile()}
            return [
                (f"{path}: {name}", archive.extractfile(members[name]).read()) for name in _names(path, split, members)
            ]
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ValueError(f"{path} is truncated or damaged: {error}") from None


def _read_folder(path, split):
    """(name, bytes) of each batch of a split, unpacked; ``path`` is the folder, or a batch in it."""
    folder = path if path.is_dir() else path.parent
    files = {file.name: file for file in folder.iterdir()}
    return [(str(files[name]), files[name].read_bytes()) for name in _names(folder, split, files)]


def _names(path, split, present):
    """The names of the batches as they are present, binary or Python. Raises ``ValueError`` for one that is missing."""
    ending = ".bin" if f"{BATCHES[split][0]}.bin" in present else ""
    names = [batch + ending for batch in BATCHES[split]]
    for name in names:
        if name not in present:
            raise ValueError(f"{path} holds no {name}")
    return names


def _decode(where, content):
    """The images (RECORDS, 32, 32, 3) and labels (RECORDS,) of a batch."""
    pixels, labels = _binary(where, content) if where.endswith(".bin") else _pickled(where, content)
    if labels.min() < 0 or labels.max() >= len(CLASSES):
        raise ValueError(
            f"{where}: label {labels.max() if labels.max() >= len(CLASSES) else labels.min()} is none of CIFAR-10"
        )
    planes = pixels.reshape(-1, 3, SIZE, SIZE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels.astype(np.int32)


def _binary(where, content):
    record = 1 + 3 * SIZE * SIZE
    if len(content) != RECORDS * record:
        raise ValueError(
            f"{where} is truncated or damaged: {RECORDS:,} images need {RECORDS * record} bytes, it holds {len(content)}"
        )
    records = np.frombuffer(content, np.uint8).reshape(RECORDS, record)
    return records[:, 1:], records[:, 0]


def _pickled(where, content):
    try:
        batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
    except Exception as error:  # unpickling damaged bytes may raise anything
        raise ValueError(f"{where} is not a batch of CIFAR-10: {error}") from None
    if pixels.dtype != np.uint8 or pixels.shape != (RECORDS, 3 * SIZE * SIZE) or labels.shape != (RECORDS,):
        raise ValueError(f"{where} is not a batch of CIFAR-10: data of {pixels.dtype} {pixels.shape}")
    return pixels, labels


class _ArraysOnly(pickle.Unpickler):
    """Unpickles plain values and NumPy arrays, and refuses all else."""

    def find_class(self, module, name):
        if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray"):
            allowed = {"ndarray": np.ndarray, "dtype": np.dtype, "_reconstruct": np.empty(0).__reduce__()[0]}
            if name in allowed:
                return allowed[name]
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for protocol 2
            return str.encode
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")
