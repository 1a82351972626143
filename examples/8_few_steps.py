"""Warm-up 8: few steps. What quality costs, in evaluations of the network.

What you will see: how far from the data the four samplers stay when they may ask the network only 3, 5, 9, 17, 33 or 65
times (times, not steps: Heun asks twice a step). On the left points in the plane, with the exact denoiser, so that the
sampler alone is at fault, measured by MMD; on the right digits, with a network trained on the spot, measured by FID. The thin
lines are the floors: what real data among themselves give.

On the points DPM-Solver++, of second order, is ahead of DDIM, of first, and DDIM of DDPM, which spends what it has on fresh
noise. Heun is of second order too, but its grid begins at sigma = 80 whatever the data: with few steps it wastes them where
nothing happens, with 33 evaluations it is as good as any. On the digits the three that follow one path agree in the end, and
what is left is the network's error; there fresh noise pays, because it washes away what the network got wrong.

    python examples/8_few_steps.py
"""

import numpy as np
import warm_up

from tinydiff import plot
from tinydiff.data import points2d
from tinydiff.metrics.fid import fid
from tinydiff.metrics.mmd import mmd
from tinydiff.noise import schedules
from tinydiff.samplers import SAMPLERS, finish

NAMES = ("ddpm", "ddim", "heun", "dpm++")
BUDGETS = (3, 5, 9, 17, 33, 65)  # odd: what Heun can spend in full


def main(out, quick):
    points, points_floor = on_points(BUDGETS, 500 if quick else 2000)
    digits, digits_floor = on_digits((5, 33) if quick else BUDGETS[1:5], 100 if quick else 200, quick)
    for title, results, floor in (("MMD^2 of points", points, points_floor), ("FID of digits", digits, digits_floor)):
        print(f"{title}; floor {floor:.2g}")
        for name, values in results.items():
            print(f"  {name:6}", "  ".join(f"{asked}: {value:.3g}" for asked, value in values.items()))

    few, many = ({name: values[budget] for name, values in points.items()} for budget in (5, 65))
    assert few["dpm++"] < few["ddim"] < few["ddpm"], "second order before first, first before noise"
    assert few["heun"] > 10 * few["ddpm"], "but not on a grid that is mostly elsewhere"
    assert max(many.values()) < 2 * points_floor, "in the end all arrive"
    few, many = ({name: values[budget] for name, values in digits.items()} for budget in (5, 33))
    assert few["heun"] > 1.5 * max(value for name, value in few.items() if name != "heun"), "the same on digits"
    same_path = [many[name] for name in ("ddim", "heun", "dpm++")]
    assert max(same_path) < 1.25 * min(same_path), "where the three that follow one path agree"
    assert many["ddpm"] < min(same_path), "and fresh noise washes errors of the network away"

    figure = plot.Figure(1, 2, width=470, height=360, title="quality against evaluations of the network")
    for column, (title, results, floor) in enumerate(
        (
            ("points: MMD^2, exact denoiser", points, points_floor),
            ("digits: FID, trained network", digits, digits_floor),
        )
    ):
        highest = max(max(values.values()) for values in results.values())
        axes = dict(
            x=(2.5, 80), y=(floor / 2, 8 * highest), log_x=True, log_y=True, x_label="evaluations of the network"
        )
        panel = figure.panel(0, column, title, **axes)
        for name, values in results.items():
            panel.line(list(values), np.maximum(list(values.values()), floor / 2), label=name, marks=True)
        panel.level(floor)
    figure.save(out)


def steps_for(name, evaluations):
    return (evaluations + 1) // 2 if name == "heun" else evaluations


def on_points(budgets, count):
    """{sampler: {evaluations: MMD^2}} with the exact denoiser, and the upper end of the floor's band."""
    schedule, data = schedules.cosine(200), points2d.load("mixture", 2 * count).images
    rng, results = np.random.default_rng(0), {}
    start = rng.standard_normal((count, 2))
    for name, (run, spacing) in ((name, SAMPLERS[name]) for name in NAMES):
        results[name] = {}
        for budget in budgets:
            asked = 0

            def denoise(x, step):
                nonlocal asked
                asked += 1
                return points2d.MIXTURE.denoise(x, *schedule.rates(step))

            grid = schedule.grid(steps_for(name, budget), spacing)
            samples = finish(run(denoise, start, schedule, grid, noise=lambda i: rng.standard_normal(start.shape)))
            assert asked == budget, f"{name} asked {asked} times"
            result = mmd(samples, data)
            results[name][budget] = result.value
    return results, result.band[1]


def on_digits(budgets, count, quick):
    """{sampler: {evaluations: FID}} with a network trained on the spot, and the floor."""
    digits = warm_up.Digits(quick)
    labels, net, results = np.arange(count) % 10, warm_up.feature_net(), {}
    real = digits.data.images[: 5000 if quick else None]
    for name in NAMES:
        results[name] = {}
        for budget in budgets:
            samples = digits.draw(labels, sampler=name, steps=steps_for(name, budget), guidance=1)
            result = fid(samples, real, digits.test.images, net)
            results[name][budget] = result.value
    print(f"FID of the last: {result}")
    return results, result.floor


if __name__ == "__main__":
    warm_up.run(main, __doc__, "8_few_steps.png")
