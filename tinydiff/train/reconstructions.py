"""Pictures of what an autoencoder makes of images: the originals, and beside them the reconstructions."""

from __future__ import annotations

import numpy as np

from tinydiff import pictures
from tinydiff.data.dataset import bytes_to_signed, evenly

COLUMNS, ROWS = 4, 4


def picture_of(trainer, columns=COLUMNS, rows=ROWS):
    """A function that saves the picture of the same images of the data set every time: originals on the left."""
    images = trainer.dataset.images
    images = np.ascontiguousarray(images[evenly(columns * rows, len(images))])

    def draw_picture(path):
        both = bytes_to_signed(images), trainer.reconstruct(images)
        pictures.save(pictures.side_by_side(*(pictures.grid(each, columns) for each in both)), path)

    return draw_picture
