"""``tinydiff train``: a new run, or one that goes on. (``train-vae`` and ``distill`` are such commands too, each of its
own ``Kind``.)"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tinydiff import backends, data, report, text
from tinydiff.commands.arguments import (
    add_backend_arguments,
    add_data_arguments,
    add_data_changed_argument,
    at_least,
    backend_of,
    load_checkpoint,
    load_data,
    load_data_of,
    load_encoder,
)
from tinydiff.program import memory
from tinydiff.program.text import amount
from tinydiff.terminal import one_line, own_command
from tinydiff.train import TrainConfig, Trainer, latents, run, texts
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.folder import Elsewhere, RunFolder
from tinydiff.train.presets import PRESETS
from tinydiff.train.vae_config import VAETrainConfig

PRECISION = "auto"  # by default: it trains to the same quality, so what is faster


def widths(text):
    return tuple(int(each) for each in text.split(","))


def switch(text):
    if text not in ("on", "off"):
        raise ValueError(text)
    return text == "on"


EVERY_RUN = {
    "steps": (int, "training steps; with --resume more than there were: train longer"),
    "batch": (int, "images a step"),
    "parts": (int, "that a batch is computed in, one after another, in less memory, or by as many ranks as divide it"),
    "learning-rate": (float, "its peak"),
    "warmup-steps": (int, "steps over which the learning rate rises"),
    "decay": (str, "of the learning rate after that: cosine or constant"),
    "weight-decay": (float, "AdamW's decoupled decay"),
    "clip": (float, "limit of the gradient's norm"),
    "average-decay": (float, "of the averaged parameters"),
    "flip": (switch, "on: every image is met as often mirrored along its width"),
    "seed": (int, "of everything random"),
}
RUN_OVERRIDES = {
    **EVERY_RUN,
    "label-dropout": (float, "how often to train without the label"),
    "schedule": (str, "noise schedule: linear, cosine, flow or scaled_linear"),
    "noise-steps": (int, "T, the number of noise steps"),
    "prediction": (str, "what the network predicts: eps, x0, v or flow"),
    "loss-weight": (str, "simple, min_snr or truncated_snr"),
    "step-power": (float, "1 meets every noise step as often, more favours high noise"),
}
OF_THE_NETWORK = ("schedule", "noise_steps", "prediction")  # what of a run its parameters go with
MODEL_OVERRIDES = {
    "channels": (widths, "width of each level, as 16,32,64"),
    "blocks": (int, "residual blocks a level"),
    "attention-levels": (widths, "levels with attention, as 1,2; -1 is the lowest"),
    "head-width": (int, "of attention"),
    "heads": (widths, "of attention at each level, as 2,4,8, in place of a width"),
    "film": (switch, "on: the step scales and shifts instead of shifting alone"),
    "groups": (int, "groups of the group norms"),
    "transformer-depth": (int, "with --text: transformer blocks wherever there is attention"),
    "positions": (int, "waves along each axis that tell the network where it is"),
    "dropout": (float, "how often to drop a value in each residual block; nothing is dropped when drawing"),
}


class Kind(NamedTuple):
    """What one command that trains has of its own."""

    config: type  # the ``RunConfig`` of its runs
    trainer: type  # their ``Training``
    presets: dict[str, Any]  # each has a ``config``
    run_overrides: dict[str, tuple[Callable, str]]  # flags of fields of the config: their type, and help
    model_overrides: dict[str, tuple[Callable, str]]  # and of its model
    new: Callable  # (args, ranks, backend, preset) -> config and data set of a new run
    data_of: Callable  # (args, ranks, backend, checkpoint) -> the data set with which it goes on
    network: str  # what its model is called
    folder: str  # where its runs go by default: the part of the name between data and preset
    finish: Callable  # (args, folder, trainer): what is done when training is complete, or its time over
    picture_of: Callable | None = None  # as of ``run``
    begin: Callable = lambda trainer: None  # what is done with the trainer of a new run before its first step
    called: dict[str, str] = {}  # flags of other names than their fields: {the field's, with dashes: the flag's}


MANY = """\
many processes, to the bits of one (pip install 'tinydiff[mpi]'); --parts a multiple of their number:
  mpiexec -n 4 tinydiff {command} --parts 4                  on this machine
  mpiexec -f hosts -n 16 tinydiff {command} --parts 16       hosts: a file, a machine a line, with all it needs at the same paths
  srun --mpi=pmi2 -n 16 tinydiff {command} --parts 16        under Slurm
