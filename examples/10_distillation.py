"""Warm-up 10: distillation. A student that does in one step what its teacher does in two, and its student, and so on.

What you will see: points in the plane, and the ways on which DDIM takes noise there. The teacher's, in 32 steps, are
curved: at first it guesses the middle of all data, and turns to one of the six clusters late. Each student begins as a
copy of its teacher and learns where two steps of it end,

    target = share x0_1 + (1 - share) x0_2,

a mean of its two guesses of the clean point (tinydiff/noise/distillation.py says why). From 32 steps over 16, 8, 4 and
2 to one the ways straighten: a student goes along chords of its teacher's way, past fewer and fewer of its places, and
ends where that ends. The teacher itself, told to take so few steps, ends elsewhere.

On the right, one step: where it tears. Noise on one side of a border goes to one cluster, noise on the other side to
the next, and a way of many steps decides as it goes. A single step is a single evaluation, which is smooth: what
starts near a border is stretched over the gap between clusters, where no data are.

    python examples/10_distillation.py
"""

import copy

import numpy as np
import warm_up

from tinydiff import backends, plot
from tinydiff.data import points2d
from tinydiff.model.mlp import MLP, MLPConfig
from tinydiff.noise import schedules
from tinydiff.noise.distillation import Lessons, halving, lesson
from tinydiff.noise.predictions import denoiser
from tinydiff.samplers import ddim
from tinydiff.train.adamw import AdamW
from tinydiff.train.fit import fit
from tinydiff.train.step import Batch, learn

SCHEDULE, KIND = schedules.cosine(128), "v"
TEACHER_STEPS, BATCH = 32, 512
SHOWN = (32, 4, 1)  # numbers of steps whose ways are drawn


def main(out, quick):
    data, rng = points2d.load("mixture", 20_000), np.random.default_rng(0)
    model = MLP(MLPConfig(width=64), backends.get("auto"))
    fit(model, data, SCHEDULE, KIND, steps=1000 if quick else 2000, batch=BATCH)
    models = {TEACHER_STEPS: model}
    for steps in (16, 8, 4, 2, 1):
        models[steps] = student_of(models[2 * steps], steps, data.images, 250 if quick else 500, rng)

    start = rng.standard_normal((2000, 2)).astype(np.float32)
    ways = {steps: way(model, start, steps) for steps, model in models.items()}
    ends = {steps: states[-1].x for steps, states in ways.items()}
    by_teacher = {steps: way(models[TEACHER_STEPS], start, steps)[-1].x for steps in models}
    off = {steps: rms(ends[steps] - ends[TEACHER_STEPS]) for steps in models}
    off_by_teacher = {steps: rms(by_teacher[steps] - ends[TEACHER_STEPS]) for steps in models}
    detour = {
        steps: length([state.x for state in states]) / length([start, ends[steps]]) for steps, states in ways.items()
    }
    lost = {steps: is_lost(each) for steps, each in ends.items()}
    heads = "off the teacher's end", "the teacher in so few", "length / distance", "between clusters"
    print("steps", *(f"{head:>22}" for head in heads))
    for steps in models:
        numbers = off[steps], off_by_teacher[steps], detour[steps]
        print(f"{steps:5}", *(f"{number:22.3f}" for number in numbers), f"{lost[steps].mean():22.1%}")

    for steps in (8, 4, 2, 1):
        assert off[steps] < 0.6 * off_by_teacher[steps], (
            "a student ends where its teacher does, who in so few steps does not"
        )
    assert detour[32] > detour[8] > detour[4] > detour[2] > detour[1] == 1, (
        "the fewer the steps, the straighter the way"
    )
    assert lost[1].mean() > 1.5 * lost[4].mean(), "one step lets points fall between the clusters"
    border = near_a_border(start, nearest(ends[TEACHER_STEPS]))
    print(f"near a border: {border.mean():.1%} of all, {border[lost[1]].mean():.1%} of those that one step loses")
    assert border[lost[1]].mean() > 1.8 * border.mean(), "those that start where the teacher's ways part"

    figure = plot.Figure(
        1, 4, width=330, height=340, title="from noise (grey) to data: the fewer steps, the straighter"
    )
    axes = dict(x=(-2, 2), y=(-2, 2))
    for column, steps in enumerate(SHOWN):
        panel = figure.panel(0, column, f"{steps} step{'s' * (steps > 1)}", **axes)
        panel.points(data.images[:1500], colour="#d8d8d8")
        for i in range(40):
            panel.line(
                *np.array([state.x[i] for state in ways[steps]]).T, colour=plot.COLOURS[nearest(ends[32])[i]], width=1
            )
        panel.points(start[:40], colour="#888888", radius=2).points(ends[steps][:40], colour=plot.INK, radius=2.5)
    panel = figure.panel(0, 3, "where one step tears", **axes)
    for k in range(len(points2d.MIXTURE.weights)):
        panel.points(ends[1][nearest(ends[32]) == k], colour=plot.COLOURS[k], radius=1.2)
    panel.points(start[lost[1]], colour="#aaaaaa", radius=1.2).points(ends[1][lost[1]], colour=plot.INK, radius=1.2)
    figure.save(out)


