"""The command line: ``tinydiff train | sample | evaluate | gradcheck | program | export | import | info``."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import os
import platform
import shlex
import signal
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import trange

from tinydiff import __version__, backends, data, pictures, report
from tinydiff.data import mnist
from tinydiff.evaluate import TITLES, measure, proportional_labels
from tinydiff.files import write_atomically
from tinydiff.generate import Trajectory
from tinydiff.gradcheck import command as gradcheck
from tinydiff.interop import command as interop
from tinydiff.model.unet import UNet
from tinydiff.noise import schedules
from tinydiff.program import command as program
from tinydiff.samplers import SAMPLERS
from tinydiff.samplers.ddpm import VARIANCES
from tinydiff.train import NonFinite, Trainer, run
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.presets import PRESETS
from tinydiff.train.trainer import expect_fits

BAD_INPUT = 2  # exit status
SAMPLE_BATCH = 50  # images drawn at a time


def main(argv=None):
    """Entry point of the ``tinydiff`` command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="tinydiff", description="Diffusion without autograd: train on images, draw new ones."
    )
    parser.add_argument("--version", action="version", version=f"tinydiff {__version__}")
    names = "train | sample | evaluate | gradcheck | program | export | import | info"
    commands = parser.add_subparsers(required=True, metavar=names)

    command = commands.add_parser("train", help="train a model")
    add_train_arguments(command)
    command.set_defaults(function=train)

    command = commands.add_parser("sample", help="draw images with a trained model")
    add_sample_arguments(command)
    command.set_defaults(function=sample)

    command = commands.add_parser("evaluate", help="measure how good a trained model's images are")
    add_evaluate_arguments(command)
    command.set_defaults(function=evaluate)

    command = commands.add_parser("gradcheck", help="check every gradient, or explain one")
    gradcheck.add_arguments(command, backends.NAMES[1:])
    command.set_defaults(function=gradcheck.run)

    command = commands.add_parser("program", help="print what a run computes, call by call, and what memory it needs")
    program.add_arguments(command)
    command.set_defaults(function=program.run)

    command = commands.add_parser("export", help="write a trained model for diffusers, as ONNX or for a web page")
    interop.add_export_arguments(command)
    command.set_defaults(function=interop.run_export)

    command = commands.add_parser("import", help="read a folder of diffusers' as a checkpoint")
    interop.add_import_arguments(command)
    command.set_defaults(function=interop.run_import)

    command = commands.add_parser("info", help="what this installation can do here")
    command.add_argument("run", nargs="?", help="also what this run, or checkpoint, needs of memory")
    command.set_defaults(function=info)

    args = parser.parse_args(argv)
    return call(args.function, args)


def call(function, args):
    """Run a command so that bad input and a full disk end in one line, and return the exit status.

    ``TINYDIFF_TRACEBACK=1`` in the environment shows the traceback instead.
    """
    try:
        # values that are not finite end in an error where they matter; NumPy's warnings would only blur it
        with np.errstate(all="ignore"):
            return function(args) or 0
    except KeyboardInterrupt:
        print("tinydiff: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except (ValueError, OSError, NonFinite, MemoryError) as error:
        if os.environ.get("TINYDIFF_TRACEBACK"):
            raise
        reason = str(error)
        if isinstance(error, OSError) and error.strerror:
            reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        print(f"tinydiff: {' '.join(reason.split()) or type(error).__name__}", file=sys.stderr)
        return BAD_INPUT


def add_backend_arguments(parser):
    """Where to compute, and in which precision."""
    parser.add_argument("--backend", choices=backends.NAMES, default="auto")
    parser.add_argument(
        "--precision",
        choices=backends.PRECISIONS,
        default="fp32",
        help="of activations; bf16, on tensor cores, with --backend cuda (default %(default)s)",
    )


def add_train_arguments(parser):
    """The arguments of ``train``."""
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="laptop",
        help="a ready-made run (default %(default)s); with --resume only how samples are drawn at the end",
    )
    parser.add_argument("--data", choices=data.NAMES, default="auto", help="the data set; auto: MNIST if it can be had")
    parser.add_argument("--data-dir", metavar="DIR", help="where its files are; with --data folder the images")
    parser.add_argument(
        "--image-size", type=_at_least(1), metavar="PIXELS", help="with --data folder: crop and resize all to this"
    )
    parser.add_argument(
        "--skip-unreadable", action="store_true", help="with --data folder: go on without files that cannot be read"
    )
    parser.add_argument("--out", metavar="DIR", help="folder of the run (default runs/DATA-PRESET)")
    parser.add_argument("--resume", metavar="PATH", help="go on with a run: its folder, or one of its checkpoints")
    add_backend_arguments(parser)
    parser.add_argument("--minutes", type=float, help="stop after so long; the run can be resumed")
    parser.add_argument("--checkpoint-every", type=_at_least(1), default=250, metavar="STEPS")
    parser.add_argument(
        "--sample-every", type=_at_least(0), default=250, metavar="STEPS", help="0: no pictures on the way"
    )
    parser.add_argument("--keep", type=_at_least(1), default=3, metavar="K", help="how many checkpoints to keep")
    for flag, (kind, text) in {**RUN_OVERRIDES, **MODEL_OVERRIDES}.items():
        parser.add_argument(f"--{flag}", type=kind, help=text, metavar=kind.__name__.upper())


