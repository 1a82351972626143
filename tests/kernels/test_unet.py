"""A whole U-Net on compiled kernels: its gradient, and the loss curve of a training run; in float32 and in bfloat16."""

import dataclasses
import functools

import numpy as np
import pytest

from tests.checks import EPS32, assert_as_good, normal
from tests.kernels.comparison import moved
from tests.kernels.conftest import in_use
from tests.model.checks import OnlyX, randomise
from tests.train import tiny
from tinydiff import backends
from tinydiff.backends.numpy import NumpyBackend
from tinydiff.data.dataset import Dataset
from tinydiff.gradcheck.rounded import RoundedReference
from tinydiff.model.unet import UNet, UNetConfig
from tinydiff.train import Trainer
from tinydiff.train.presets import PRESETS

NUMPY = backends.get("numpy")
STEPS = 10


def gradient(config, backend, dtype, values, x, dy):
    """{name: array} of y, dx and the gradient of every parameter, at these parameters."""
    model = UNet(config, backend, dtype)
    model.parameters.values[...] = values
    model.parameters.refresh()
    only_x = OnlyX(model, x)
    only_x.step = only_x.step.astype(np.float32).astype(dtype)
    y, cache = only_x.forward(x.astype(dtype))
    model.parameters.grads[...] = np.nan
    dx = only_x.backward(dy.astype(dtype), cache)
    return {"y": y, "dx": dx, **{parameter.name: parameter.grad.copy() for parameter in model.parameters}}


MODELS = [
    {},
    {"film": True, "downsample_padding": 0},
    {"channels": (32, 48), "head_width": 16},
    {"classes": 0, "blocks": 2},
]


def rivals_of(run, reference, rng):
    """run(reference, move) where nothing is moved, and parameters are by a little.

    That is 2^-24 in float32. In bfloat16, where 2^-9 is rounded, so little leaves nearly all roundings of a reference as
    they were, and its luck with them too; 2^-12 does not, and changes a result no more than by an eighth of a rounding.
    """
    moves, by = (7, 2.0**-12) if reference.precision == "bf16" else (3, EPS32)
    return [run(reference, lambda x: x), *(run(reference, lambda x: moved(rng, x, by)) for _ in range(moves))]


def check_gradient(kernels, reference, changes, ways, times=12):
    """At every parameter as good as a reference in the same precision."""
    config = UNetConfig(**{**tiny.MODEL, **changes})
    rng = np.random.default_rng(0)
    x, dy = normal(1, 2, 8, 8, 1, dtype=np.float32), normal(2, 2, 8, 8, 1, dtype=np.float32)
    model = UNet(config, NUMPY)
    randomise(model.parameters, 0)
    values = model.parameters.values

    truth = gradient(config, NUMPY, np.float64, values, x, dy)
    at = lambda backend, move: gradient(config, backend, np.float32, move(values), x, dy)
    rivals = rivals_of(at, reference, rng)
    largest = max(np.abs(t).max() for name, t in truth.items() if name not in ("y", "dx"))
    for way, _ in ways:
        actual = gradient(config, kernels.backend, np.float32, values, x, dy)
        for name, t in truth.items():
            # the gradient of a key's bias is zero, of terms about as large as those of other gradients
            entering = largest if name.endswith("to_k.bias") else 0
            others = [rival[name] for rival in rivals]
            assert_as_good(actual[name], t, *others, times=times, entering=entering, name=f"{way}: {name}")


@pytest.mark.parametrize("changes", MODELS, ids=str)
def test_gradient(kernels, changes):
    check_gradient(kernels, NUMPY, changes, kernels.each([2]))


def in_bfloat16(kernels, n):
    """As ``kernels.each``; of the emulator, which takes its time, by itself alone."""
    for way in kernels.ways if kernels.backend.name == "cpu" else [None]:
        kernels.use(way, n)
        yield way, n


@pytest.mark.parametrize("changes", MODELS, ids=str)
def test_gradient_in_bfloat16(kernels_bf16, changes):
    check_gradient(kernels_bf16, RoundedReference(), changes, in_bfloat16(kernels_bf16, 2), times=4)


class InFloat64(NumpyBackend):
    """numpy, which keeps in float64 what a Trainer asks for in float32."""

    def asarray(self, values, dtype=None):
        return super().asarray(values, self._wider(dtype))

    def empty(self, shape, dtype=np.float32):
        return super().empty(shape, self._wider(dtype))

    def zeros(self, shape, dtype=np.float32):
        return super().zeros(shape, self._wider(dtype))

    def _wider(self, dtype):
        return np.float64 if dtype == np.float32 else dtype


def tiny_trainer(backend, **model):
    return Trainer(tiny.trainer(model=model).config, tiny.dataset(), backend)


def laptop_trainer(backend):
    """The laptop's network, on four images a step."""
    config = PRESETS["laptop"].config
    images = normal(0, 8, 28, 28, 1) * 50 + 128
    data = Dataset("noise", images.clip(0, 255).astype(np.uint8), np.arange(8), 10)
    return Trainer(dataclasses.replace(config, data=data.name, batch=4, warmup_steps=2), data, backend)


def curve(backend, trainer_on=tiny_trainer, steps=STEPS, move=lambda x: x):
    """(losses, gradient norms) of a short run."""
    trainer = trainer_on(backend)
    trainer.parameters.values[...] = move(trainer.parameters.values)
    trainer.parameters.refresh()
    metrics = [trainer.train_step() for _ in range(steps)]
    return np.array(
        [[each.loss for each in metrics], [each.grad_norm for each in metrics]], trainer.optimizer.mean.dtype
    )


def check_curve(kernels, reference, ways, trainer_on=tiny_trainer, steps=STEPS, times=12):
    truth = curve(InFloat64(), trainer_on, steps)
    at = lambda backend, move: curve(backend, trainer_on, steps, move)
    rivals = rivals_of(at, reference, np.random.default_rng(0))
    assert truth[0, -1] < truth[0, 0]
    for way, _ in ways:
        actual = curve(kernels.backend, trainer_on, steps)
        for name, a, t, *others in zip(("loss", "norm"), actual, truth, *rivals):
            assert_as_good(a, t, *others, times=times, name=f"{way}: {name}")


def test_loss_curve_in_every_way(kernels):
    check_curve(kernels, NUMPY, kernels.each())


@pytest.mark.parametrize("model", [{"film": True}, {"channels": (16, 32)}], ids=str)
def test_loss_curve(kernels, model):
    """As the backend computes by itself; the gradient of such models is checked in every way."""
    kernels.use(*kernels.before)
    check_curve(kernels, NUMPY, [kernels.before], functools.partial(tiny_trainer, **model))


def test_loss_curve_in_bfloat16(kernels_bf16):
    check_curve(kernels_bf16, RoundedReference(), in_bfloat16(kernels_bf16, 1), times=4)


def test_loss_curve_of_the_laptops_network_in_bfloat16():
    for kernels in in_use("cpu", "bf16"):
        check_curve(kernels, RoundedReference(), in_bfloat16(kernels, 2), laptop_trainer, 4, times=4)


def check_threads(kernels):
    kernels.use(kernels.ways[-1], 1)
    one = curve(kernels.backend)
    kernels.use(kernels.ways[-1], 3)
    assert np.array_equal(curve(kernels.backend), one)


def test_loss_curve_does_not_depend_on_threads(kernels):
    check_threads(kernels)


def test_loss_curve_does_not_depend_on_threads_in_bfloat16():
    for kernels in in_use("cpu", "bf16"):
        check_threads(kernels)
