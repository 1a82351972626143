"""What few steps are worth and cost: how many digits of a teacher and of its students are recognised, their FID, and
milliseconds a digit.

    tinydiff train --preset laptop --data mnist --out TEACHER
    tinydiff distill TEACHER --steps 1 --consistency-steps 0 --keep 5 --checkpoint-every 400 --out HALVED
    tinydiff distill HALVED/checkpoints/step-0000800.safetensors --steps 1 --out CONSISTENT
    python benchmarks/bench_few_steps.py TEACHER HALVED/checkpoints/*.safetensors CONSISTENT --kept DIR

Accuracy and FID are kept in DIR and not measured again; times are, all in turn.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np

import measure
from tinydiff import backends, data
from tinydiff.evaluate import proportional_labels
from tinydiff.generate import Trajectory, draw
from tinydiff.metrics import classifier
from tinydiff.metrics.fid import fid
from tinydiff.model.unet import UNet
from tinydiff.noise import schedules
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.distill_config import DistillConfig

STEPS = (25, 8, 4, 2, 1)  # of a teacher; a student is measured in its own
GUIDANCES = (2, 1)
TIMED = 16  # digits at a time
SEED = 0


def main():
    parser = measure.arguments(__doc__, repeats=5)
    parser.add_argument("teacher", help="its run, or a checkpoint")
    parser.add_argument("students", nargs="*", help="likewise")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--kept", type=Path, required=True, help="a folder for accuracy and FID, not measured again")
    parser.add_argument("--busy", action="store_true", help="do not wait until the cores have nothing else to do")
    args = parser.parse_args()
    backend, judge = backends.get("auto", "auto"), functools.cache(lambda: Judge(args.samples))
    rows, draws = [], {}
    for path in (args.teacher, *args.students):
        for row in ways_of(path):
            trajectory_of = drawing(path, row, backend)
            draws[len(rows)] = functools.partial(trajectory_of(TIMED).draw, np.arange(TIMED) % 10)
            rows.append({**row, **quality(row, args.kept, judge, trajectory_of)})
    seconds = measure.interleaved(draws, args.repeats, on_cpu=not args.busy)
    for i, row in enumerate(rows):
        times = measure.summary(np.array(seconds[i]) / TIMED)
        row |= {f"{name} a digit" if name == "median ms" else name: value for name, value in times.items()}
        print(row)
    measure.save("few_steps", rows, dry_run=args.dry_run, precision=backend.precision)


def ways_of(path):
    """The first columns of the row of each way in which a network is measured."""
    checkpoint = checkpoints.load(path)
    config = checkpoint.config
    if isinstance(config, DistillConfig):
        stage = config.stage_at(checkpoint.step)
        name, ways, told = "consistent" if stage.consistency else "halved", [stage.sampling], True
    else:
        name, ways, told = "teacher", [{"sampler": "ddim", "steps": steps} for steps in STEPS], False
    for way in ways:
        for guidance in GUIDANCES:
            evaluations = way["steps"] * (1 if told or guidance == 1 else 2)
            yield {"network": name, **way, "guidance": guidance, "evaluations": evaluations}


class Judge:
    """Accuracy and FID of MNIST's digits, as ``tinydiff evaluate`` measures them."""

    def __init__(self, samples):
        self.train, test = data.load("mnist"), data.load_test("mnist", count=samples)
        self.labels = proportional_labels(self.train, samples)
        self.held_out = test.images[np.random.default_rng(SEED).permutation(len(test))]
        self.net = classifier.feature_net()

    def columns(self, trajectory_of):
        """Those of digits that a function of their number, count -> ``Trajectory``, draws."""
        images, n = draw(trajectory_of, self.labels, self.train.shape, seed=SEED), len(self.labels)
        accuracy = float(np.mean(classifier.classify(images) == self.labels))
        found = fid(images, self.train.images, self.held_out, self.net)
        error = np.sqrt(accuracy * (1 - accuracy) / n)
        percent = {"recognised, %": round(100 * accuracy, 1), "standard error": round(100 * error, 1)}
        distances = {"FID": measure.short(found.value), "of real digits": measure.short(found.floor)}
        return {"digits": n, **percent, **distances}


def quality(row, kept, judge, trajectory_of):
    """The columns of a row that say how good its digits are: those that are kept in a folder, or what the judge
    finds."""
    path = kept / f"{row['network']}-{row['steps']}-{row['guidance']}.json"
    if not path.exists():
        path.write_text(json.dumps(judge().columns(trajectory_of)))
    return json.loads(path.read_text())


def drawing(path, row, backend):
    """A function of a number of digits: the ``Trajectory`` that draws so many in the way of a row."""
    checkpoint = checkpoints.load(path)
    config, model = checkpoint.config, UNet(checkpoint.config.model, backend)
    model.parameters.load(model.parameters.values, checkpoint.parts["average"])
    way = {name: row[name] for name in ("sampler", "steps", "guidance")}
    schedule = schedules.get(config.schedule, config.noise_steps)
    return functools.cache(lambda count: Trajectory(model, schedule, config.prediction, count, **way))


if __name__ == "__main__":
    main()