Each takes as many threads as it has cores to itself (TINYDIFF_THREADS says otherwise), or a GPU of its own; the first one
writes and speaks. sample and evaluate share their images likewise; tinydiff info, started so, says who is there.
"""


def add_arguments(parser):
    """The arguments of ``train``."""
    add_training_arguments(DIFFUSION, parser, "how samples are drawn at the end alone")
    parser.add_argument(
        "--latent",
        metavar="VAE_RUN",
        help="train in the latents of a trained autoencoder (tinydiff train-vae): its run, or a checkpoint",
    )
    parser.add_argument(
        "--text",
        metavar="ENCODER_DIR",
        help="let the model look at the images' captions, as an encoder in this folder understands them: CLIP's text model "
        "or BERT, as transformers save them; with --data scenes, or folder with metadata.jsonl or metadata.csv in it",
    )
    parser.add_argument(
        "--text-layers",
        type=at_least(1),
        metavar="N",
        help="with --text: how many of the encoder's layers to go through, from the first (default all); of what belongs "
        "to which word the last ones may tell less",
    )


def train(args, ranks):
    """Train a model and leave samples, a denoising animation and the loss curve in the run's folder."""
    return begin_or_go_on(DIFFUSION, args, ranks)


def add_training_arguments(kind, parser, resumed_preset):
    """The arguments of every command that trains; ``resumed_preset`` says what a preset decides with --resume."""
    parser.epilog = MANY.format(command=kind.config.COMMAND)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--preset",
        choices=kind.presets,
        default=next(iter(kind.presets)),
        help=f"a ready-made run (default %(default)s); with --resume it decides {resumed_preset}",
    )
    of_run = "the data set (default that of the preset, or of the run; auto: MNIST if it can be had)"
    add_data_arguments(parser, of_run)
    parser.add_argument(
        "--image-size",
        type=at_least(1),
        metavar="PIXELS",
        help="with --data folder: crop and resize all to this; with --data scenes 32 (the default) or 64",
    )
    parser.add_argument("--out", metavar="DIR", help=f"folder of the run (default runs/DATA-{kind.folder}PRESET)")
    parser.add_argument("--overwrite", action="store_true", help="begin anew where --out holds a run")
    parser.add_argument(
        "--resume",
        metavar="PATH",
        help="go on with a run: its folder, or one of its checkpoints; with --out in a new folder. In the precision it "
        "was trained in, to the bits that it would have had without a stop; in another one where that is asked for",
    )
    add_data_changed_argument(parser)
    add_backend_arguments(parser, PRECISION)
    parser.add_argument("--minutes", type=float, help="stop after so long; the run can be resumed")
    parser.add_argument("--checkpoint-every", type=at_least(1), default=250, metavar="STEPS")
    parser.add_argument(
        "--sample-every", type=at_least(0), default=250, metavar="STEPS", help="0: no pictures on the way"
    )
    parser.add_argument("--no-pictures", action="store_true", help="none on the way, none at the end")
    parser.add_argument("--keep", type=at_least(1), default=3, metavar="K", help="how many checkpoints to keep")
    for flag, (of, said) in {**kind.run_overrides, **kind.model_overrides}.items():
        name, field = kind.called.get(flag, flag), flag.replace("-", "_")
        parser.add_argument(f"--{name}", dest=field, type=of, help=said, metavar=of.__name__.upper())


