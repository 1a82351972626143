"""``tinydiff sample``: images of a trained model, as one picture."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path

import numpy as np

from tinydiff import generate, pictures
from tinydiff.commands.arguments import add_backend_arguments, at_least, backend_of, load_to_draw
from tinydiff.data import folder
from tinydiff.data.dataset import bytes_to_signed
from tinydiff.editing import Editing
from tinydiff.generate import Trajectory
from tinydiff.interpolation import Interpolation
from tinydiff.model.unet import UNet
from tinydiff.noise import schedules
from tinydiff.noise.guidance import USUAL
from tinydiff.ops import gaussian_sample
from tinydiff.progress import progress_bar
from tinydiff.samplers import SAMPLERS
from tinydiff.samplers.ddpm import VARIANCES
from tinydiff.terminal import one_line
from tinydiff.train import texts
from tinydiff.train.distill_config import DistillConfig
from tinydiff.train.latents import codec_of
from tinydiff.train.run import MOST_ROWS

SAMPLING = {"sampler": "ddim", "steps": 25}  # of a model that is no student
# arguments that images depend on
DRAWING = ("guidance", "steps", "sampler", "spacing", "eta", "variance", "seed", "weights")


def add_arguments(parser):
    """The arguments of ``sample``."""
    add_drawing_arguments(parser)
    parser.add_argument(
        "--label",
        action="append",
        help=f"class to draw, its name or number; may be repeated (default: all, of many the first {MOST_ROWS})",
    )
    parser.add_argument("--prompt", action="append", help="text to draw, of a model of texts; may be repeated")
    parser.add_argument("--negative", metavar="TEXT", help="what to draw away from, instead of from no text")
    parser.add_argument(
        "--between", type=at_least(2), metavar="N", help="N images from the first --label or --prompt to the second"
    )
    parser.add_argument("--to-seed", type=int, metavar="SEED", help="with --between: and from --seed to this one")
    parser.add_argument(
        "--init", metavar="IMAGE", help="begin with this image, its largest square brought to the model's size"
    )
    parser.add_argument(
        "--strength", type=float, help="how much of the way is gone from --init: 0 none, 1 all (default 0.7)"
    )
    parser.add_argument(
        "--mask", metavar="IMAGE", help="where it is black --init is kept, where white drawn anew (and strength is 1)"
    )
    parser.add_argument(
        "--resample",
        type=at_least(1),
        help="with --mask: go each step so often, to fit better, at as many times the cost",
    )
    parser.add_argument("--size", type=int, metavar="PIXELS", help="of images (default: those that it was trained on)")
    parser.add_argument("--count", type=at_least(1), default=8, help="images a label or prompt (default %(default)s)")
    parser.add_argument(
        "--out",
        metavar="PNG",
        default="samples.png",
        help="one row each; of images between a .gif moves (default %(default)s)",
    )


def add_drawing_arguments(parser):
    """The arguments of every command that draws images."""
    parser.add_argument("checkpoint", help="a checkpoint, or the folder of a run; of sample one of diffusers' too")
    parser.add_argument(
        "--guidance",
        type=float,
        help="0 ignores the label, 1 follows it, more exaggerates (default 2 where labels are)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        help="of the sampler, at most the schedule's T (default 25; of a student those it was taught)",
    )
    parser.add_argument("--sampler", choices=SAMPLERS, help="default ddim, or that which a student was taught")
    parser.add_argument(
        "--spacing",
        choices=schedules.SPACINGS,
        help="of the steps (default the sampler's own); leading is that of Stable Diffusion in diffusers",
    )
    parser.add_argument("--eta", type=float, help="noise of ddim: 0 none, 1 as much as ddpm")
    parser.add_argument("--variance", choices=VARIANCES, help="of ddpm")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--weights", choices=("average", "model"), default="average", help="averaged or last parameters"
    )
    add_backend_arguments(parser)


def sample(args, ranks):
    """Draw images and write them as one picture; several ranks share the drawing."""
    backend = backend_of(args, ranks)
    checkpoint, encoder = load_to_draw(args.checkpoint, ranks, backend)
    checkpoint = checkpoint if args.size is None else checkpoint.of_size(args.size)
    config, looked_at = checkpoint.config.model, None
    _expect_what_it_knows(args, checkpoint)
    if encoder:
        rows = range(len(args.prompt or [texts.NULL]))
        looked_at = encoder.encode([*(args.prompt or [texts.NULL]), args.negative or texts.NULL])
    elif args.label:
        rows = [_label(text, checkpoint) for text in args.label]
    else:
        rows = range(min(max(config.classes, 1), MOST_ROWS))
        if config.classes > len(rows):
            print(f"drawing the first {len(rows)} of {config.classes:,} classes; --label names others")
    columns, last = args.count, None
    if args.between:
        (*rows, last), columns = _ends(args, rows), args.between
    size = pictures.grid_size(len(rows) * columns, columns, checkpoint.image_shape)
    if ranks.speaks:
        pictures.expect_can_be_saved("out", args.out, size)
    settle(args, checkpoint)
    init, keep = _images_of(args, checkpoint)
    labels = np.repeat(np.array(rows), columns)
    way = Interpolation(args.between, last, args.to_seed) if args.between else None
    images = draw(args, backend, checkpoint, labels, ranks, looked_at, init, keep, way)
    if not ranks.speaks:
        return
    if args.between and Path(args.out).suffix.lower() == ".gif":
        pictures.save_animation([pictures.grid(image[None], 1) for image in images], args.out)
    else:
        pictures.save(pictures.grid(images, columns), args.out)
    print(f"wrote {one_line(args.out)}")


def _ends(args, rows):
    """The label that images between begin with, and that they end with, None for the same. Raises ``ValueError`` where
    nothing tells the ends apart, or more than two labels are given."""
    given = args.label or args.prompt or []
    if len(given) > 2 or (len(given) < 2 and args.to_seed is None):
        raise ValueError(f"between needs two labels or prompts, or to_seed, got {len(given)}")
    if args.init is not None:
        raise ValueError("init does not go with between")
    return (rows[0], rows[1] if len(given) == 2 else None)


def _images_of(args, checkpoint):
    """What --init and --mask hold: an image (H, W, C) uint8, and (H, W) whether it is kept; each None where not given.

    Raises ``ValueError`` for a mask of another size than the image, and for options without what they go with.
    """
    for name, other in (("strength", "init"), ("mask", "init"), ("resample", "mask"), ("to_seed", "between")):
        if getattr(args, name) is not None and getattr(args, other) is None:
            raise ValueError(f"{name} goes with {other}")
    if args.strength is not None and not 0 <= args.strength <= 1:
        raise ValueError(f"strength must lie in [0, 1], got {args.strength:g}")
    if args.init is None:
        return None, None
    shape, init = checkpoint.image_shape, folder.picture(args.init)
    if args.mask is None:
        return folder.brought_to(init, shape), None
    mask = folder.picture(args.mask)
    if mask.size != init.size:
        wanted, given = (f"{width}x{height}" for width, height in (init.size, mask.size))
        raise ValueError(f"mask must have the size of init, {wanted}, got {given}")
    return folder.brought_to(init, shape), folder.brought_to(mask, (*shape[:2], 1))[..., 0] < 128


def _editing(args, init, keep, codec):
    """The ``Editing`` of an image and what of it is kept, in the latents of a ``Codec`` if there is one."""
    image, kept = bytes_to_signed(init), None if keep is None else keep[..., None].astype(np.float32)
    if codec:
        image, _ = gaussian_sample.halves(codec.encode(init[None])[0])
        if keep is not None:  # a place of which every pixel is kept
            h, w = image.shape[:2]
            blocks = keep.reshape(h, keep.shape[0] // h, w, keep.shape[1] // w)
            kept = blocks.all(axis=(1, 3))[..., None].astype(np.float32)
    strength = (0.7 if keep is None else 1.0) if args.strength is None else args.strength
    return Editing(np.ascontiguousarray(image), kept, strength, args.resample or 1)


def _expect_what_it_knows(args, checkpoint):
    """Raise ``ValueError`` for a prompt to a model of labels, a label to one of texts, and what only guiding leads
    away from to one that is told the guidance instead."""
    wrong = ("label",) if checkpoint.config.text else ("prompt", "negative")
    for name in wrong:
        if getattr(args, name):
            other = "it looks at texts: --prompt" if checkpoint.config.text else "it was trained without texts"
            raise ValueError(f"{name} does not go with this model, {other}")
    if args.negative and checkpoint.config.model.guidance_width:
        raise ValueError("negative does not go with a student: it is asked for the prompt alone, and told the guidance")


def _label(text, checkpoint):
    """The label that a class's name, or its number where no class has that name, stands for."""
    classes = max(checkpoint.config.model.classes, 1)
    names = checkpoint.data_set.class_names if checkpoint.data_set else ()
    if text in names:
        return names.index(text)
    if text.lstrip("-").isdecimal():
        if int(text) not in range(classes):
            raise ValueError(f"label must lie in [0, {classes - 1}], got {text}")
        return int(text)
    known = f"one of {', '.join(names[:MOST_ROWS])}{', ...' if len(names) > MOST_ROWS else ''}" if names else "a number"
    raise ValueError(f"label must be {known}, got {text!r}")


