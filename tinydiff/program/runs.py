"""The programs of a run: one evaluation of its network, the drawing of samples, a training step."""

from __future__ import annotations

import numpy as np

from tinydiff.data.dataset import Dataset
from tinydiff.generate import Trajectory
from tinydiff.model.transformer_block import Context
from tinydiff.model.unet import UNet
from tinydiff.noise import schedules
from tinydiff.program.record import record
from tinydiff.program.text import ROUNDED
from tinydiff.train import texts
from tinydiff.train.config import TrainConfig
from tinydiff.train.distill_config import DistillConfig
from tinydiff.train.distiller import Distiller
from tinydiff.train.latents import Encoded
from tinydiff.train.trainer import Trainer
from tinydiff.train.vae_config import VAETrainConfig
from tinydiff.train.vae_trainer import VAETrainer

PLACES = 16  # tokens of a text, where it is not known which


def predict(model, count):
    """The ``Recording`` of one evaluation of a model on so many samples.

    Takes x, step and, with classes, labels, of a student guidance; gives prediction. State: the parameters, under their
    names.
    """
    backend = model.backend
    inputs = {"x": backend.zeros((count, *model.config.shape)), "step": backend.zeros(count)}
    if model.classes:
        inputs["labels"] = backend.zeros(count, np.int64)
    if model.takes_guidance:
        inputs["guidance"] = backend.zeros(count)
    evaluate = lambda: {"prediction": model.predict(**inputs)}
    return record(evaluate, backend, inputs=inputs, state=parameters_of(model.parameters))


def sample(trajectory):
    """The ``Recording`` of a ``Trajectory``: takes labels, sample (the index that each one's noise is drawn for) and
    seed; gives x, finished."""
    state = parameters_of(trajectory.model.parameters)
    draw = lambda: {"x": trajectory.finished()}
    return record(draw, trajectory.model.backend, inputs=trajectory.inputs, state=state)


def train(trainer):
    """The ``Recording`` of a step of a ``Training``: takes number, learning_rate and average_decay; gives what ``one_step``
    does. State: the parameters, their gradients (NAME.grad), their average, both moments, the data. Where a batch is
    computed in parts, it is a step that has one, at the places ``slot``."""
    optimizer, parameters = trainer.optimizer, trainer.parameters
    state = {**parameters_of(parameters), **{f"{each.name}.grad": each.grad for each in parameters}}
    state |= {"parameters": parameters.values, "gradients": parameters.grads, "average": trainer.average}
    state |= {"mean": optimizer.mean, "mean_square": optimizer.mean_square}
    state |= {} if parameters.rounded is None else {"rounded": parameters.rounded}
    state |= {"images": trainer.images, "labels": trainer.labels, **trainer.tables}
    slot = {} if trainer.slot is None else {"slot": trainer.slot}
    return record(trainer.one_step, trainer.backend, inputs=optimizer.each_step | slot, state=state)


def learn(trainer, count):
    """The ``Recording`` of what a step of a ``Trainer`` does with a batch of so many samples, which comes from outside.

    Takes x, target, weight, step and, with classes, labels, as ``Trainer.learn``, and number, learning_rate and
    average_decay; gives loss and norm. State: PART.NAME of every parameter, as in a checkpoint.
    """
    backend, config, optimizer = trainer.backend, trainer.config.model, trainer.optimizer
    batch = {name: backend.zeros((count, *config.shape)) for name in ("x", "target")}
    batch |= {name: backend.zeros(count) for name in ("weight", "step")}
    labels = {"labels": backend.zeros(count, np.int64)} if config.classes else {}
    state = {
        f"{part}.{each.name}": flat[each.span].reshape(each.shape)
        for part, flat in trainer.state().items()
        for each in trainer.parameters
    }

    def step():
        loss, norm, _ = trainer.learn(**batch, labels=labels.get("labels"))
        return {"loss": loss, "norm": norm}

    return record(step, backend, inputs=batch | labels | optimizer.each_step, state=state)


def of_config(config, backend, what, *, count=None, **sampling):
    """One of the three for a ``TrainConfig``, or the training step for a ``VAETrainConfig``, without weights or data.

    what      "predict", "sample" or "train"
    count     of images at a time; of training the batch, which is the config's by default
    sampling  options of ``Trajectory``
    """
    if what == "train":
        return train(without_data(config, backend))
    if not isinstance(config, TrainConfig):
        raise ValueError(f"what must be train for {config.CALLED}, got {what!r}")
    model = UNet(config.model, backend)
    if config.text:
        model.texts = texts.on_backend(_no_texts(config), backend)
    if what == "predict":
        return predict(model, count)
    schedule = schedules.get(config.schedule, config.noise_steps)
    return sample(Trajectory(model, schedule, config.prediction, count, **config.drawing, **sampling))


def without_data(config, backend, count=1):
    """A ``Training`` by a configuration, with so many empty images for data."""
    images, labels = np.zeros((count, *config.model.shape), np.uint8), np.zeros(count, np.int64)
    dataset = Dataset(config.data, images, labels, max(1, getattr(config.model, "classes", 0)))
    if config.autoencoder:
        *hw, Z = config.model.shape
        dataset = Encoded(dataset, np.zeros(((1 + config.flip) * count, *hw, 2 * Z), np.float32), None, config.flip)
    if config.text:
        dataset = texts.Texted(dataset, _no_texts(config))
    return training_of(config)(config, dataset, backend)


def _no_texts(config):
    """The ``Context`` of two texts of ``PLACES`` tokens that say nothing."""
    return Context(np.zeros((2, PLACES, config.model.context_width), np.float32), np.full(2, PLACES))


def training_of(config):
    """The class of ``Training`` by a configuration."""
    return {TrainConfig: Trainer, DistillConfig: Distiller, VAETrainConfig: VAETrainer}[type(config)]


def parameters_of(parameters):
    """{name: value} of all of them, and of those that ops read rounded {NAME.rounded: what they read}."""
    rounded = {f"{each.name}{ROUNDED}": each.operand for each in parameters if each.operand is not each.value}
    return {each.name: each.value for each in parameters} | rounded
