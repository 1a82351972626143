"""``tinydiff evaluate``: how good a trained model's images are."""

from __future__ import annotations

import json

import numpy as np

from tinydiff import data
from tinydiff.commands.arguments import (
    add_data_arguments,
    add_data_changed_argument,
    at_least,
    backend_of,
    load_checkpoint,
    load_data_of,
)
from tinydiff.commands.sample import add_drawing_arguments, draw, guidance_of
from tinydiff.evaluate import TITLES, measure, proportional_labels
from tinydiff.files import expect_writable, write_atomically
from tinydiff.terminal import one_line

DRAWN = ("samples", "guidance", "steps", "sampler", "seed", "weights", "precision")  # what results depend on


def add_arguments(parser):
    """The arguments of ``evaluate``."""
    add_drawing_arguments(parser)
    parser.add_argument(
        "--samples", type=at_least(2), default=1000, metavar="N", help="how many to draw (default %(default)s)"
    )
    add_data_arguments(parser, "the data set that the model was trained on, where its checkpoint does not say")
    add_data_changed_argument(parser)
    parser.add_argument("--json", metavar="FILE", help="write the results there too")


def evaluate(args, ranks):
    """Draw samples and print all that can be measured of them; several ranks share the work."""
    checkpoint = load_checkpoint(args.checkpoint, ranks)
    args.guidance = guidance_of(args, checkpoint)
    backend = backend_of(args, ranks)
    args.precision = backend.precision  # which of the two
    if args.json and ranks.speaks:
        expect_writable("json", args.json)
    train = load_data_of(args, ranks, checkpoint)
    held_out = dict(data_dir=args.data_dir, count=args.samples, image_size=train.images.shape[1])
    test = ranks.one_first(lambda: data.load_test(train.name, **held_out))
    classes = checkpoint.config.model.classes
    labels = proportional_labels(train, args.samples) if classes else np.zeros(args.samples, np.int64)
    images = draw(args, backend, checkpoint, labels, ranks)
    results = measure(images, labels, train, test, backend=args.backend, seed=args.seed, ranks=ranks)
    if not ranks.speaks:
        return

    drawn = {name: getattr(args, name) for name in DRAWN}
    print(
        f"{one_line(args.checkpoint)}, step {checkpoint.step}, {train.name}; {', '.join(f'{k} {v}' for k, v in drawn.items())}"
    )
    for name, result in results.items():
        print(f"{TITLES[name]:20}  {result}")
    if args.json:
        written = {name: result if isinstance(result, str) else result._asdict() for name, result in results.items()}
        drawn |= {"checkpoint": str(args.checkpoint), "training_step": checkpoint.step, "data": train.name}
        write_atomically(args.json, json.dumps({"drawn": drawn, **written}, indent=2).encode())
        print(f"wrote {one_line(args.json)}")