def widths(text):
    return tuple(int(each) for each in text.split(","))


def switch(text):
    if text not in ("on", "off"):
        raise ValueError(text)
    return text == "on"


RUN_OVERRIDES = {
    "steps": (int, "training steps"),
    "batch": (int, "images a step"),
    "learning-rate": (float, "its peak"),
    "warmup-steps": (int, "steps over which the learning rate rises"),
    "decay": (str, "of the learning rate after that: cosine or constant"),
    "weight-decay": (float, "AdamW's decoupled decay"),
    "clip": (float, "limit of the gradient's norm"),
    "average-decay": (float, "of the averaged parameters"),
    "label-dropout": (float, "how often to train without the label"),
    "schedule": (str, "noise schedule: linear or cosine"),
    "noise-steps": (int, "T, the number of noise steps"),
    "prediction": (str, "what the network predicts: eps, x0 or v"),
    "loss-weight": (str, "simple or min_snr"),
    "step-power": (float, "1 meets every noise step as often, more favours high noise"),
    "seed": (int, "of everything random"),
}
MODEL_OVERRIDES = {
    "channels": (widths, "width of each level, as 16,32,64"),
    "blocks": (int, "residual blocks a level"),
    "attention-levels": (widths, "levels with attention, as 1,2; -1 is the lowest"),
    "head-width": (int, "of attention"),
    "film": (switch, "on: the step scales and shifts instead of shifting alone"),
    "groups": (int, "groups of the group norms"),
    "positions": (int, "waves along each axis that tell the network where it is"),
}


def train(args):
    """Train a model and leave samples, a denoising animation and the loss curve in the run's folder."""
    backend = backends.get(args.backend, args.precision)
    overrides = _given(args, RUN_OVERRIDES), _given(args, MODEL_OVERRIDES)
    if args.resume:
        if args.out:
            raise ValueError("out goes with a new run; a resumed one goes on in its own folder")
        path = checkpoints.find(args.resume)
        saved = checkpoints.saved(path.parent)
        if path in saved[:-1]:
            raise ValueError(f"{path} is older than {saved[-1]}; copy it to a new folder to go on from it there")
        checkpoint = checkpoints.load(path)
        config = checkpoint.config
        _expect_same(path, config, *overrides)
        dataset = load_data(args, config.data, args.image_size or size_of_folder(config))
        trainer = Trainer(config, dataset, backend)
        trainer.restore(checkpoint)
        folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    else:
        preset = PRESETS[args.preset].config
        dataset = load_data(args, args.data, args.image_size)
        _, size, _, image_channels = dataset.images.shape
        classes = dataset.classes if dataset.classes > 1 else 0
        if not classes:
            print(f"{dataset.name} is of one class: training without labels")
        images = {"size": size, "image_channels": image_channels, "classes": classes}
        model = dataclasses.replace(preset.model, **images, **overrides[1])
        config = dataclasses.replace(preset, model=model, data=dataset.name, **overrides[0])
        if len(dataset) < config.batch:
            raise ValueError(
                f"{dataset.name} has {len(dataset)} images, fewer than a batch of {config.batch}; choose a smaller batch"
            )
        folder = _new_folder(args.out, f"{dataset.name}-{args.preset}")
        trainer = Trainer(config, dataset, backend)

    print(
        f"{dataset.name}: {len(dataset):,} images; U-Net {config.model.channels}: "
        f"{trainer.parameters.count:,} parameters; backend {backend.name}, {backend.precision}; folder {folder}"
    )
    if trainer.program:
        print(f"memory {program.text.memory(trainer.program)}")
    started, first = time.monotonic(), trainer.step
    stopped = run(
        trainer,
        folder,
        minutes=args.minutes,
        checkpoint_every=args.checkpoint_every,
        sample_every=args.sample_every,
        keep=args.keep,
    )
    seconds = time.monotonic() - started
    if trainer.step > first:
        print(f"{trainer.step - first} steps in {seconds:.0f} s, {seconds / (trainer.step - first):.2f} s a step")
    if stopped:
        data_dir = f" --data-dir {shlex.quote(args.data_dir)}" if args.data_dir else ""
        data_dir += " --skip-unreadable" if args.skip_unreadable else ""
        print(f"stopped at step {trainer.step} of {config.steps} ({stopped}); to go on:")
        print(f"  tinydiff train --resume {shlex.quote(str(folder))} --preset {args.preset}{data_dir}")
        if stopped != "minutes":
            return 128 + signal.Signals[stopped]

    sampling = PRESETS[args.preset].sampling
    sampling = {**sampling, "steps": min(sampling["steps"], config.noise_steps)}
    for path in report.write(trainer, folder, sampling):
        print(f"wrote {path}")
    label = min(7, max(1, config.model.classes) - 1)
    print("to draw more:")
    print(
        f"  tinydiff sample {shlex.quote(str(folder))} --label {label} --guidance {sampling['guidance']:g} "
        f"--steps {sampling['steps']} --sampler {sampling['sampler']} --seed 3 --out more.png"
    )
    return 0


