"""An autoencoder in training.

    loss = error + kl_weight divergence + feature_weight error_of_features

The error is the mean over the values of images, the divergence (``ops.gaussian_kl``) that over the values of latents,
and so is that of features (``feature_error``), of those of a classifier: none depends on the size of image or batch. The
weight of the divergence is small: what is wanted is not that latents are normal, only that they lie close together
around zero and that near ones mean similar images. That of features is 0 unless one is asked for.
Source: Kingma and Welling, "Auto-encoding variational Bayes", 2014; Rombach et al., "High-resolution image synthesis with
latent diffusion models", 2022, appendix G, without their discriminator.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.model.autoencoder import Autoencoder
from tinydiff.ranks import alone
from tinydiff.train.codec import Codec
from tinydiff.train.feature_error import FeatureError
from tinydiff.train.training import Training
from tinydiff.train.vae_config import ERRORS

AS_THEY_ARE = (1.0, 0.0, 1.0, 0.0, 1.0)  # a noise step for ``corrupt``: all of the image, no noise, weight 1


class Metrics(NamedTuple):
    """What one training step reports; the same for the same run, so no clock in it."""

    step: int
    loss: float
    reconstruction: float  # the error of one value of an image
    kl: float  # the divergence of one latent value, in nats
    grad_norm: float  # before clipping
    learning_rate: float
    features: float = 0.0  # the error of a classifier's, where it counts


class VAETrainer(Training):
    """The ``Training`` of an autoencoder, by a ``VAETrainConfig``.

    scale  the ``LatentScale`` of what it has learned, once it has been measured: until the next step
    """

    MODEL, METRICS = Autoencoder, Metrics
    NUMBERS = ("reconstruction", "kl")
    TENSORS = {"moments": "the moments of the latents", "y": "the reconstruction"}

    def __init__(self, config, dataset, backend, *, ranks=alone(), captured=True):
        super().__init__(config, dataset, backend, ranks=ranks, captured=captured)
        self.feature_error = None
        if config.feature_weight:
            self.feature_error = FeatureError(config.model.shape, backend)
            self.NUMBERS = (*self.NUMBERS, "features")
            self.frozen = {"classifier": self.feature_error.classifier.parameters}
        self.table = backend.asarray(np.array([AS_THEY_ARE], np.float32))
        self.places = backend.asarray(np.arange(config.batch)) if self.slot is None else self.slot
        self.codec = Codec(self.averaged_model)
        self.scale = None

    @property
    def tables(self):
        """{name: array} of what a step reads beside the data."""
        features = self.feature_error.arrays if self.feature_error else {}
        return {"noise": self.table, **features} | ({"places": self.places} if self.slot is None else {})

    def one_part(self):
        """The gradients of a part, or of an undivided batch. Returns its errors and divergence, moments and
        reconstruction."""
        config, backend, number = self.config, self.backend, self.optimizer.number
        index, step, _ = backend.draw_batch.forward(
            self.labels, number, batch=config.batch, noise_steps=1, classes=0, dropout=0.0, seed=config.seed
        )
        if self.slot is not None:
            index, step = backend.take(index, self.slot), backend.take(step, self.slot)
        place = self.feed.place if self.feed else index
        options = dict(seed=config.seed, flip=config.flip)
        x, _, _ = backend.corrupt.forward(self.images, place, step, self.table, number, self.slot, **options)
        shape = config.model.latent_shape
        eps = backend.philox.forward(config.seed, "latent", self.places, number, shape, kind="normal")
        return self.learn(x, eps)

    def learn(self, x, eps):
        """x (N, H, W, C) in [-1, 1], eps (N, h, w, Z) standard normal: leaves the gradients of their loss, divided by the
        parts of a batch, in the model. Returns what ``one_part`` does."""
        config, backend, parts, features = self.config, self.backend, self.config.parts, {}
        y, cache = self.model.forward(x, eps)
        moments = cache.moments
        error = getattr(backend, ERRORS[config.reconstruction])
        reconstruction, error_cache = error.forward(y, x)
        kl, kl_cache = backend.gaussian_kl.forward(moments)
        dy, _, _ = error.backward(1.0 / parts, error_cache, prediction_only=True)
        if self.feature_error:
            features["features"], feature_cache = self.feature_error.forward(y, x)
            dy = dy + self.feature_error.backward(config.feature_weight / parts, feature_cache)
        dmoments = backend.gaussian_kl.backward(config.kl_weight / parts, kl_cache)
        self.model.backward(dy, cache, add=dmoments, image_only=True)
        return {"reconstruction": reconstruction, "kl": kl, **features, "moments": moments, "y": y}

    def train_step(self):
        self.scale = None
        return super().train_step()

    def _numbers(self, made):
        config, numbers = self.config, super()._numbers(made)
        loss = numbers["reconstruction"] + config.kl_weight * numbers["kl"]
        return {"loss": loss + config.feature_weight * numbers.get("features", 0.0), **numbers}

    def reconstruct(self, images):
        """images (n, H, W, C) uint8 -> what the averaged parameters make of their most likely latents, float32 in
        [-1, 1]."""
        return self.codec.decode(self.codec.encode(images)[..., : self.config.model.latent_channels])

    def checkpoint(self):
        return super().checkpoint()._replace(scale=self.scale)

    def restore(self, checkpoint):
        super().restore(checkpoint)
        self.scale = checkpoint.scale  # of the average, which a restart leaves as it is
