"""Labelled images as arrays, and the one conversion between bytes and the range models work in."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import NamedTuple

import numpy as np

from tinydiff.ops.corrupt import bytes_to_signed

__all__ = ["Captioned", "Dataset", "Identity", "bytes_to_signed", "signed_to_bytes"]


class Identity(NamedTuple):
    """What a data set is, apart from its pixels: by this a run knows its own again. Equal sets have equal identities."""

    name: str
    class_names: tuple[str, ...]
    counts: tuple[int, ...]  # images of each class
    shape: tuple[int, ...]  # of one image
    files_digest: str  # of the names and sizes, or of the content, of the files it was read from, or ""
    digits: bool = False  # known to be digits

    @classmethod
    def from_json(cls, fields):
        """What ``_asdict`` gave, read from JSON. Raises ``TypeError`` or ``ValueError`` for anything else."""
        identity = cls(**fields)
        texts, numbers = (
            (identity.name, identity.files_digest, *identity.class_names),
            (*identity.counts, *identity.shape),
        )
        kinds = [(texts, str), (numbers, int), ([identity.digits], bool)]
        if not all(type(each) is kind for values, kind in kinds for each in values):
            raise TypeError("a data set's identity is made of names and counts")
        lists = ("class_names", "counts", "shape")
        return identity._replace(**{field: tuple(getattr(identity, field)) for field in lists})

    @property
    def digest(self):
        """Sixteen hexadecimal digits that stand for all of it."""
        return hashlib.sha256(json.dumps(self).encode()).hexdigest()[:16]

    def difference(self, other):
        """In words the first thing in which ``other`` is not this data set; "" if nothing."""
        if other.name != self.name:
            return f"it is {other.name}, not {self.name}"
        if other.class_names != self.class_names:
            added = [name for name in other.class_names if name not in self.class_names]
            missing = [name for name in self.class_names if name not in other.class_names]
            changes = [f"{word} {', '.join(names)}" for word, names in (("without", missing), ("with", added)) if names]
            return f"its classes are others: {'; '.join(changes) or 'in another order'}"
        if other.shape != self.shape:
            return f"its images are {other.shape}, not {self.shape}"
        for name, ours, theirs in zip(self.class_names, self.counts, other.counts):
            if ours != theirs:
                return f"class {name} has {theirs:,} images, not {ours:,}"
        return "" if other == self else "its files have other names or content"


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """``images`` (n, H, W, C) uint8 in [0, 255], ``labels`` (n,) integers in [0, classes).

    ``class_names`` are what the labels stand for, by default their numbers; ``files_digest`` is "" or made of the names
    and sizes, or the content, of the files that were read; ``digits`` says that the images are known to be digits, which
    ``metrics.classifier`` can read. Data that are not images of bytes (points, latents) are float32 of any shape
    (n, ...), used as they are. Images may be read-only, mapped from a file larger than memory: none copies them all.
    Raises ``ValueError`` for another dtype, labels or names that do not match, or a value that is not finite.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: int
    class_names: tuple[str, ...] = ()
    files_digest: str = ""
    digits: bool = False

    image_of = None  # an image has one label

    def __post_init__(self):
        if not self.class_names:
            object.__setattr__(self, "class_names", tuple(str(label) for label in range(self.classes)))
        if len(self.class_names) != self.classes:
            raise ValueError(f"{self.name}: class_names must be {self.classes} names, got {len(self.class_names)}")
        if self.images.dtype not in (np.uint8, np.float32) or self.images.ndim < 2 or len(self.images) == 0:
            raise ValueError(
                f"{self.name}: images must be uint8 (n, H, W, C) or float32 (n, ...) and not empty, "
                f"got {self.images.dtype} {self.images.shape}"
            )
        count = len(self.images if self.image_of is None else self.image_of)
        if self.labels.shape != (count,) or self.labels.dtype.kind not in "iu":
            raise ValueError(
                f"{self.name}: labels must be {count} integers, got {self.labels.dtype} {self.labels.shape}"
            )
        if self.labels.min() < 0 or self.labels.max() >= self.classes:
            raise ValueError(
                f"{self.name}: labels must lie in [0, {self.classes}), got {self.labels.min()} .. {self.labels.max()}"
            )
        if self.images.dtype == np.float32:
            finite = np.isfinite(self.images).reshape(len(self.images), -1).all(axis=1)
            if not finite.all():
                raise ValueError(f"{self.name}: item {int(np.argmin(finite))} holds a value that is not finite")

    def __len__(self):
        return len(self.labels)

    @property
    def shape(self):
        """Of one image, as a model takes it."""
        return self.images.shape[1:]

    @property
    def identity(self):
        """Its ``Identity``."""
        counts = tuple(np.bincount(self.labels, minlength=self.classes).tolist())
        return Identity(self.name, self.class_names, counts, self.images.shape[1:], self.files_digest, self.digits)


@dataclasses.dataclass(frozen=True, eq=False)
class Captioned(Dataset):
    """Images with texts. Labels (m,) are places in ``class_names``, the texts that there are; a run knows them again by a
    digest alone, and not one by one.

    image_of  (m,) integers, of which image each label is; None where each image has one, m = n
    """

    image_of: np.ndarray | None = None

    @classmethod
    def of(cls, name, images, texts, files_digest="", image_of=None):
        """Images (n, H, W, C) and m texts, of which some may be the same, of images (m,), or of one each."""
        different = list(dict.fromkeys(texts))
        place = {text: i for i, text in enumerate(different)}
        labels = np.array([place[text] for text in texts], np.int32)
        digest = hashlib.sha256(json.dumps([files_digest, texts]).encode()).hexdigest()[:16]
        return cls(name, images, labels, len(different), tuple(different), digest, image_of=image_of)

    @property
    def identity(self):
        """Its ``Identity``, in which all captions are one class."""
        return Identity(self.name, ("captions",), (len(self),), self.images.shape[1:], self.files_digest, self.digits)


def signed_to_bytes(images):
    """float in [-1, 1], clipped -> uint8 in [0, 255], rounded to nearest."""
    return np.round((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)


def evenly(count, n):
    """Indices (count,) of ``count`` among ``n`` items, at even distances from the first to the last; of fewer some come
    again."""
    return np.linspace(0, n - 1, count).astype(int)