def load_data(args, name, image_size):
    """The data set that the arguments mean."""
    return data.load(name, data_dir=args.data_dir, image_size=image_size, skip_unreadable=args.skip_unreadable)


def size_of_folder(config):
    """To what images of a folder are brought for a model; None for data sets of one size."""
    return config.model.size if config.data == "folder" else None


def add_sample_arguments(parser):
    """The arguments of ``sample``."""
    add_drawing_arguments(parser)
    parser.add_argument("--label", type=int, action="append", help="class to draw; may be repeated (default: all)")
    parser.add_argument("--count", type=_at_least(1), default=8, help="images a label (default %(default)s)")
    parser.add_argument("--out", metavar="PNG", default="samples.png", help="one row a label (default %(default)s)")


def add_drawing_arguments(parser):
    """The arguments of every command that draws images."""
    parser.add_argument("checkpoint", help="a checkpoint, or the folder of a run")
    parser.add_argument(
        "--guidance", type=float, default=2.0, help="0 ignores the label, 1 follows it, more exaggerates"
    )
    parser.add_argument("--steps", type=int, default=25, help="of the sampler, at most the schedule's T")
    parser.add_argument("--sampler", choices=SAMPLERS, default="ddim")
    parser.add_argument("--eta", type=float, help="noise of ddim: 0 none, 1 as much as ddpm")
    parser.add_argument("--variance", choices=VARIANCES, help="of ddpm")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--weights", choices=("average", "model"), default="average", help="averaged or last parameters"
    )
    add_backend_arguments(parser)


def sample(args):
    """Draw images and write them as one picture."""
    checkpoint = checkpoints.load(args.checkpoint)
    out = Path(args.out)
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"):
        raise ValueError(f"out must end in .png or another picture format, got {args.out}")
    _expect_folder("out", out)
    classes = max(checkpoint.config.model.classes, 1)
    rows = args.label if args.label is not None else range(classes)
    for label in rows:
        if label not in range(classes):
            raise ValueError(f"label must lie in [0, {classes - 1}], got {label}")
    images = draw(args, checkpoint, np.repeat(np.array(rows), args.count))
    pictures.save(pictures.grid(images, args.count), out)
    print(f"wrote {out}")


def draw(args, checkpoint, labels, progress=False):
    """Images (N, H, W, C) float32 in [-1, 1] of these labels (N,), as the drawing arguments say."""
    config = checkpoint.config
    model = UNet(config.model, backends.get(args.backend, args.precision))
    try:
        model.parameters.load(model.parameters.values, checkpoint.parts[args.weights])
    except ValueError as error:
        raise ValueError(f"{args.checkpoint}: {error}") from None
    options = {name: value for name in ("eta", "variance") if (value := getattr(args, name)) is not None}
    allowed = inspect.signature(SAMPLERS[args.sampler].run).parameters
    for name in options:
        if name not in allowed:
            raise ValueError(f"{name} is not an option of the sampler {args.sampler}")

    schedule = schedules.get(config.schedule, config.noise_steps)
    images, trajectory = [], None
    for first in trange(0, len(labels), SAMPLE_BATCH, disable=None if progress else True, unit="batch"):
        batch = labels[first : first + SAMPLE_BATCH]
        if trajectory is None or trajectory.count != len(batch):
            trajectory = Trajectory(
                model,
                schedule,
                config.prediction,
                len(batch),
                sampler=args.sampler,
                steps=args.steps,
                guidance=args.guidance,
                **options,
            )
        # a copy: the next batch may overwrite what this one returned
        images.append(np.array(model.backend.to_numpy(trajectory.draw(batch, seed=args.seed, first=first))))
    return np.concatenate(images)


