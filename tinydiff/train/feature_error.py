"""How far images are from others in the eyes of a classifier: what is compared is what its blocks make of both.

    error = mean over blocks of  mean over values of (map(y) - map(x))^2

An error of values likes best what is the mean of all that may be there, so it blurs; a classifier's maps tell edges and
shapes that are there from such as are not. Its weights stay as they are (``metrics.classifier``). Images larger than it
takes are brought to its size, each pixel the mean of k x k, by a convolution whose gradient spreads over them.
Source: Johnson et al., "Perceptual losses for real-time style transfer and super-resolution", 2016, equation 2.
"""

from __future__ import annotations

import functools
import operator
from typing import Any, NamedTuple

import numpy as np

from tinydiff.metrics import classifier
from tinydiff.model.layers import as_activation


class Cache(NamedTuple):
    brought: Any  # that of the images, or None where they have the classifier's size
    blocks: list
    errors: tuple
    dtype: Any  # of the images


class FeatureError:
    """Between images (N, H, W, C) of ``shape``, (H, W, C), on a backend; ``dtype`` float64 where gradients are checked.

    Raises ``ValueError`` for a shape that there is no classifier for.
    """

    def __init__(self, shape, backend, dtype=np.float32):
        kind = classifier.of_shape(shape)
        if kind is None:
            raise ValueError(
                "feature_weight needs images that there is a classifier for, of 28x28x1, or 32x32x3 and multiples of that "
                f"size, got {'x'.join(map(str, shape))}"
            )
        self.backend = backend
        self.classifier = classifier.trained(backend, kind, dtype, frozen=True)
        self.times = shape[0] // kind.config.size  # as high and wide as the classifier's
        self.mean = None
        if self.times > 1:
            mean = np.eye(shape[2]) / self.times**2 * np.ones((self.times, self.times, 1, 1))
            self.mean = backend.asarray(mean, backend.activations or dtype)

    @property
    def arrays(self):
        """{name: array} of all that it reads."""
        named = {f"classifier.{each.name}": each.operand for each in self.classifier.parameters}
        return named if self.mean is None else {**named, "classifier.mean": self.mean}

    def forward(self, y, x):
        """y and x (N, H, W, C) in [-1, 1] -> error (1,), cache."""
        (ours, brought, blocks), (theirs, _, _) = self._maps(y), self._maps(x)
        errors, caches = zip(*(self.backend.mse_loss.forward(*pair) for pair in zip(ours, theirs)))
        total = functools.reduce(operator.add, (each.reshape(1) for each in errors))
        return total / len(errors), Cache(brought, blocks, caches, y.dtype)

    def backward(self, derror, cache):
        """derror, a number -> dy as y; x is what it is."""
        each = derror / len(cache.errors)
        dmaps = [self.backend.mse_loss.backward(each, error, prediction_only=True)[0] for error in cache.errors]
        dx = self.classifier.maps_backward([as_activation(dmap, self.backend) for dmap in dmaps], cache.blocks)
        if cache.brought:
            dx = self.backend.conv2d.backward(dx, cache.brought)[0]
        return dx.astype(cache.dtype, copy=False)

    def _maps(self, images):
        """What each block makes of images, as numbers like theirs; and the caches of bringing them and of the blocks."""
        h, brought = as_activation(images, self.backend), None
        if self.mean is not None:
            h, brought = self.backend.conv2d.forward(h, self.mean, stride=self.times)
        maps, blocks = self.classifier.maps(h)
        return [each.astype(images.dtype, copy=False) for each in maps], brought, blocks
