"""The command ``tinydiff program``, and what ``tinydiff info RUN`` says of memory (training: ``memory``)."""

from __future__ import annotations

from tinydiff import backends
from tinydiff.generate import PIXELS_AT_ONCE, batches
from tinydiff.noise.guidance import USUAL
from tinydiff.program import runs, text
from tinydiff.samplers import SAMPLERS
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.config import TrainConfig
from tinydiff.train.distill_config import DistillConfig
from tinydiff.train.run_config import RunConfig

WHATS = ("predict", "sample", "train")
SAMPLING = {
    "sampler": (dict(choices=SAMPLERS), "default ddim, or a student's"),
    "steps": (dict(type=int), "default 25, or a student's"),
    "guidance": (dict(type=float), f"default {USUAL:g} where labels or texts are"),
}


def add_arguments(parser):
    """The arguments of ``program``."""
    parser.description = (
        "Print what a run's network, sampler or training step does, call by call: its arrays, operations and bytes. "
        "Nothing is computed."
    )
    parser.add_argument("run", help="a checkpoint, or the folder of a run")
    parser.add_argument("--what", choices=WHATS, default="predict", help="default %(default)s")
    parser.add_argument("--batch", type=int, help="images at a time (default 1; of training the run's own)")
    for name, (kind, said) in SAMPLING.items():
        parser.add_argument(f"--{name}", help=f"with --what sample: {said}", **kind)
    add_precision_argument(parser)
    parser.add_argument("--totals", action="store_true", help="without the calls one by one")


def add_precision_argument(parser):
    """In which precision the program that is looked at computes."""
    parser.add_argument(
        "--precision",
        choices=backends.PRECISIONS,
        help="in which it computes (default: training in that of the run, drawing in fp32)",
    )


def run(args):
    """Print the program. Raises ``ValueError`` for a batch that is none and for options that sampling refuses."""
    if args.batch is not None and args.batch < 1:
        raise ValueError(f"batch must be at least 1, got {args.batch}")
    if args.batch is not None and args.what == "train":
        raise ValueError("batch is the run's own where it trains; it goes with --what predict or sample")
    given = {name: getattr(args, name) for name in SAMPLING if getattr(args, name) is not None}
    if given and args.what != "sample":
        raise ValueError(f"{next(iter(given))} goes with --what sample")
    checkpoint = checkpoints.load(args.run, RunConfig)
    config = checkpoint.config
    sampling = {}
    if args.what == "sample" and isinstance(config, TrainConfig):
        sampling = {
            "steps": min(25, config.noise_steps),
            "guidance": USUAL if config.model.classes or config.text else 1.0,
        }
        if isinstance(config, DistillConfig):
            sampling |= config.stage_at(checkpoint.step).sampling
        sampling |= given
    backend = _recorder(args.precision or _precision(args.what, checkpoint))
    program = runs.of_config(config, backend, args.what, count=args.batch or 1, **sampling).program
    print("\n".join([*text.head(program), "", *text.totals(program)]) if args.totals else program)


def describe_memory(path, precision=None):
    """Lines that say what a run needs of memory, to train and to draw from, in a precision or as it would be."""
    checkpoint = checkpoints.load(path, RunConfig)
    config = checkpoint.config

    def need(what, **given):
        it = precision or _precision(what, checkpoint)
        return f"{it}: {text.memory(runs.of_config(config, _recorder(it), what, **given).program)}"

    needs = [f"to train, batch {config.batch}, {need('train')}; the data set comes on top"]
    if isinstance(config, TrainConfig):
        count = batches(PIXELS_AT_ONCE, checkpoint.image_shape)[0].stop  # as ``tinydiff sample`` draws them
        steps = min(2, config.noise_steps)  # more need no more
        needs.append(f"to draw {count} at a time, guided, {need('sample', count=count, steps=steps, guidance=USUAL)}")
    return needs


def _precision(what, checkpoint):
    """In which it is done, where nothing else is asked for."""
    return (checkpoint.precision if what == "train" else None) or "fp32"


def _recorder(precision):
    """A backend that lends itself to recording."""
    return backends.get("auto" if backends.get("auto").name in ("cpu", "numpy") else "numpy", precision)