def add_evaluate_arguments(parser):
    """The arguments of ``evaluate``."""
    add_drawing_arguments(parser)
    parser.add_argument(
        "--samples", type=_at_least(2), default=1000, metavar="N", help="how many to draw (default %(default)s)"
    )
    parser.add_argument("--data-dir", metavar="DIR", help="where the data are that the model was trained on")
    parser.add_argument("--skip-unreadable", action="store_true", help="as in training")
    parser.add_argument("--json", metavar="FILE", help="write the results there too")


def evaluate(args):
    """Draw samples and print all that can be measured of them."""
    checkpoint = checkpoints.load(args.checkpoint)
    config = checkpoint.config
    if args.json:
        _expect_folder("json", Path(args.json))
    train = load_data(args, config.data, size_of_folder(config))
    expect_fits(config.model, train)
    test = data.load_test(config.data, data_dir=args.data_dir, count=args.samples)
    labels = proportional_labels(train, args.samples) if config.model.classes else np.zeros(args.samples, np.int64)
    images = draw(args, checkpoint, labels, progress=True)
    results = measure(images, labels, train, test, backend=args.backend, seed=args.seed)

    drawn = {name: getattr(args, name) for name in ("samples", "guidance", "steps", "sampler", "seed", "weights")}
    print(f"{args.checkpoint}, step {checkpoint.step}, {train.name}; {', '.join(f'{k} {v}' for k, v in drawn.items())}")
    for name, result in results.items():
        print(f"{TITLES[name]:20}  {result}")
    if args.json:
        written = {name: result if isinstance(result, str) else result._asdict() for name, result in results.items()}
        drawn |= {"checkpoint": str(args.checkpoint), "training_step": checkpoint.step, "data": train.name}
        write_atomically(args.json, json.dumps({"drawn": drawn, **written}, indent=2).encode())
        print(f"wrote {args.json}")


def info(args):
    """Print versions, backends and where data would be looked for."""
    print(f"tinydiff {__version__}, Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} CPUs")
    for name, state in backends.describe():
        print(f"backend {name}: {state}")
    try:
        found = f"{len(mnist.load('train', download=False)):,} training images"
    except ValueError as error:
        found = f"not on this machine ({error}); train downloads it"
    print(f"MNIST: {found}")
    if args.run:
        print("\n".join(program.describe_memory(args.run)))


def _expect_folder(name, path):
    if not path.parent.is_dir():
        raise ValueError(f"{name}: the folder {path.parent} does not exist")


def _given(args, overrides):
    """The overrides given on the command line, by field name."""
    fields = {flag.replace("-", "_") for flag in overrides}
    return {field: getattr(args, field) for field in fields if getattr(args, field) is not None}


def _expect_same(path, config, run_overrides, model_overrides):
    """Refuse to resume a checkpoint under another configuration than it was trained with."""
    for holder, overrides in ((config, run_overrides), (config.model, model_overrides)):
        for field, value in overrides.items():
            if getattr(holder, field) != value:
                raise ValueError(f"{path} was trained with {field} {getattr(holder, field)}, not {value}")


def _new_folder(out, name):
    """The folder of a new run: ``out`` if it holds no run yet, by default the first free runs/NAME, NAME-2, ..."""
    if out:
        if (Path(out) / "metrics.jsonl").exists() or (Path(out) / "checkpoints").exists():
            raise ValueError(f"{out} already holds a run; resume it with --resume {out}, or choose another --out")
        return Path(out)
    folder, number = Path("runs") / name, 2
    while folder.exists():
        folder, number = Path("runs") / f"{name}-{number}", number + 1
    return folder


def _at_least(low):
    def integer(text):
        if (value := int(text)) < low:
            raise argparse.ArgumentTypeError(f"must be at least {low}, got {value}")
        return value

    return integer
