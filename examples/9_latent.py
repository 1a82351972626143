"""Warm-up 9: latents. A picture of the picture, small enough to draw in, and what makes it fit to be drawn.

What you will see: above, digits, the latents that a small autoencoder makes of them (8 x 8 places of 3 values, shown as
red, green and blue), and what it makes of the latents again. One can still read them: each place is of its own part of
the image.

In the middle, what the KL divergence is for: digits from their latents, and from latents disturbed by noise of half
their size. Without it (weight 0) a latent says more than the image needs, and what lies beside it is worse. With a
little of it the images are about as good from a third of the information, and near latents give near images. With too
much of it to say nothing is cheapest: every latent is noise, and all images are one.

Below, why latents are scaled. That error does not ask how large they are: an encoder that makes them 20 times as large
and a decoder that divides them by 20 are as good. Diffusion does ask: the same U-Net draws from latents of deviation 1,
of 20 and of 0.1, all else being the same. Where they are too small, nearly all noise steps show it nothing but noise;
where they are too large, nearly none does, and what is decided there, which digit it is, is learned badly. Those of
Stable Diffusion have deviation 5.5, hence its 0.18215.

    python examples/9_latent.py
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import warm_up

from tinydiff import backends, data, pictures, plot
from tinydiff.data import Dataset, bytes_to_signed
from tinydiff.generate import generate
from tinydiff.metrics import classifier
from tinydiff.metrics.psnr import psnr
from tinydiff.model.autoencoder import AutoencoderConfig
from tinydiff.model.unet import UNet, UNetConfig
from tinydiff.noise import schedules
from tinydiff.ops import gaussian_kl
from tinydiff.progress import progress_bar
from tinydiff.samplers import finish
from tinydiff.train.codec import Codec
from tinydiff.train.fit import fit
from tinydiff.train.latents import measured_scale
from tinydiff.train.vae_config import VAETrainConfig
from tinydiff.train.vae_trainer import VAETrainer

MODEL = AutoencoderConfig(size=32, image_channels=1, channels=(16, 32, 64))  # to 8 x 8 x 3
PADDING = 2  # 28 x 28 digits at 32 x 32, which halves twice
WEIGHTS = {"none": 0.0, "right": 1e-2, "too much": 0.3}  # of the KL divergence
DISTURBED = 0.5  # in standard deviations of the latents
DEVIATIONS = 1.0, 20.0, 0.1  # of latents that a U-Net draws
TRAINED_ON = 5000  # latents
SHOWN = 10  # digits
ENLARGED = MODEL.factor  # latents, to the size of their digits


def main(out, quick):
    digits = data.load("auto")  # MNIST; drawn digits where it cannot be had
    train, test = padded(digits), padded(data.load_test(digits.name, count=500))
    learned = {name: Latents(train, weight, 150 if quick else 200) for name, weight in WEIGHTS.items()}

    quality = {name: latents.quality(test.images) for name, latents in learned.items()}
    for name, each in quality.items():
        print(f"weight {WEIGHTS[name]:5g}: {each}")
    none, right, too_much = quality.values()
    assert right.nats < 0.5 * none.nats and right.psnr > none.psnr - 1.5, "half of what latents say is not needed"
    assert right.disturbed > none.disturbed, "and without it near latents mean near images"
    assert too_much.psnr < right.psnr - 5 and too_much.nats < 0.01, "until nothing is left of them"

    latents = learned["right"]
    share = latents.share_of_own_place(test.images[:100])
    print(f"of what one latent changes {share:.0%} is within 12 x 12 pixels of its place, which are 14 % of the image")
    assert share > 0.8, "a latent is of its place"

    learnable = Dataset("latents", latents.encoded(train.images[:TRAINED_ON]), train.labels[:TRAINED_ON], train.classes)
    labels, drawn, accuracy = np.arange(200 if quick else 500) % train.classes, {}, {}
    for deviation in DEVIATIONS:
        drawn[deviation] = latents.draw(learnable, labels, deviation, 200 if quick else 400)
        accuracy[deviation] = (classifier.classify(cropped(drawn[deviation])) == labels).mean()
        print(f"drawn from latents of deviation {deviation:g}: {accuracy[deviation]:.1%} recognised")
    scaled, *others = accuracy.values()
    assert scaled > max(others) + 0.1, "a noise schedule takes its data to be of deviation 1"

    shown = test.images[:SHOWN]
    figure = plot.Figure(7, 1, width=900, height=150, title="latents")
    panel = figure.panel(0, 0, "digits, their latents, and the digits from them again")
    panel.picture(strip(shown, latents.as_colours(shown), latents.decoded(shown)))
    for row, (name, each) in enumerate(learned.items(), 1):
        caption = f"KL weight {WEIGHTS[name]:g}: {quality[name]}"
        figure.panel(row, 0, caption).picture(strip(each.decoded(shown), each.decoded(shown, DISTURBED)))
    for row, (deviation, images) in enumerate(drawn.items(), 1 + len(learned)):
        panel = figure.panel(
            row, 0, f"drawn from latents of deviation {deviation:g}: {accuracy[deviation]:.1%} recognised"
        )
        panel.picture(strip(images[:SHOWN], images[SHOWN : 2 * SHOWN]))
    figure.save(out)


def padded(digits):
    """28 x 28 digits in black frames, 32 x 32."""
    frame = (0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)
    return Dataset(f"framed {digits.name}", np.pad(digits.images, frame), digits.labels, digits.classes)


def cropped(images):
    return images[:, PADDING:-PADDING, PADDING:-PADDING]


def strip(*rows):
    """A picture of rows of images, each (SHOWN, 32, 32, 1 or 3)."""
    return pictures.grid(
        np.concatenate([np.broadcast_to(bytes_to_signed(row), (*row.shape[:3], 3)) for row in rows]), SHOWN
    )


class Quality(NamedTuple):
    """What an autoencoder keeps of images."""

    nats: float  # divergence of a latent from the unit normal
    psnr: float  # of images from their latents, dB
    disturbed: float  # and from disturbed latents

    def __str__(self):
        return f"{self.nats:.2g} nats a latent, images from them {self.psnr:.1f} dB, disturbed {self.disturbed:.1f} dB"


class Latents:
    """An autoencoder of digits, trained on the spot."""

    def __init__(self, digits, weight, steps):
        config = VAETrainConfig(
            model=MODEL, data=digits.name, batch=32, steps=steps, learning_rate=2e-3, kl_weight=weight
        )
        trainer = VAETrainer(config, digits, backends.get("auto"))
        for _ in progress_bar(range(steps), leave=False):
            trainer.train_step()
        self.model, self.scale = trainer.averaged_model, measured_scale(trainer.codec, digits.images[:2000])
        self.codec = Codec(self.model, self.scale)  # to latents of mean 0, deviation 1, channel by channel

    def encoded(self, images):
        """The most likely latents."""
        return self.codec.encode(images)[..., : MODEL.latent_channels]

    def decoded(self, images, disturbed=0.0):
        """images (n, 32, 32, 1) -> what is made of their latents, after noise of that deviation."""
        latents = self.encoded(images)
        return self.codec.decode(latents + np.float32(disturbed) * noise(latents.shape))

    def as_colours(self, images):
        """Latents as images (n, 32, 32, 3): two deviations from the mean are dark or bright."""
        latents = (self.encoded(images) / 2).clip(-1, 1)
        return latents.repeat(ENLARGED, axis=1).repeat(ENLARGED, axis=2)

    def quality(self, images):
        nats, _ = gaussian_kl.forward(Codec(self.model).encode(images))
        made = (psnr(self.decoded(images, disturbed), images).value for disturbed in (0.0, DISTURBED))
        return Quality(nats, *made)

    def share_of_own_place(self, images):
        """Of the change of images by one latent in the middle, how much is where it and its eight neighbours are."""
        latents = self.encoded(images)
        changed, place = latents.copy(), MODEL.latent_shape[0] // 2
        changed[:, place, place] += 1
        near = slice(ENLARGED * (place - 1), ENLARGED * (place + 2))
        change = np.square(self.codec.decode(changed) - self.codec.decode(latents))
        return change[:, near, near].sum() / change.sum()

    def draw(self, latents, labels, deviation, steps):
        """Digits (N, 32, 32, 1) from latents that a U-Net draws, trained on a ``Dataset`` of them at that deviation."""
        latents = dataclasses.replace(latents, images=np.float32(deviation) * latents.images)
        height, _, channels = MODEL.latent_shape
        config = UNetConfig(size=height, image_channels=channels, channels=(32, 64), blocks=1, groups=8, film=True)
        model, schedule = UNet(config, self.model.backend), schedules.cosine(200)
        fit(model, latents, schedule, warm_up.PREDICTION, steps=steps, batch=64)
        drawn = finish(generate(model, schedule, warm_up.PREDICTION, labels, steps=25, clip=None))
        return self.codec.decode(model.backend.to_numpy(drawn) / np.float32(deviation))


def noise(shape):
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


if __name__ == "__main__":
    warm_up.run(main, __doc__, "9_latent.png")
