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
    load_encoder,
)
from tinydiff.commands.sample import add_drawing_arguments, draw, settle
from tinydiff.data import captions, scenes
from tinydiff.data.dataset import Captioned, evenly
from tinydiff.evaluate import TITLES, Said, measure, proportional_labels
from tinydiff.files import expect_writable, write_atomically
from tinydiff.metrics import inception
from tinydiff.terminal import one_line
from tinydiff.train import texts

DRAWN = ("samples", "guidance", "steps", "sampler", "spacing", "seed", "weights", "precision")  # what results depend on


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
    settle(args, checkpoint)
    backend = backend_of(args, ranks)
    args.precision = backend.precision  # which of the two
    if args.json and ranks.speaks:
        expect_writable("json", args.json)
    net = None
    if args.inception:
        net = inception.feature_net(args.inception, args.backend)
    train = load_data_of(args, ranks, checkpoint)
    classes, looked_at, said = checkpoint.config.model.classes, None, None
    if checkpoint.config.text:
        test, texts_of, said = ranks.one_first(lambda: _held_out_texts(args, train))
        encoder = load_encoder(args.checkpoint, checkpoint, backend)
        looked_at, labels = encoder.encode([*texts_of, texts.NULL]), np.arange(args.samples)
    else:
        test = _held_out(args, ranks, train)
        labels = proportional_labels(train, args.samples) if classes else np.zeros(args.samples, np.int64)
    if args.inception:
        _expect_enough(args.samples, train, test)
    images = draw(args, backend, checkpoint, labels, ranks, looked_at)
    asked = labels if classes else None
    options = dict(net=net, said=said, backend=args.backend, seed=args.seed, ranks=ranks)
    results = measure(images, asked, train, test, **options)
    if not ranks.speaks:
        return

    drawn = {name: getattr(args, name) for name in DRAWN}
    how = ", ".join(f"{name} {value}" for name, value in drawn.items() if value is not None)
    print(f"{one_line(args.checkpoint)}, step {checkpoint.step}, {train.name}; {how}")
    for name, result in results.items():
        print(f"{TITLES[name]:20}  {result}")
    if args.json:
        written = {name: _by_name(result) for name, result in results.items()}
        drawn |= {"checkpoint": str(args.checkpoint), "training_step": checkpoint.step, "data": train.name}
        write_atomically(args.json, json.dumps({"drawn": drawn, **written}, indent=2).encode())
        print(f"wrote {one_line(args.json)}")


def _by_name(result):
    """A result as JSON has it: what has names as {name: value}."""
    return {name: _by_name(each) for name, each in result._asdict().items()} if hasattr(result, "_asdict") else result


def _held_out_texts(args, train):
    """As many captions as samples that were not trained on, images that go with them or None, and what they say.

    Scenes have as many as are asked for, of which every other has a thing in a colour in which it was never seen. Of a
    folder the captions are those that it was trained on, some of them or all over and over.
    """
    if train.name != "scenes":
        chosen = evenly(args.samples, len(train))
        return None, [train.class_names[train.labels[i]] for i in chosen], None
    half, size = -(-args.samples // 2), train.images.shape[1]
    made = [captions.load(half, size=size, first=scenes.HELD_OUT, unseen=new, cache=False) for new in (False, True)]
    in_turns = zip(*([data.class_names[label] for label in data.labels] for data, _, _ in made))
    texts_of = [text for pair in in_turns for text in pair]
    images = np.stack([data.images for data, _, _ in made], axis=1).reshape(-1, *made[0][0].images.shape[1:])
    said = np.stack([said for _, _, said in made], axis=1).reshape(-1)
    count = args.samples
    test = Captioned.of("scenes", images[:count], texts_of[:count])
    return test, texts_of[:count], Said(said[:count], np.arange(count) % 2 == 1)


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
