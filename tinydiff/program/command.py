"""The command ``tinydiff program``, and what ``tinydiff info RUN`` and training say of memory."""

from __future__ import annotations

from tinydiff import backends
from tinydiff.program import runs, text
from tinydiff.samplers import SAMPLERS
from tinydiff.train import checkpoint as checkpoints

WHATS = ("predict", "sample", "train")
DRAWN = 50  # images at a time, as ``tinydiff sample`` draws them


def add_arguments(parser):
    """The arguments of ``program``."""
    parser.description = (
        "Print what a run's network, sampler or training step does, call by call: its arrays, operations and bytes. "
        "Nothing is computed."
    )
    parser.add_argument("run", help="a checkpoint, or the folder of a run")
    parser.add_argument("--what", choices=WHATS, default="predict", help="default %(default)s")
    parser.add_argument("--batch", type=int, help="images at a time (default 1; of training the run's own)")
    parser.add_argument("--sampler", choices=SAMPLERS, default="ddim", help="with --what sample")
    parser.add_argument("--steps", type=int, default=25, help="of the sampler (default %(default)s)")
    parser.add_argument("--guidance", type=float, default=2.0, help="with --what sample (default %(default)s)")
    parser.add_argument("--totals", action="store_true", help="without the calls one by one")


def run(args):
    """Print the program. Raises ``ValueError`` for a batch that is none and for options that sampling refuses."""
    if args.batch is not None and args.batch < 1:
        raise ValueError(f"batch must be at least 1, got {args.batch}")
    if args.batch is not None and args.what == "train":
        raise ValueError("batch is the run's own where it trains; it goes with --what predict or sample")
    config = checkpoints.load(args.run).config
    sampling = {}
    if args.what == "sample":
        sampling = dict(sampler=args.sampler, steps=args.steps, guidance=args.guidance)
    program = runs.of_config(config, _recorder(), args.what, count=args.batch or 1, **sampling).program
    print("\n".join([*text.head(program), "", *text.totals(program)]) if args.totals else program)


def describe_memory(path):
    """Lines that say what a run needs of memory, to train and to draw from."""
    config, backend = checkpoints.load(path).config, _recorder()
    steps = min(2, config.noise_steps)  # more need no more
    training = runs.of_config(config, backend, "train").program
    drawing = runs.of_config(config, backend, "sample", count=DRAWN, steps=steps, guidance=2.0).program
    return [
        f"to train, batch {config.batch}: {text.memory(training)}; the data set comes on top",
        f"to draw {DRAWN} at a time, guided: {text.memory(drawing)}",
    ]


def _recorder():
    """A backend that lends itself to recording."""
    return backends.get("auto" if backends.get("auto").name in ("cpu", "numpy") else "numpy")
