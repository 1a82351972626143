"""Labelled images as arrays, and the one conversion between bytes and the range models work in."""

from __future__ import annotations

import dataclasses

import numpy as np

from tinydiff.ops.corrupt import bytes_to_signed

__all__ = ["Dataset", "bytes_to_signed", "signed_to_bytes"]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """``images`` (n, H, W, C) uint8 in [0, 255], ``labels`` (n,) integers in [0, classes).

    Data that are not images of bytes (points, latents) are float32 of any shape (n, ...), used as they are.
    Raises ``ValueError`` for another dtype, labels that do not match, or a value that is not finite.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: int

    def __post_init__(self):
        if self.images.dtype not in (np.uint8, np.float32) or self.images.ndim < 2 or len(self.images) == 0:
            raise ValueError(
                f"{self.name}: images must be uint8 (n, H, W, C) or float32 (n, ...) and not empty, "
                f"got {self.images.dtype} {self.images.shape}"
            )
        if self.labels.shape != (len(self.images),) or self.labels.dtype.kind not in "iu":
            raise ValueError(
                f"{self.name}: labels must be {len(self.images)} integers, got {self.labels.dtype} {self.labels.shape}"
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
        return len(self.images)


def signed_to_bytes(images):
    """float in [-1, 1], clipped -> uint8 in [0, 255], rounded to nearest."""
    return np.round((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)
