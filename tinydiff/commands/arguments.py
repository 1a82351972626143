"""Arguments that several commands take, and what they mean."""

from __future__ import annotations

import argparse

from tinydiff import backends, data
from tinydiff.interop import folder as interop
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train import texts
from tinydiff.train.config import UNKNOWN, TrainConfig


def at_least(low):
    """The type of an integer argument that may not be smaller."""

    def integer(text):
        if (value := int(text)) < low:
            raise argparse.ArgumentTypeError(f"must be at least {low}, got {value}")
        return value

    return integer


def add_backend_arguments(parser, precision="fp32"):
    """Where to compute, and in which precision, by default this one."""
    parser.add_argument("--backend", choices=backends.NAMES, default="auto")
    parser.add_argument(
        "--precision",
        choices=("auto", *backends.PRECISIONS),
        default=precision,
        help="of activations, and of weights where they are multiplied; bf16 takes half their memory (all backends but "
        "numpy); auto takes it on a CPU that multiplies it faster (default %(default)s)",
    )


def backend_of(args, ranks, precision=None):
    """The backend that the arguments ask for, in their precision unless one is given; of ranks on GPUs each has its own.

    Raises ``ValueError`` where one of them cannot be had.
    """
    if ranks.size > 1 and args.backend in ("auto", "cuda") and backends.works("cuda"):
        ranks.take_gpu()
    return backends.get(args.backend, precision or args.precision)


def load_checkpoint(path, ranks, kind=TrainConfig, **options):
    """A checkpoint of that kind of run, or the newest in a folder, that rank 0 reads for all; options as of
    ``checkpoints.load``."""
    return ranks.broadcast(checkpoints.load(path, kind, **options) if ranks.speaks else None)


def load_encoder(path, checkpoint, backend):
    """The text encoder of a run (``texts.encoder_of_run``), in float32 on the kind of backend that is given."""
    return texts.encoder_of_run(path, checkpoint, backends.get(backend.name))


def load_to_draw(path, ranks, backend):
    """A checkpoint and, where it looks at texts, its encoder; of a run, or of a folder of diffusers', from which no more is
    read than drawing takes, by each of the ranks."""
    if interop.is_folder(path):
        imported = interop.import_folder(path, backend=backends.get(backend.name))
        return imported.checkpoint, imported.encoder
    checkpoint = load_checkpoint(path, ranks, lazily=ranks.size == 1)  # else it is sent to the others
    return checkpoint, load_encoder(path, checkpoint, backend) if checkpoint.config.text else None


def add_data_arguments(parser, help_text):
    """Which images, where they are and how they are read."""
    parser.add_argument("--data", choices=data.NAMES, help=help_text)
    parser.add_argument("--data-dir", metavar="DIR", help="where its files are; with --data folder the images")
    parser.add_argument(
        "--skip-unreadable", action="store_true", help="with --data folder: go on without files that cannot be read"
    )
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="with --data folder or scenes: decode, or draw, into memory every time, instead of once into a file (in "
        "$TINYDIFF_DATA or the user's cache) that is mapped into memory and may be larger than it",
    )


def add_data_changed_argument(parser):
    parser.add_argument(
        "--data-changed", action="store_true", help="go on though the data are not those that the model was trained on"
    )


def load_data(args, ranks, name, image_size=None, captioned=False):
    """The data set of that name, as the arguments say, on each of the ranks; what it needs one of a machine fetches.

    Raises ``ValueError`` for the name of a data set that is not known.
    """
    if name == UNKNOWN:
        raise ValueError("the checkpoint does not say what data it was trained on; --data names them")
    options = dict(
        data_dir=args.data_dir, image_size=image_size, skip_unreadable=args.skip_unreadable, captioned=captioned
    )
    return ranks.one_first(lambda: data.load(name, cache=not args.no_cache, **options))


def load_data_of(args, ranks, checkpoint, image_size=None):
    """The data set that a checkpoint was trained on, on each of the ranks.

    Raises ``ValueError`` if the arguments name another, if it does not fit the model, and, without ``--data-changed``, if
    it is no longer what it was: labels could have changed their meaning.
    """
    config = checkpoint.config
    name = config.data if args.data in (None, "auto") else args.data
    if config.data not in (name, UNKNOWN):
        raise ValueError(f"the model was trained on {config.data}, not on {name}")
    if name in data.OF_MANY_SIZES and image_size is None:
        image_size = checkpoint.image_shape[0]
    dataset = load_data(args, ranks, name, image_size, captioned=config.captioned)
    config.expect_fits(dataset, checkpoint.image_shape)
    changed = checkpoint.data_set.difference(dataset.identity) if checkpoint.data_set else ""
    if changed and not args.data_changed:
        raise ValueError(f"{name} is not what the model was trained on: {changed}; --data-changed goes on all the same")
    if changed or args.data_changed:
        print(f"{name} is not what the model was trained on: {changed}" if changed else f"{name} has not changed")
    return dataset
