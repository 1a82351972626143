"""How good the images of trained runs are, beside what a training step and an image cost: a row for each evaluation.

    tinydiff evaluate RUN --guidance 1 --json FILE      # of each run, or checkpoint, in each way to draw
    python benchmarks/bench_quality.py words FILE ...   # a table of TABLES

What the evaluations found is read; steps and images are timed, all in turn, in the precision that is fastest. The minutes
of a run are its steps times the time of one: what it takes where nothing else is done. Those of the autoencoder in whose
latents it is are told beside it.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np

import measure
from tinydiff import backends
from tinydiff.data import captions
from tinydiff.train import Trainer, latents, texts
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.vae_trainer import VAETrainer

TABLES = ("colour", "latents", "words")
IMAGES = 256  # that steps are timed with: more than a batch
TIMED = 16  # images drawn at a time
WAY = ("sampler", "steps", "guidance")  # how they are, as evaluations say it
SHARES = {  # columns, in per cent: where an evaluation has them
    "recognised": ("accuracy", "value"),
    "real recognised": ("accuracy", "test"),
    "digits": ("digits", "value"),
    "real digits": ("digits", "test"),
    "captions": ("captions", "known", "all"),
    "real captions": ("captions", "test", "all"),
    "things": ("captions", "known", "kinds"),
    "in colours": ("captions", "known", "colours"),
    "places": ("captions", "known", "places"),
    "captions of new pairs": ("captions", "new", "all"),
}
DISTANCES = {"FID": ("fid", "value"), "of real images": ("fid", "floor")}


def main():
    parser = measure.arguments(__doc__, repeats=5)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("evaluations", nargs="+", type=Path, help="what tinydiff evaluate --json wrote")
    parser.add_argument("--busy", action="store_true", help="do not wait until the cores have nothing else to do")
    args = parser.parse_args()
    backend = backends.get("auto", "auto")
    trainer_of, images_of = functools.cache(lambda run: make_trainer(run, backend)), functools.cache(drawing)
    autoencoder_of = functools.cache(make_autoencoder_trainer)
    evaluations, timed = [json.loads(path.read_text()) for path in args.evaluations], []
    for evaluation in evaluations:
        trainer, drawn = trainer_of(run_of(evaluation)), evaluation["drawn"]
        work = [trainer.train_step, images_of(trainer, *(drawn[name] for name in WAY))]
        if trainer.autoencoder:
            work.append(autoencoder_of(trainer).train_step)
        timed.append((trainer, work))
    once = {each: each for _, work in timed for each in work}  # however many evaluations share it
    seconds = measure.interleaved(once, args.repeats, on_cpu=not args.busy)
    rows = []
    for evaluation, (trainer, work) in zip(evaluations, timed):
        rows.append(row_of(evaluation, trainer, *(seconds[each] for each in work)))
        print(rows[-1])
    measure.save(args.table, rows, dry_run=args.dry_run, precision=backend.precision)


def run_of(evaluation):
    """The folder of the run whose images were evaluated, at its end or on its way."""
    return checkpoints.run_folder(evaluation["drawn"]["checkpoint"])


def make_trainer(path, backend):
    """A ``Trainer`` like that of a run, at its first step, on few images: scenes with captions, or noise."""
    checkpoint = checkpoints.load(path)
    config, shape = checkpoint.config, checkpoint.image_shape
    if config.text:
        dataset, *_ = captions.load(IMAGES, size=shape[0], cache=False)
    else:
        dataset = measure.noise(IMAGES, shape, max(1, config.model.classes), name=config.data)
    if checkpoint.autoencoder:
        dataset = latents.encode(dataset, checkpoint.autoencoder, backend, flip=config.flip, cache=False)
    if config.text:
        encoder = texts.encoder_of_run(path, checkpoint, backends.get(backend.name))
        dataset = texts.encode(dataset, encoder, cache=False)
    return Trainer(config, dataset, backend)


def make_autoencoder_trainer(trainer):
    """A ``VAETrainer`` like that of the autoencoder in whose latents a trainer works, at its first step, on noise."""
    config = trainer.autoencoder.config
    return VAETrainer(config, measure.noise(IMAGES, config.model.shape, 1, name=config.data), trainer.backend)


def drawing(trainer, *way):
    """A function that draws ``TIMED`` images in a way, the values of ``WAY``, and decodes them."""
    trajectory = trainer.trajectory(TIMED, **dict(zip(WAY, way)))
    labels = np.arange(TIMED) % max(1, trainer.model.classes)
    return lambda: trainer.decode(trainer.backend.to_numpy(trajectory.draw(labels)))


def row_of(evaluation, trainer, step, images, autoencoder_step=()):
    """The row of an evaluation whose training steps and images, and steps of its autoencoder, took so many seconds."""
    drawn, config, (H, W, C) = evaluation["drawn"], trainer.config, trainer.image_shape
    space = "latents, {}x{}x{}".format(*config.model.shape) if trainer.autoencoder else "pixels"
    row = {"run": run_of(evaluation).name, "images": f"{drawn['data']}, {H}x{W}x{C}", "in": space}
    row |= {"channels": str(config.model.channels), "batch": config.batch, "training steps": drawn["training_step"]}
    row |= {"ms a step": measure.short(1e3 * np.median(step))}
    row |= {"minutes": minutes(drawn["training_step"], step)}
    if trainer.autoencoder:
        row |= {"minutes of its autoencoder": minutes(trainer.autoencoder.step, autoencoder_step)}
    row |= {name: drawn[name] for name in (*WAY, "samples")}
    for name, place in SHARES.items():
        if (share := found_at(evaluation, place)) is not None:
            row[f"{name}, %"] = round(100 * share, 1)
    for name, place in DISTANCES.items():
        if (distance := found_at(evaluation, place)) is not None:
            row[name] = measure.short(distance)
    row["ms an image"] = measure.short(1e3 * np.median(images) / TIMED)
    return row


def minutes(steps, step):
    return measure.short(steps * np.median(step) / 60)


def found_at(evaluation, place):
    """What an evaluation has there, or None where it was not measured."""
    for name in place:
        evaluation = evaluation.get(name) if isinstance(evaluation, dict) else None
    return evaluation


if __name__ == "__main__":
    main()
