"""Warm-up 1: ten thousand points of a mixture of normals, a network that learns them, and four samplers.

What you will see: the points, and beside them what a network of 120,000 parameters draws after half a minute of training,
by DDPM, DDIM, Heun and DPM-Solver++. The four start from the same noise and ask the same network; they differ in how they
walk from noise to data, and in how often they ask.

How good can the network get? Of a mixture the best denoiser is known, E[x0 | x]: no network can have a smaller loss than
that one. The program measures both on the same noisy points. (And what does MMD not see? The gaps between the components,
which the network has not quite emptied: it looks at the whole, with kernels as wide as half the ring.)

    python examples/1_four_samplers.py
"""

import numpy as np
import warm_up

from tinydiff import backends, plot
from tinydiff.data import points2d
from tinydiff.generate import generate
from tinydiff.metrics.mmd import mmd
from tinydiff.model.mlp import MLP, MLPConfig
from tinydiff.noise import predictions, schedules
from tinydiff.samplers import SAMPLERS, finish
from tinydiff.train.fit import fit

STEPS_OF = {"ddpm": 100, "ddim": 25, "heun": 13, "dpm++": 25}  # Heun asks twice a step


def main(out, quick):
    # 1. data, noise, network: all a diffusion model needs
    data = points2d.load("mixture", 10_000)
    schedule = schedules.cosine(200)
    model = MLP(MLPConfig(width=128, layers=3), backends.get("auto"))

    # 2. the network learns to see through every amount of noise
    losses = fit(model, data, schedule, "v", steps=300 if quick else 3000)
    print(f"loss: {losses[:50].mean():.3f} in the first 50 steps, {losses[-50:].mean():.3f} in the last")

    # 3. its loss against the smallest there can be
    ours, best = excess(model, data, schedule)
    print(f"mean squared error of x0: {ours:.4f}, of the exact denoiser {best:.4f}")
    assert best < ours < (1.3 if quick else 1.1) * best

    # 4. the same noise, walked back by each sampler
    figure = plot.Figure(1, 5, width=280, height=290, title="10,000 points, and what a small network makes of noise")
    view = dict(x=(-1.2, 1.2), y=(-1.2, 1.2))
    figure.panel(0, 0, "the data", **view).points(data.images[:3000])
    count = 1000 if quick else 3000
    for column, (name, steps) in enumerate(STEPS_OF.items(), 1):
        states = generate(model, schedule, "v", np.zeros(count, int), sampler=name, steps=steps, clip=None, seed=1)
        samples = model.backend.to_numpy(finish(states))
        result = mmd(samples, data.images)
        print(f"{name:6} MMD^2 {result}")
        figure.panel(0, column, f"{name}, {evaluations(name, steps)} evaluations", **view).points(samples)
        noise = mmd(np.random.default_rng(0).normal(size=(count, 2)), data.images).value
        assert result.value < noise / (20 if quick else 100), "no nearer to the data than noise is"
    figure.save(out)


def excess(model, data, schedule, count=5000):
    """The mean squared error of the network's x0_hat and of the exact one, on the same noisy points of every step."""
    rng = np.random.default_rng(0)
    x0 = data.images[:count].astype(np.float64)
    step = rng.integers(schedule.T, size=count)
    a, s = schedule.signal_rate[step][:, None], schedule.noise_rate[step][:, None]
    x = a * x0 + s * rng.standard_normal(x0.shape)
    v = model.predict(x.astype(np.float32), step.astype(np.float32))
    ours, _ = predictions.split("v", v, x, a, s)
    exact = np.concatenate([points2d.MIXTURE.denoise(x[i : i + 1], a[i, 0], s[i, 0]) for i in range(count)])
    return np.mean((ours - x0) ** 2), np.mean((exact - x0) ** 2)


def evaluations(name, steps):
    return 2 * steps - 1 if SAMPLERS[name].spacing == "karras" else steps


if __name__ == "__main__":
    warm_up.run(main, __doc__, "1_four_samplers.png")