def begin_or_go_on(kind, args, ranks):
    """A new run, or one that goes on, as the arguments say.

    Of several ranks rank 0 alone need see the folder, or the checkpoint that is resumed.
    """
    kind_of_folder = RunFolder if ranks.speaks else Elsewhere
    if args.resume and not args.out:
        if args.overwrite:
            raise ValueError("overwrite begins a run anew; with resume it needs out, the folder to begin it in")
        if ranks.speaks:
            checkpoints.find(args.resume)  # is there, before anything is written
        with kind_of_folder.of(args.resume).locked() as folder:
            return _train(kind, args, folder, _resumed(kind, args, ranks, folder))

    folder = kind_of_folder(args.out) if args.out else None
    if folder:
        folder.expect_new(overwrite=args.overwrite)
    trainer = _resumed(kind, args, ranks) if args.resume else _new(kind, args, ranks)
    folder = folder or kind_of_folder(_path_for(f"{trainer.config.data}-{kind.folder}{args.preset}", args.overwrite))
    with folder.locked():
        folder.expect_new(overwrite=args.overwrite)  # still
        folder.clear()
        return _train(kind, args, folder, trainer)


def _new(kind, args, ranks):
    """A trainer at its first step."""
    backend = backend_of(args, ranks)
    if args.data_changed:
        raise ValueError("data_changed goes with resume: a new run is on whatever the data are")
    config, dataset = kind.new(args, ranks, backend, kind.presets[args.preset])
    if len(dataset) < config.batch:
        raise ValueError(
            f"{dataset.name} has {len(dataset)} images, fewer than a batch of {config.batch}; choose a smaller batch"
        )
    trainer = _trainer(kind, args, config, dataset, backend, ranks)
    kind.begin(trainer)
    return trainer


def _resumed(kind, args, ranks, folder=None):
    """A trainer at the step of a checkpoint, which goes on in its own folder or, without ``folder``, in a new one."""
    checkpoint = load_checkpoint(args.resume, ranks, kind.config)
    if type(checkpoint.config) is not kind.config:  # a student is a diffusion model, too
        raise ValueError(f"{args.resume} is a student; tinydiff {checkpoint.config.COMMAND} --resume goes on with it")
    before = checkpoint.precision or "fp32"  # that of all that do not say
    backend = backend_of(args, ranks, before if args.precision == "auto" else None)
    if checkpoint.step and backend.precision != before:
        print(f"trained in {before} so far, it goes on in {backend.precision}: not to the bits that it would have had")
    goes_on = ranks.speaks and folder and Path(args.resume).is_file()
    for path in checkpoints.saved(folder.checkpoints)[-1:] if goes_on else []:
        if checkpoints.number(path) > checkpoint.step:
            raise ValueError(f"{args.resume} is older than {path}; --out names a new folder to go on from it in")

    config, run_overrides = checkpoint.config, given(args, kind.run_overrides)
    if checkpoint.step == 0:  # imported: how it is trained has not been decided yet, only what its network was made for
        config = dataclasses.replace(config, **{k: v for k, v in run_overrides.items() if k not in OF_THE_NETWORK})
        checkpoint = checkpoint._replace(config=config)
    if run_overrides.get("steps", 0) > config.steps:
        config = config.lengthened(run_overrides["steps"], at=checkpoint.step)
        said = "rises and falls once more, from the averaged parameters" if config.restarts else "goes on as it is"
        print(f"made longer, from {checkpoint.config.steps} to {config.steps} steps: the learning rate {said}")
    _expect_same(args.resume, config, run_overrides)
    _expect_same(args.resume, config.model, given(args, kind.model_overrides))
    dataset = kind.data_of(args, ranks, backend, checkpoint)
    trainer = _trainer(kind, args, dataclasses.replace(config, data=dataset.name), dataset, backend, ranks)
    trainer.restore(checkpoint)
    if trainer.step == config.steps:
        print(f"this run is finished; --steps of more than {config.steps} trains it longer")
    return trainer


def _trainer(kind, args, config, dataset, backend, ranks):
    """A trainer, where memory is enough for it; how much it needs is said before."""
    ranks.expect_to_share(config.parts)
    need, free = memory.expect_enough(
        config, backend, dataset, ranks=ranks, pictures=not args.no_pictures, begun=bool(args.resume)
    )
    images = "" if need.copied else f", beside {amount(need.images, 'B')} of images"
    print(f"memory: {need}{images}" + ("" if free is None else f"; {amount(free, 'B')} are free"))
    return kind.trainer(config, dataset, backend, ranks=ranks)


