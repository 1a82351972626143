"""``tinydiff train-vae``: an autoencoder, in whose latents ``tinydiff train --latent`` trains."""

from __future__ import annotations

import dataclasses

from tinydiff import data, report
from tinydiff.commands.arguments import load_data, load_data_of
from tinydiff.commands.train import EVERY_RUN, Kind, add_training_arguments, begin_or_go_on, given, switch, widths
from tinydiff.data.dataset import evenly
from tinydiff.metrics.psnr import psnr
from tinydiff.terminal import one_line, own_command
from tinydiff.train import reconstructions
from tinydiff.train.latents import measured_scale
from tinydiff.train.presets import VAE_PRESETS
from tinydiff.train.vae_config import VAETrainConfig
from tinydiff.train.vae_trainer import VAETrainer

RECONSTRUCTED = 1000  # images that reconstructions are measured on

RUN_OVERRIDES = {
    **EVERY_RUN,
    "reconstruction": (str, "error that images are reconstructed to: l1 or mse"),
    "kl-weight": (float, "of the divergence of a latent value beside it"),
    "feature-weight": (float, "of the error of a classifier's features beside both (default 0: without them)"),
    "shapes": (switch, "on: scenes are those that captions speak of, with shapes among the digits"),
}
MODEL_OVERRIDES = {
    "channels": (widths, "width of each level, as 32,64,128; between two of them the image halves"),
    "blocks": (int, "residual blocks a level"),
    "latent-channels": (int, "of the latents"),
    "groups": (int, "groups of the group norms"),
    "mid-attention": (switch, "on: attention in the middle of both halves"),
}


def add_arguments(parser):
    """The arguments of ``train-vae``."""
    add_training_arguments(AUTOENCODER, parser, "nothing")


def train_vae(args, ranks):
    """Train an autoencoder, measure its latents, and leave reconstructions and the loss curve in the run's folder."""
    return begin_or_go_on(AUTOENCODER, args, ranks)


def _new(args, ranks, backend, preset):
    """The config and the data set of a new run."""
    name = args.data or preset.data
    # fails, if so, before data are read
    config = dataclasses.replace(preset.config, data=name, **given(args, RUN_OVERRIDES))
    dataset = load_data(args, ranks, name, args.image_size, captioned=config.captioned)
    _, size, image_channels = dataset.shape
    images = {"size": size, "image_channels": image_channels}
    model = dataclasses.replace(config.model, **images, **given(args, MODEL_OVERRIDES))
    return dataclasses.replace(config, model=model, data=dataset.name), dataset


def _data_of(args, ranks, backend, checkpoint):
    return load_data_of(args, ranks, checkpoint, args.image_size)


def _finish(args, folder, trainer):
    """Measure the latents and keep their scale with the last checkpoint, measure reconstructions, draw the pictures and say
    what can be done next."""
    ranks = trainer.ranks
    if trainer.scale is None:
        trainer.scale = measured_scale(trainer.codec, trainer.dataset.images, ranks=ranks)
        if ranks.speaks:
            folder.save(trainer.checkpoint(), args.keep)
    for name, numbers in (("mean", trainer.scale.shift), ("standard deviation", [1 / s for s in trainer.scale.scale])):
        print(f"latents: {name} {', '.join(f'{number:.3g}' for number in numbers)}, by channel")
    if ranks.speaks:
        kind, images = _images_to_measure(args, trainer.dataset, trainer.config.captioned)
        print(f"reconstruction of {kind} images: PSNR {psnr(trainer.reconstruct(images), images)}")
    if not args.no_pictures and ranks.speaks:
        for path in report.write_reconstructions(trainer, folder.path):
            print(f"wrote {one_line(path)}")
    print("to train in its latents:")
    more = ["--data-dir", args.data_dir] if args.data_dir else []
    print(f"  {own_command('train', '--latent', folder, *more)}")


def _images_to_measure(args, dataset, captioned):
    """What they are, and at most ``RECONSTRUCTED`` of the images that were held out; where there are none, trained on."""
    size = dataset.images.shape[1]
    options = dict(data_dir=args.data_dir, count=RECONSTRUCTED, image_size=size, captioned=captioned)
    try:
        held_out = data.load_test(dataset.name, **options)
    except data.NotFound:  # what was trained is not to fail at its end for want of these files
        held_out = None
    kind, images = ("training", dataset.images) if held_out is None else ("held-out", held_out.images)
    return kind, images[evenly(min(RECONSTRUCTED, len(images)), len(images))]


AUTOENCODER = Kind(
    config=VAETrainConfig,
    trainer=VAETrainer,
    presets=VAE_PRESETS,
    run_overrides=RUN_OVERRIDES,
    model_overrides=MODEL_OVERRIDES,
    new=_new,
    data_of=_data_of,
    network="autoencoder",
    folder="vae-",
    finish=_finish,
    picture_of=reconstructions.picture_of,
)
