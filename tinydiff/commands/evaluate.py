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
from tinydiff.metrics import inception
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
    parser.add_argument(
        "--test-dir", metavar="DIR", help="with --data folder: images of the same classes that were not trained on"
    )
    parser.add_argument(
        "--inception",
        metavar="FILE",
        help="measure FID as papers do, by InceptionV3, whose weights are in FILE: those of pytorch-fid as safetensors",
    )
    parser.add_argument("--json", metavar="FILE", help="write the results there too")


def evaluate(args, ranks):
    """Draw samples and print all that can be measured of them; several ranks share the work."""
    checkpoint = load_checkpoint(args.checkpoint, ranks)
    args.guidance = guidance_of(args, checkpoint)
    backend = backend_of(args, ranks)
    args.precision = backend.precision  # which of the two
    if args.json and ranks.speaks:
        expect_writable("json", args.json)
    net = None
    if args.inception:
        net = inception.feature_net(args.inception, args.backend)
    train = load_data_of(args, ranks, checkpoint)
    test = _held_out(args, ranks, train)
    if args.inception:
        _expect_enough(args.samples, train, test)
    classes = checkpoint.config.model.classes
    labels = proportional_labels(train, args.samples) if classes else np.zeros(args.samples, np.int64)
    images = draw(args, backend, checkpoint, labels, ranks)
    asked = labels if classes else None
    results = measure(images, asked, train, test, net=net, backend=args.backend, seed=args.seed, ranks=ranks)
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


def _held_out(args, ranks, train):
    """Images of the same kind as the training set that are not in it, or None.

    Raises ``ValueError`` where ``test_dir`` goes with another set, and for images of other classes or another shape.
    """
    options = dict(data_dir=args.data_dir, image_size=train.images.shape[1])
    if args.test_dir is None:
        return ranks.one_first(lambda: data.load_test(train.name, count=args.samples, **options))
    options |= dict(test_dir=args.test_dir, skip_unreadable=args.skip_unreadable, cache=not args.no_cache)
    test = ranks.one_first(lambda: data.load_test(train.name, **options))
    counts = dict(counts=train.identity.counts, files_digest=train.files_digest)  # in which they may differ
    if difference := train.identity.difference(test.identity._replace(**counts)):
        raise ValueError(f"test_dir is not like the images that the model was trained on: {difference}")
    return test


def _expect_enough(samples, train, test):
    """Raise ``ValueError`` where FID by Inception would say nothing: before anything is drawn, which takes its time."""
    counts = {"samples": samples, "training images": len(train)} | ({} if test is None else {"test images": len(test)})
    for images, n in counts.items():
        if n <= inception.FEATURES:
            features = f"{inception.FEATURES:,} features"
            raise ValueError(f"inception: FID of {features} needs more than {inception.FEATURES:,} {images}, got {n:,}")
