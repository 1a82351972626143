"""The images of a step where the data set does not fit into the memory of the device: those of the next part are gathered
by a thread, from the map of a file if need be, and copied while the device computes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tinydiff.ops import draw_batch


class Feed:
    """Brings the images of one part of a batch after another, those of the next one ahead of time.

    images  (n, ...), an array of the backend that holds the part that was asked for last
    place   (n,) int64, where in it each sample of the part lies: 0 .. n - 1
    """

    def __init__(self, config, dataset, backend, ranks):
        count = config.part
        self._config, self._from, self._share = config, dataset, ranks.share(config.parts)
        self.images = backend.zeros((count, *dataset.images.shape[1:]), dataset.images.dtype)
        self.place = backend.asarray(np.arange(count))
        self._uploads = backend.uploads(self.images.shape, self.images.dtype)
        self._thread = ThreadPoolExecutor(1, "tinydiff-feed")
        self._ahead = {}  # (number, part): what the thread makes of them

    def bring(self, number, part):
        """Put the images of this part of this training step into ``images``, and begin with those of the next."""
        coming = self._ahead.pop((number, part), None) or self._begin(number, part)
        self._uploads.put(coming.result(), self.images)
        following = (number, part + 1) if part + 1 in self._share else (number + 1, self._share[0])
        self._ahead = {following: self._begin(*following)}

    def _begin(self, number, part):
        return self._thread.submit(self._uploads.send, lambda array: self._gather(number, part, array))

    def _gather(self, number, part, array):
        """Write the images of a part into ``array``."""
        slot = part * len(array) + np.arange(len(array))
        index = draw_batch.index_of(number, slot, self._config.batch, len(self._from), self._config.seed)
        if self._from.image_of is not None:
            index = self._from.image_of[index]
        np.take(self._from.images, index, axis=0, out=array)
