"""An autoencoder at work on arrays of NumPy: images to latents, latents to images."""

from __future__ import annotations

import numpy as np

from tinydiff.data.dataset import bytes_to_signed
from tinydiff.generate import IMAGE_RANGE, batches
from tinydiff.ops import gaussian_sample


class Codec:
    """As many images at a time as fit into memory, whatever their number.

    model  an ``Autoencoder``; its parameters are those that it has whenever it is asked
    scale  the ``LatentScale`` by which latents are seen from outside; None: as they are
    """

    def __init__(self, model, scale=None):
        self.model, self.scale = model, scale
        self._captured = {}

    def encode(self, images):
        """images (n, H, W, C) uint8 -> moments (n, h, w, 2 Z) float32 of their latents: mean and log variance, this within the
        bounds of ``ops.gaussian_sample``.

        Scaled, those of (z - shift) scale: mean' = (mean - shift) scale and, as a variance goes with the square,
        logvar' = logvar + 2 log scale. Raises ``ValueError`` for a value that is not finite.
        """
        config = self.model.config
        moments = self._of_each("encode", images, config.shape, bytes_to_signed)
        mean, logvar = gaussian_sample.halves(moments)
        logvar = gaussian_sample.clipped(logvar)
        if self.scale:
            shift, scale = self._shift_and_scale()
            mean, logvar = (mean - shift) * scale, logvar + 2 * np.log(scale)
        return np.concatenate([mean, logvar], axis=-1)

    def decode(self, latents):
        """latents (n, h, w, Z) float32 -> images (n, H, W, C) float32 in [-1, 1]. Raises as ``encode``."""
        if self.scale:
            shift, scale = self._shift_and_scale()
            latents = latents / scale + shift
        return self._of_each("decode", latents, self.model.config.latent_shape).clip(*IMAGE_RANGE)

    def _shift_and_scale(self):
        return np.array(self.scale.shift, np.float32), np.array(self.scale.scale, np.float32)

    def _of_each(self, verb, given, shape, prepare=lambda array: array):
        """What ``Autoencoder.encode`` or ``decode`` makes of each of many."""
        self.model.parameters.refresh()  # those of an average change without it
        made = []
        for batch in batches(len(given), self.model.config.shape):
            x, run = self._capture(verb, batch.stop - batch.start, shape)
            x[...] = self.model.backend.asarray(prepare(given[batch]), np.float32)
            made.append(np.array(self.model.backend.to_numpy(run())))  # a copy: the next may overwrite it
            if not np.isfinite(made[-1]).all():
                raise ValueError(f"what the autoencoder makes of items {batch.start} to {batch.stop - 1} is not finite")
        return np.concatenate(made)

    def _capture(self, verb, count, shape):
        """The array that holds so many and the function that encodes or decodes them."""
        if (verb, count) not in self._captured:
            x = self.model.backend.zeros((count, *shape))
            self._captured[verb, count] = x, self.model.backend.capture(lambda: getattr(self.model, verb)(x))
        return self._captured[verb, count]
