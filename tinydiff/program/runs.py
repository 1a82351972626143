"""The programs of a run: one evaluation of its network, the drawing of samples, a training step."""

from __future__ import annotations

import numpy as np

from tinydiff.data.dataset import Dataset
from tinydiff.generate import Trajectory
from tinydiff.model.unet import UNet
from tinydiff.noise import schedules
from tinydiff.program.record import record
from tinydiff.program.text import ROUNDED
from tinydiff.train.trainer import Trainer


def predict(model, count):
    """The ``Recording`` of one evaluation of a model on so many samples.

    Takes x, step and, with classes, labels; gives prediction. State: the parameters, under their names.
    """
    backend = model.backend
    inputs = {"x": backend.zeros((count, *model.config.shape)), "step": backend.zeros(count)}
    if model.config.classes:
        inputs["labels"] = backend.zeros(count, np.int64)
    evaluate = lambda: {"prediction": model.predict(*inputs.values())}
    return record(evaluate, backend, inputs=inputs, state=parameters_of(model.parameters))


def sample(trajectory):
    """The ``Recording`` of a ``Trajectory``: takes labels, sample (the index that each one's noise is drawn for) and
    seed; gives x, finished."""
    state = parameters_of(trajectory.model.parameters)
    draw = lambda: {"x": trajectory.finished()}
    return record(draw, trajectory.model.backend, inputs=trajectory.inputs, state=state)


def train(trainer):
    """The ``Recording`` of a ``Trainer``'s step: takes number, learning_rate and average_decay; gives loss, norm, x and
    prediction. State: the parameters, their gradients (NAME.grad), their average, both moments, the data. Where a batch is
    computed in parts, it is a step that has one, at the places ``slot``."""
    optimizer, parameters = trainer.optimizer, trainer.parameters
    state = {**parameters_of(parameters), **{f"{each.name}.grad": each.grad for each in parameters}}
    state |= {"parameters": parameters.values, "gradients": parameters.grads, "average": trainer.average}
    state |= {"mean": optimizer.mean, "mean_square": optimizer.mean_square}
    state |= {} if parameters.rounded is None else {"rounded": parameters.rounded}
    state |= {"images": trainer.images, "labels": trainer.labels, "step_quantiles": trainer.step_quantiles}
    state |= {"noise": trainer.corrupt.table}
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
    """One of the three for a ``TrainConfig``, without its weights or data.

    what      "predict", "sample" or "train"
    count     of images at a time; of training the batch, which is the config's by default
    sampling  options of ``Trajectory``
    """
    if what == "train":
        return train(without_data(config, backend))
    model = UNet(config.model, backend)
    if what == "predict":
        return predict(model, count)
    schedule = schedules.get(config.schedule, config.noise_steps)
    return sample(Trajectory(model, schedule, config.prediction, count, **sampling))


def without_data(config, backend, count=1):
    """A ``Trainer`` with so many empty images for data."""
    images = np.zeros((count, *config.model.shape), np.uint8)
    dataset = Dataset(config.data, images, np.zeros(count, np.int64), max(1, config.model.classes))
    return Trainer(config, dataset, backend)


def parameters_of(parameters):
    """{name: value} of all of them, and of those that ops read rounded {NAME.rounded: what they read}."""
    rounded = {f"{each.name}{ROUNDED}": each.operand for each in parameters if each.operand is not each.value}
    return {each.name: each.value for each in parameters} | rounded