def _train(kind, args, folder, trainer):
    """Run to the end, draw the pictures and say what can be done next; returns the exit status."""
    config, dataset, backend, ranks = trainer.config, trainer.dataset, trainer.backend, trainer.ranks
    if ranks.size > 1:
        print(f"{ranks.size} ranks, {config.parts // ranks.size} of {config.parts} parts of a batch each")
    print(
        f"{dataset.name}: {len(dataset):,} images; {kind.network} {config.model.channels}: "
        f"{trainer.parameters.count:,} parameters; backend {backend.name}, {backend.precision}; folder {one_line(folder)}"
    )
    started, first = time.monotonic(), trainer.step
    stopped = run(
        trainer,
        folder,
        minutes=args.minutes,
        checkpoint_every=args.checkpoint_every,
        sample_every=0 if args.no_pictures else args.sample_every,
        keep=args.keep,
        picture_of=kind.picture_of,
    )
    seconds = time.monotonic() - started
    if trainer.step > first:
        print(f"{trainer.step - first} steps in {seconds:.0f} s, {seconds / (trainer.step - first):.2f} s a step")
    if stopped:
        print(f"stopped at step {trainer.step} of {config.steps} ({stopped}); to go on:")
        print(f"  {own_command(config.COMMAND, '--resume', folder, *_again(args))}")
        if stopped != "minutes":
            return 128 + signal.Signals[stopped]
    kind.finish(args, folder, trainer)
    return 0


def _again(args):
    """The arguments that a run which goes on is to be given once more."""
    again = ["--preset", args.preset]
    for name, default in (("data_dir", None), ("backend", "auto"), ("precision", PRECISION)):
        if getattr(args, name) != default:
            again += [f"--{name.replace('_', '-')}", getattr(args, name)]
    flags = ("skip_unreadable", "no_cache", "no_pictures")
    return again + [f"--{name.replace('_', '-')}" for name in flags if getattr(args, name)]


def given(args, overrides):
    """The overrides given on the command line, by field name."""
    fields = {flag.replace("-", "_") for flag in overrides}
    return {field: getattr(args, field) for field in fields if getattr(args, field) is not None}


def _expect_same(path, holder, overrides):
    """Refuse to resume a checkpoint under another configuration than it was trained with."""
    for field, value in overrides.items():
        if getattr(holder, field) != value:
            raise ValueError(f"{path} was trained with {field} {getattr(holder, field)}, not {value}")


def _path_for(name, overwrite):
    """Where the folder of a new run is to be: the first free of runs/NAME, runs/NAME-2, ...; to overwrite, runs/NAME."""
    path, number = Path("runs") / name, 2
    while path.exists() and not overwrite:
        path, number = Path("runs") / f"{name}-{number}", number + 1
    return path


def _new_diffusion(args, ranks, backend, preset):
    """The config and the data set of a new run of ``train``."""
    if preset.words and not args.text:
        raise ValueError(f"text must be the folder of an encoder: the preset {args.preset} is for a model of words")
    if args.text_layers and not args.text:
        raise ValueError("text_layers goes with text, the folder of the encoder whose layers they are")
    config = dataclasses.replace(preset.config, **given(args, RUN_OVERRIDES))  # fails, if so, before data are read
    autoencoder, name, size = None, args.data or preset.data, args.image_size
    if args.latent:
        autoencoder = latents.for_latents(load_checkpoint(args.latent, ranks, VAETrainConfig), args.latent)
        name = args.data or autoencoder.config.data
        if name in data.OF_MANY_SIZES and size is None:
            size = autoencoder.config.model.size
    encoder = None
    if args.text:
        encoder = text.load(args.text, backends.get(backend.name), layers=args.text_layers)  # in float32
        _expect_unflipped(config.flip)
    dataset = load_data(args, ranks, name, size, captioned=bool(encoder))
    classes = dataset.classes if dataset.classes > 1 and not encoder else 0
    if not classes and not encoder:
        print(f"{dataset.name} is of one class: training without labels")
    fields = {"data": dataset.name}
    if autoencoder:
        autoencoder.config.expect_fits(dataset)
        fields["autoencoder"] = checkpoints.digest(autoencoder)
        dataset = _encoded(args, ranks, backend, dataset, autoencoder, config.flip)
    _, size, image_channels = dataset.shape
    images = {"size": size, "image_channels": image_channels, "classes": classes}
    if encoder:
        fields["text"], images["context_width"] = encoder.fingerprint, encoder.width
        dataset = _texted(args, ranks, dataset, encoder)
    model = dataclasses.replace(config.model, **images, **given(args, MODEL_OVERRIDES))
    return dataclasses.replace(config, model=model, **fields), dataset


