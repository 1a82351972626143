"""Warm-up 3: from betas to alpha_bar. A thousand small steps are one large one, if they are enough.

What you will see: on the left how much signal is left after each step of the linear schedule, by the closed form

    x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps,      alpha_bar_t = prod (1 - beta_i)

as a line, and as dots by taking the steps one by one. At T = 1000 sqrt(alpha_bar) ends at 0.00635: nothing is left.
With the same betas at T = 200 it ends at 0.36: a third of the amplitude is still there. Training goes well; but a sampler
begins at pure noise, which this network was never shown. In the middle and on the right, what comes of that for points
that lie off the centre, as pictures do (the mean pixel of MNIST is -0.74). The denoiser is the exact one, so nothing else
can be at fault: too few points reach the far side. Five times larger betas mend it, as ``schedules.linear`` has them.

    python examples/3_alpha_bar.py
"""

import numpy as np
import warm_up

from tinydiff import plot
from tinydiff.data.points2d import MIXTURE, Mixture
from tinydiff.metrics.mmd import mmd
from tinydiff.noise import schedules
from tinydiff.samplers import ddim, finish


def main(out, quick):
    full = schedules.linear(1000)
    short = schedules.Schedule("linear, not rescaled", np.linspace(1e-4, 0.02, 200))
    mended = schedules.linear(200)
    for name, schedule in (("T = 1000", full), ("T = 200, same betas", short), ("T = 200, rescaled", mended)):
        print(f"{name:20}  sqrt(alpha_bar_T) = {np.sqrt(schedule.alpha_bar[-1]):.5f}")
    assert abs(np.sqrt(full.alpha_bar[-1]) - 0.00635) < 5e-6
    assert np.sqrt(short.alpha_bar[-1]) > 0.3 and np.sqrt(mended.alpha_bar[-1]) < 0.01

    # one by one against the closed form: the same mean, the same variance
    mean, std = one_by_one(full, x0=1.0, count=2000 if quick else 20_000)
    assert np.abs(mean - full.signal_rate).max() < (0.12 if quick else 0.04)
    assert np.abs(std - full.noise_rate).max() < (0.12 if quick else 0.04)

    # from pure noise to data with the exact denoiser of a mixture
    mixture = Mixture(MIXTURE.weights, MIXTURE.means + [1.5, 1.0], MIXTURE.covariances)
    rng, count = np.random.default_rng(1), 500 if quick else 2000
    data, _ = mixture.draw(rng.random((2 * count, 1)), rng.standard_normal((2 * count, 2)))
    noise = rng.standard_normal((count, 2))
    figure = plot.Figure(1, 3, width=360, height=330, title="how much signal is left, and what if it is not nothing")
    panel = figure.panel(
        0,
        0,
        "signal left after a share of all steps",
        x=(0, 1),
        y=(0, 1),
        x_label="step / T",
        y_label="sqrt(alpha_bar)",
    )
    for name, schedule in (("T = 1000", full), ("T = 200, same betas", short), ("T = 200, rescaled", mended)):
        panel.line((np.arange(schedule.T) + 1) / schedule.T, schedule.signal_rate, label=name)
    panel.points(np.stack([(np.arange(1000) + 1) / 1000, mean], axis=1)[::40], colour="#222222", radius=2.5)

    results = []
    for column, (name, schedule) in enumerate((("T = 200, same betas", short), ("T = 200, rescaled", mended)), 1):
        states = ddim(lambda x, step: mixture.denoise(x, *schedule.rates(step)), noise, schedule, schedule.grid(200))
        samples = finish(states)
        results.append(mmd(samples, data))
        print(f"{name:20}  MMD^2 {results[-1]}")
        panel = figure.panel(0, column, name, x=(0.2, 2.8), y=(-0.3, 2.3))
        panel.points(data[:2000], colour="#c8c8c8").points(samples, colour=plot.COLOURS[column])
    wrong, right = results
    assert wrong.value > 3 * wrong.band[1], "beginning from noise the schedule never reaches should show"
    assert right.value < 3 * right.band[1], "with nothing left of the signal, the exact denoiser gives the data"
    figure.save(out)


def one_by_one(schedule, x0, count):
    """Mean and standard deviation of x after each step of x <- sqrt(1 - beta) x + sqrt(beta) eps, from x0."""
    rng, x = np.random.default_rng(0), np.full(count, x0)
    mean, std = np.empty(schedule.T), np.empty(schedule.T)
    for step, beta in enumerate(schedule.beta):
        x = np.sqrt(1 - beta) * x + np.sqrt(beta) * rng.standard_normal(count)
        mean[step], std[step] = x.mean(), x.std()
    return mean, std


if __name__ == "__main__":
    warm_up.run(main, __doc__, "3_alpha_bar.png")