def student_of(teacher, steps, points, count, rng):
    """A copy of an MLP that has learned, in ``count`` training steps, to draw in so many steps as it draws in twice as
    many."""
    lessons, student = halving(SCHEDULE, KIND, steps), copy.deepcopy(teacher)
    optimizer = AdamW(student.parameters, average_decay=0.99)
    for i in range(count):
        which = rng.integers(steps, size=BATCH)
        at = Lessons(*(each[which, None].astype(np.float32) for each in lessons))
        a, s = (rates[at.step.astype(int)].astype(np.float32) for rates in (SCHEDULE.signal_rate, SCHEDULE.noise_rate))
        x = a * points[rng.integers(len(points), size=BATCH)] + s * rng.standard_normal((BATCH, 2), dtype=np.float32)
        first, second = (lambda x, step=step: teacher.predict(x, step[:, 0].copy()) for step in (at.step, at.middle))
        target = lesson(first, second, x, at)
        optimizer.prepare(i + 1, 1e-3 * (1 - i / count))
        learn(student, optimizer, Batch(x, target, None, at.step[:, 0].copy(), None))
    optimizer.keep_average()
    return student


def way(model, start, steps):
    """The states of DDIM in so many steps."""
    predict = lambda x, step: model.predict(x, np.full(len(x), step, np.float32))
    return list(ddim(denoiser(predict, SCHEDULE, KIND), start, SCHEDULE, SCHEDULE.grid(steps)))


def length(places):
    """The mean length of ways through so many places (n, 2)."""
    return float(np.linalg.norm(np.diff(places, axis=0), axis=2).sum(axis=0).mean())


def rms(difference):
    return float(np.sqrt(np.mean(np.square(difference))))


def is_lost(x):
    """Whether each point lies where the data's density is below that of all but 1 % of the data."""
    real = points2d.MIXTURE.log_density(points2d.load("mixture", 5000, seed=1).images)
    return points2d.MIXTURE.log_density(x) < np.quantile(real, 0.01)


def nearest(x):
    """The cluster nearest to each point."""
    return np.linalg.norm(x[:, None] - points2d.MIXTURE.means, axis=2).argmin(axis=1)


def near_a_border(start, cluster):
    """Whether among the five nearest to each point there is one that goes to another cluster."""
    neighbours = np.linalg.norm(start[:, None] - start, axis=2).argsort(axis=1)[:, 1:6]
    return (cluster[neighbours] != cluster[:, None]).any(axis=1)


if __name__ == "__main__":
    warm_up.run(main, __doc__, "10_distillation.png")