def guidance_of(args, checkpoint):
    """The guidance to draw with. Raises ``ValueError`` if one is given that a model without classes cannot obey, or
    that a student was not taught."""
    config = checkpoint.config
    if config.model.guidance_width:
        return config.guidance_told(args.guidance)
    if config.model.classes or config.text:
        return USUAL if args.guidance is None else args.guidance
    if args.guidance not in (None, 1):
        raise ValueError(f"guidance must be 1 for a model without classes, got {args.guidance:g}")
    return 1.0


def settle(args, checkpoint):
    """Give guidance, sampler and steps, where they are not given, the values that suit the model. It is said where a
    student draws otherwise than it was taught. Raises ``ValueError`` as ``guidance_of``."""
    args.guidance, config = guidance_of(args, checkpoint), checkpoint.config
    taught = config.stage_at(checkpoint.step).sampling if isinstance(config, DistillConfig) else SAMPLING
    for name, value in taught.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    asked = {name: getattr(args, name) for name in taught}
    if taught is not SAMPLING and asked != taught:
        way = "{steps} steps of {sampler}".format
        print(f"this student was taught to draw in {way(**taught)}, not in {way(**asked)}")


def draw(args, backend, checkpoint, labels, ranks, looked_at=None, init=None, keep=None, way=None):
    """Images (N, H, W, C) float32 in [-1, 1] of these labels (N,), as the drawing arguments say, on all ranks. Of a
    model of texts labels say which of a ``Context``, ``looked_at``, whose last text is what guidance leads away from.
    ``init`` and ``keep`` as of ``_images_of``; ``way``, an ``Interpolation`` of as many."""
    ranks.expect_same(backend.identity | {name: getattr(args, name) for name in DRAWING})
    config = checkpoint.config
    model = UNet(config.model, backend, frozen=True)
    try:
        model.parameters.load(model.parameters.values, checkpoint.parts[args.weights])
    except ValueError as error:
        raise ValueError(f"{args.checkpoint}: {error}") from None
    if looked_at:
        model.texts = texts.on_backend(looked_at, backend)
    options = {name: value for name in ("eta", "variance") if (value := getattr(args, name)) is not None}
    allowed = inspect.signature(SAMPLERS[args.sampler].run).parameters
    for name in options:
        if name not in allowed:
            raise ValueError(f"{name} is not an option of the sampler {args.sampler}")
    options |= config.drawing | {name: getattr(args, name) for name in ("sampler", "steps", "spacing", "guidance")}
    schedule = schedules.get(config.schedule, config.noise_steps)
    codec = codec_of(checkpoint.autoencoder, backend) if checkpoint.autoencoder else None
    options["way"] = _editing(args, init, keep, codec) if init is not None else way
    images = generate.draw(
        functools.cache(lambda count: Trajectory(model, schedule, config.prediction, count, **options)),
        labels,
        checkpoint.image_shape,
        seed=args.seed,
        each=lambda batches: progress_bar(batches, unit="batch", leave=False, shown=len(batches) > 1),
        decode=codec.decode if codec else lambda drawn: drawn,
        ranks=ranks,
    )
    return images if keep is None else np.where(keep[..., None], bytes_to_signed(init), images)
