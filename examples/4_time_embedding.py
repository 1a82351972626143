"""Warm-up 4: a U-Net at one noise level, then at all of them, and the gradient all the way to the noise step.

What you will see: the error of three small U-Nets at every noise level. The first was trained at one level and never told
which: it is good there and nowhere else. The second was trained at all levels, again without being told: it has to guess
how much noise there is. The third is told, by sines and cosines of the step. Beside them, the gradient followed through
that embedding,

    step -> waves -> linear -> SiLU -> linear -> every block of the U-Net -> loss,

by hand and backwards. The step itself is given, not learned, so the library stops at the first linear layer; here it is taken
one link further, to dloss/dstep, and compared with what the loss does when the step is moved a little.

    python examples/4_time_embedding.py
"""

import numpy as np
import warm_up

from tinydiff import backends, data, plot
from tinydiff.data import bytes_to_signed
from tinydiff.gradcheck import check_adjoint
from tinydiff.model.unet import UNet, UNetConfig
from tinydiff.noise import schedules
from tinydiff.ops import timestep_embedding
from tinydiff.train.fit import fit

CONFIG = UNetConfig(size=14, channels=(8, 16), blocks=1, groups=4, classes=0)
SCHEDULE = schedules.cosine(200)
ONE_STEP = 80  # the level the first network is trained at


class Untold:
    """A U-Net that is always told the same step: no time conditioning."""

    def __init__(self, model):
        self.model, self.config = model, model.config
        self.backend, self.parameters, self.classes = model.backend, model.parameters, model.classes

    def forward(self, x, step, labels=None):
        return self.model.forward(x, 0 * step, labels)

    def backward(self, dy, cache):
        return self.model.backward(dy, cache)


def main(out, quick):
    digits = warm_up.halved(data.load("auto"))
    backend, how = backends.get("auto"), dict(steps=100, batch=32) if quick else dict(steps=600, batch=64)

    networks = {
        f"one level, step {ONE_STEP}": (Untold(UNet(CONFIG, backend)), dict(only_step=ONE_STEP)),
        "all levels, not told which": (Untold(UNet(CONFIG, backend)), {}),
        "all levels, told the step": (UNet(CONFIG, backend), {}),
    }
    levels = np.array([5, 20, 40, 60, 80, 100, 120, 140, 160, 180, 195])
    errors = {}
    for name, (model, options) in networks.items():
        fit(model, digits, SCHEDULE, "eps", **how, **options)
        errors[name] = np.array([error_at(model, digits, step) for step in levels])
        print(f"{name:28}", " ".join(f"{error:.3f}" for error in errors[name]))
    one, untold, told = errors.values()
    assert one[levels == ONE_STEP] < 1.5 * told[levels == ONE_STEP], "at its own level it is as good as any"
    assert one[0] > 1.5 * told[0] and one[-1] > 1.5 * told[-1], "and elsewhere it is not"
    assert np.mean(np.log(told)) < np.mean(np.log(untold)), "to be told the step helps"

    ours, measured, norms = gradient_of_the_step()
    print(f"dloss/dstep: by hand {ours:.9e}, by moving the step {measured:.9e}")
    assert abs(ours - measured) < 1e-6 * abs(measured)

    figure = plot.Figure(1, 2, width=470, height=360, title="who knows how much noise there is?")
    axes = dict(x=(0, 200), y=(0.01, 30), log_y=True, x_label="noise step", y_label="mean squared error of eps")
    panel = figure.panel(0, 0, "loss at every noise level", **axes)
    for name, error in errors.items():
        panel.line(levels, error, label=name, marks=True)
    axes = dict(x=(-0.5, len(norms) - 0.5), y=(min(norms.values()) / 3, 3 * max(norms.values())), log_y=True)
    panel = figure.panel(
        0, 1, "size of the gradient, from the blocks back to the step", x_names=list(enumerate(norms)), **axes
    )
    panel.columns(norms.values())
    figure.save(out)


def error_at(model, digits, step, count=200):
    """The mean squared error of eps at one noise step."""
    rng, (a, s) = np.random.default_rng(step), SCHEDULE.rates(step)
    x0 = bytes_to_signed(digits.images[-count:])
    eps = rng.standard_normal(x0.shape, dtype=np.float32)
    eps_hat, _ = model.forward(np.float32(a) * x0 + np.float32(s) * eps, np.full(count, step, np.float32))
    return np.mean((eps_hat - eps) ** 2)


def gradient_of_the_step():
    """dloss/dstep of one image by hand and by central differences, and the size of each gradient on the way."""
    model = UNet(CONFIG, backends.get("numpy"), np.float64)
    model.parameters.initialise(0)
    rng = np.random.default_rng(0)
    model.parameters.values += 0.05 * rng.standard_normal(
        model.parameters.count
    )  # what begins at zero passes nothing on
    x, step = rng.standard_normal((1, *CONFIG.shape)), np.array([37.0])
    embedding = model.embedding
    norms = {}

    def forward():
        return model.forward(x, step)

    def backward(dy, cache):
        # the library's backward goes as far as the parameters of the embedding; this is its last stretch again, plus one
        reached = {}
        through_linear_1 = embedding.linear_1.backward

        def and_on(dh, linear_1):
            reached["dwaves"] = through_linear_1(dh, linear_1)
            return reached["dwaves"]

        embedding.linear_1.backward = and_on
        model.backward(dy, cache)
        embedding.linear_1.backward = through_linear_1

        # waves = [sin(step f), cos(step f)], so dwaves/dstep = [f cos(step f), -f sin(step f)]
        dwaves = reached["dwaves"]
        sin, cos = np.split(timestep_embedding.forward(step, width=embedding.S), 2, axis=1)
        half = embedding.S // 2
        f = 10000.0 ** (-np.arange(half) / half)
        dstep = (dwaves * np.concatenate([f * cos, -f * sin], axis=1)).sum(axis=1)
        named = {name: model.parameters[f"time_embedding.{name}.weight"].grad for name in ("linear_2", "linear_1")}
        for name, gradient in (*named.items(), ("waves", dwaves), ("step", dstep)):
            norms[name] = float(np.sqrt(np.sum(gradient**2)))
        return (dstep,)

    check_adjoint(forward, backward, {"step": step})  # with a random dy, as for everything in this library

    def loss(at):
        return float(np.sum(model.forward(x, np.array([at]))[0]))

    h = 1e-4
    y, cache = forward()
    [dstep] = backward(np.ones_like(y), cache)
    return float(dstep[0]), (loss(37.0 + h) - loss(37.0 - h)) / (2 * h), norms


if __name__ == "__main__":
    warm_up.run(main, __doc__, "4_time_embedding.png")