def _expect_unflipped(flip):
    """Raise ``ValueError`` where images with captions are to be mirrored."""
    if flip:
        raise ValueError("flip does not go with text: a caption that says left would be wrong of the mirrored image")


def _diffusion_data_of(args, ranks, backend, checkpoint):
    """The data set with which a run of ``train`` goes on."""
    for name, what in (("latent", "autoencoder"), ("text", "encoder"), ("text_layers", "encoder")):
        if getattr(args, name):
            raise ValueError(f"{name} goes with a new run: one that goes on has its {what}, if any, in its folder")
    return data_of_run(args, ranks, backend, checkpoint, args.resume)


def data_of_run(args, ranks, backend, checkpoint, path):
    """The data set of the run of a diffusion model whose checkpoint, at this path, is given: in latents, or with texts,
    as the run is."""
    encoder = load_encoder(path, checkpoint, backend) if checkpoint.config.text else None
    if encoder:
        _expect_unflipped(checkpoint.config.flip)
    dataset = load_data_of(args, ranks, checkpoint, args.image_size)
    if checkpoint.autoencoder:
        dataset = _encoded(args, ranks, backend, dataset, checkpoint.autoencoder, checkpoint.config.flip)
    return _texted(args, ranks, dataset, encoder) if encoder else dataset


def _encoded(args, ranks, backend, dataset, autoencoder, flip):
    """A data set in the latents of an autoencoder, on each of the ranks; one of a machine encodes it."""
    exact = backends.get(backend.name)  # in float32, whatever the run trains in
    return ranks.one_first(lambda: latents.encode(dataset, autoencoder, exact, flip=flip, cache=not args.no_cache))


def _texted(args, ranks, dataset, encoder):
    """A data set with what an encoder makes of its captions, on each of the ranks; one of a machine encodes them."""
    return ranks.one_first(lambda: texts.encode(dataset, encoder, cache=not args.no_cache))


def _finish_diffusion(args, folder, trainer):
    """Draw the pictures and say how more are drawn."""
    config, dataset = trainer.config, trainer.dataset
    sampling = PRESETS[args.preset].sampling
    sampling = {**sampling, "steps": min(sampling["steps"], config.noise_steps)}
    if not trainer.model.classes:
        sampling["guidance"] = 1.0
    if not args.no_pictures and trainer.ranks.speaks:
        for path in report.write(trainer, folder.path, sampling):
            print(f"wrote {one_line(path)}")
    label = dataset.class_names[min(7, max(1, trainer.model.classes) - 1)]
    asked = ["--prompt" if config.text else "--label", label, "--guidance", f"{sampling['guidance']:g}"]
    how = ["--steps", str(sampling["steps"]), "--sampler", sampling["sampler"], "--seed", "3", "--out", "more.png"]
    print("to draw more:")
    print(f"  {own_command('sample', folder, *asked, *how)}")


DIFFUSION = Kind(
    config=TrainConfig,
    trainer=Trainer,
    presets=PRESETS,
    run_overrides=RUN_OVERRIDES,
    model_overrides=MODEL_OVERRIDES,
    new=_new_diffusion,
    data_of=_diffusion_data_of,
    network="U-Net",
    folder="",
    finish=_finish_diffusion,
)
