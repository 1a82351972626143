"""Warm-up 6: why noise prediction, and why not. Three networks learn to predict eps, x0 and v of the same points.

What you will see: the error of each at every noise level, on the left counted in x0, on the right in units of the smallest
there can be, that of the exact denoiser (the same whether one counts in x0, eps or v). Given x, a prediction of one is a
prediction of the others, but the conversion divides:

    x0 = (x - s eps) / a       an eps network's x0 is lost where there is little signal, a -> 0
    eps = (x - a x0) / s       an x0 network's eps is lost where there is little noise, s -> 0
    x0 = a x - s v,  eps = s x + a v       v divides by nothing

Predicting noise is popular because it is precise where the details of a picture are made, at little noise; what it cannot
do is say what an image is at the first step of sampling, where v is at its best.

    python examples/6_predictions.py
"""

import numpy as np
import warm_up

from tinydiff import backends, plot
from tinydiff.data import points2d
from tinydiff.model.mlp import MLP, MLPConfig
from tinydiff.noise import predictions, schedules
from tinydiff.train.fit import fit

SCHEDULE = schedules.cosine(200)
KINDS = ("eps", "x0", "v")
LEVELS = np.array([0, 2, 5, 10, 20, 40, 60, 80, 100, 120, 140, 160, 180, 190, 195, 198])


def main(out, quick):
    data = points2d.load("mixture", 10_000)
    errors = {"best possible": np.array([error_at(None, None, data, step) for step in LEVELS])}
    for kind in KINDS:
        model = MLP(MLPConfig(width=128, layers=3), backends.get("auto"))
        fit(model, data, SCHEDULE, kind, steps=300 if quick else 2000)
        errors[kind] = np.array([error_at(model, kind, data, step) for step in LEVELS])  # (levels, [eps, x0])

    for counted, name in enumerate(("eps", "x0")):
        print(f"mean squared error of {name}, from little noise to much")
        for kind, error in errors.items():
            print(f"  {kind:14}", " ".join(f"{each:8.2g}" for each in error[::3, counted]))

    (eps, x0, v), best = (errors[kind] for kind in KINDS), errors["best possible"]
    assert (eps[:, 0] > 0.9 * best[:, 0]).all(), "nothing beats the exact denoiser"
    assert eps[-1, 1] > 3 * v[-1, 1] and eps[-1, 1] > 3 * x0[-1, 1], "eps: x0 is lost at much noise"
    assert x0[0, 0] > 3 * v[0, 0] and x0[0, 0] > 3 * eps[0, 0], "x0: eps is lost at little noise"
    worst = [np.log(np.maximum(*(error / best).T)).max() for error in (eps, x0, v)]
    print("largest factor above the best possible: eps, x0, v =", " ".join(f"{np.exp(each):.3g}" for each in worst))
    assert worst[2] < worst[0] and worst[2] < worst[1], "v is nowhere far off"

    figure = plot.Figure(1, 2, width=470, height=360, title="the same network, asked for eps, x0 or v")
    axes = dict(x=(0, 200), log_y=True, x_label="noise step")
    absolute = figure.panel(0, 0, "error of x0", y=(1e-4, 1e3), y_label="mean squared error", **axes)
    relative = figure.panel(0, 1, "in units of the best possible", y=(0.8, 300), y_label="times the best", **axes)
    for kind in KINDS:
        absolute.line(LEVELS, errors[kind][:, 1], label=f"predicts {kind}", marks=True)
        relative.line(LEVELS, errors[kind][:, 1] / best[:, 1], label=f"predicts {kind}", marks=True)
    absolute.line(LEVELS, best[:, 1], colour="#222222", label="best possible", width=1)
    relative.level(1)
    figure.save(out)


def error_at(model, kind, data, step, count=4000):
    """The mean squared errors of eps and of x0 at one noise step, of a network or (None) of the exact denoiser."""
    rng, (a, s) = np.random.default_rng(step), SCHEDULE.rates(step)
    x0 = data.images[:count].astype(np.float64)
    eps = rng.standard_normal(x0.shape)
    x = a * x0 + s * eps
    if model is None:
        kind, prediction = "x0", points2d.MIXTURE.denoise(x, a, s)
    else:
        prediction = model.predict(x.astype(np.float32), np.full(count, step, np.float32)).astype(np.float64)
    x0_hat, eps_hat = predictions.split(kind, prediction, x, a, s)
    return np.mean((eps_hat - eps) ** 2), np.mean((x0_hat - x0) ** 2)


if __name__ == "__main__":
    warm_up.run(main, __doc__, "6_predictions.png")
