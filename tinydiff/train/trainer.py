"""A diffusion model in training: what a step computes of images and noise, and the images its average draws."""

from __future__ import annotations

import functools
from typing import NamedTuple

from tinydiff.generate import Trajectory, generate
from tinydiff.model.layers import Dropped
from tinydiff.model.unet import UNet
from tinydiff.noise import schedules
from tinydiff.noise.corrupt import Corruptor
from tinydiff.noise.density import step_quantiles
from tinydiff.ranks import alone
from tinydiff.train.latents import LatentCorruptor, decoder_of
from tinydiff.train.step import Batch, drawn, learn, loss_and_gradients
from tinydiff.train.training import Training


class Metrics(NamedTuple):
    """What one training step reports; the same for the same run, so no clock in it."""

    step: int
    loss: float
    grad_norm: float  # before clipping
    learning_rate: float


class Trainer(Training):
    """The ``Training`` of a U-Net, by a ``TrainConfig``; in the latents of an autoencoder on an ``Encoded`` data set."""

    MODEL, METRICS = UNet, Metrics
    TENSORS = {"x": "the noisy input", "prediction": "the prediction"}

    def __init__(self, config, dataset, backend, *, ranks=alone(), captured=True):
        super().__init__(config, dataset, backend, ranks=ranks, captured=captured)
        self.schedule = schedules.get(config.schedule, config.noise_steps)
        corruptor = Corruptor
        if config.autoencoder:
            if dataset.flip != config.flip:
                raise ValueError(
                    f"flip of the run is {config.flip}, of the latents that it is trained on {dataset.flip}"
                )
            self.autoencoder = dataset.autoencoder
            corruptor = functools.partial(LatentCorruptor, count=config.part)
        if config.text:
            self.model.texts = self.averaged_model.texts = dataset.texts_on(backend)
        self.corrupt = corruptor(self.schedule, config.prediction, config.loss_weight, backend)
        self.step_quantiles = backend.asarray(step_quantiles(config.noise_steps, config.step_power))

    @property
    def tables(self):
        """{name: array} of what a step reads beside the data."""
        texts = self.model.texts._asdict() if self.model.texts else {}
        texts = {f"texts.{name}": array for name, array in texts.items() if array is not None}
        image_of = {} if self.image_of is None else {"image_of": self.image_of}
        return {"step_quantiles": self.step_quantiles, "noise": self.corrupt.table, **image_of, **texts}

    def one_part(self):
        """The gradients of a part, or of an undivided batch. Returns its loss, the noisy input and the prediction."""
        batch = self.drawn()
        loss, prediction = loss_and_gradients(self.model, batch, self.config.parts)
        return {"loss": loss, "x": batch.x, "prediction": prediction}

    def drawn(self):
        """The ``Batch`` of a part, or an undivided one."""
        config = self.config
        return drawn(
            self.model,
            self.optimizer.number,
            self.corrupt,
            self.images,
            self.labels,
            self.step_quantiles,
            self.slot,
            self.feed.place if self.feed else None,
            image_of=self.image_of,
            batch=config.batch,
            label_dropout=config.label_dropout,
            flip=config.flip,
            seed=config.seed,
        )

    def learn(self, x, target, weight, step, labels):
        """What a step does with its batch (``train.step.learn``), which comes from outside."""
        dropped = Dropped(self.config.seed, self.optimizer.number)
        return learn(self.model, self.optimizer, Batch(x, target, weight, step, labels, dropped))

    @property
    def image_shape(self):
        """(H, W, C) of what ``decode`` gives."""
        return (self.autoencoder or self).config.model.shape

    @functools.cached_property
    def decode(self):
        """A function of what it draws, arrays of NumPy -> images (N, H, W, C): what the autoencoder makes of latents, or
        they are images."""
        return decoder_of(self.autoencoder, self.backend)

    def sample(self, labels, **options):
        """The states of drawing these labels with the averaged parameters (see ``generate``)."""
        options = {**self.config.drawing, **options}
        return generate(self.averaged_model, self.schedule, self.config.prediction, labels, **options)

    def trajectory(self, count, **options):
        """A ``Trajectory`` of so many images with the averaged parameters, as they are whenever it draws."""
        options = {**self.config.drawing, **options}
        return Trajectory(self.averaged_model, self.schedule, self.config.prediction, count, **options)
