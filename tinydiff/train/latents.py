"""What an autoencoder makes of a data set: how large latents are, and a data set of them to train on.

Latents are what the autoencoder's loss left, of any size. A diffusion model's noise schedule takes its data to have mean
0 and variance 1: where they are larger, signal is left at the last noise step, from which drawing does not start; where
they are smaller, most steps are spent on nothing but noise. So each channel of them is shifted and scaled to that. One
number for all channels is what Rombach et al. use, 1 over the standard deviation of one batch's latents (0.18215 for
Stable Diffusion).
Source: Rombach et al., "High-resolution image synthesis with latent diffusion models", 2022, appendix G.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tinydiff.data import decoded
from tinydiff.data.dataset import Dataset, evenly
from tinydiff.generate import batches
from tinydiff.model.autoencoder import Autoencoder, LatentScale
from tinydiff.noise.corrupt import Corruptor
from tinydiff.progress import progress_bar
from tinydiff.ranks import alone
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.checkpoint import Checkpoint
from tinydiff.train.codec import Codec

RULES = 2  # raise it whenever latents come out otherwise than before: what older rules encoded is encoded again
MEASURED = 10_000  # images that the scale is measured on: of their channels' deviations a percent is known


def measured_scale(codec, images, *, ranks=alone()):
    """The ``LatentScale`` of images (n, H, W, C) uint8, by ``MEASURED`` of them at even distances, of smaller sets by all.

    Of a latent z = mean + exp(logvar / 2) eps the noise has known moments, so none is drawn:
        shift     = E[mean]
        1 / scale = sqrt(Var[mean] + E[exp(logvar)])
    the expectations over images and places, channel by channel. Ranks share the work, to the same bits.
    """
    chosen = evenly(min(MEASURED, len(images)), len(images))
    parts, sums = batches(len(chosen), images.shape[1:]), []
    for part in progress_bar([parts[i] for i in ranks.share(len(parts))], desc="latents: ", leave=False):
        mean, logvar = np.split(codec.encode(images[chosen[part]]).astype(np.float64), 2, axis=-1)
        sums.append([each.sum(axis=(0, 1, 2)) for each in (np.ones_like(mean), mean, mean * mean, np.exp(logvar))])
    count, mean, square, noise = np.sum([each for of_rank in ranks.gather(sums) for each in of_rank], axis=0)
    shift = mean / count
    std = np.sqrt(np.maximum(square / count - shift * shift, 0) + noise / count)  # rounding must not make it negative
    return LatentScale(tuple(shift.tolist()), tuple((1 / std).tolist()))


def for_latents(checkpoint, path):
    """What a run in the latents of a trained autoencoder keeps of its ``Checkpoint``: the averaged parameters and scale.

    path  where it comes from. Raises ``ValueError`` naming it where its scale was not measured.
    """
    if checkpoint.scale is None:
        raise ValueError(
            f"{path} is at step {checkpoint.step} of {checkpoint.config.steps} and was stopped before its latents were "
            f"measured; tinydiff train-vae --resume {path} goes on"
        )
    return checkpoint._replace(parts={"average": checkpoint.parts["average"]})


def codec_of(autoencoder, backend):
    """The ``Codec`` of a ``Checkpoint`` of an autoencoder, scaled as it says."""
    model = Autoencoder(autoencoder.config.model, backend, frozen=True)
    model.parameters.load(model.parameters.values, autoencoder.parts["average"])
    return Codec(model, autoencoder.scale)


def decoder_of(autoencoder, backend):
    """A function of what a model draws, arrays of NumPy -> images (n, H, W, C): for the ``Checkpoint`` of an autoencoder
    what that makes of latents; for None they are images."""
    return codec_of(autoencoder, backend).decode if autoencoder else lambda images: images


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """A data set as a run in latents sees it.

    of           the ``Dataset`` of images, whose all else is
    images       (n, h, w, 2 Z) float32, of each image the moments of its latents, scaled; may be mapped from a file
    autoencoder  the ``Checkpoint`` of what encoded them
    flip         whether as many of mirrored images follow: latents that are mirrored are not those of a mirrored image
    """

    of: Dataset
    images: np.ndarray
    autoencoder: Checkpoint
    flip: bool = False

    name = property(lambda self: self.of.name)
    labels = property(lambda self: np.tile(self.of.labels, 1 + self.flip))
    classes = property(lambda self: self.of.classes)
    class_names = property(lambda self: self.of.class_names)
    image_of = property(lambda self: self.of.image_of)  # only where nothing is mirrored, as captions may speak of sides
    identity = property(lambda self: self.of.identity)

    def __len__(self):
        return len(self.labels)

    @property
    def shape(self):
        """Of one image's latents, as a model takes them."""
        return (*self.images.shape[1:-1], self.images.shape[-1] // 2)


def encode(dataset, autoencoder, backend, *, flip=False, cache=True, say=print):
    """A ``Dataset`` in the latents of an autoencoder, a ``Checkpoint``, as ``Encoded``; with ``flip`` mirrored as well.

    It is encoded once: the file that keeps it is found again by the data set's identity, the autoencoder's digest and
    what the backend's bits depend on. Without ``cache``, or where no file can be written, which is said, into memory.
    """

    def write(out):
        codec, ways = codec_of(autoencoder, backend), (1, -1) if flip else (1,)  # along the width
        parts = [(way, batch) for way in ways for batch in batches(len(dataset.images), dataset.shape)]
        for way, batch in progress_bar(parts, unit="batch", desc="encoding: ", leave=False):
            out.write(codec.encode(dataset.images[batch][:, :, ::way]).astype(np.float32, copy=False).tobytes())
        *hw, Z = autoencoder.config.model.latent_shape
        return (len(ways) * len(dataset.images), *hw, 2 * Z), []

    place = f"latents-{dataset.identity.digest}"
    key = decoded.name_of([RULES, checkpoints.digest(autoencoder), backend.identity, flip])
    without = f"{dataset.name}: encoded into memory, as latents cannot be kept"
    options = dict(cache=cache, without=without, say=say, dtype=np.float32)
    return Encoded(dataset, decoded.images_of(write, place, key, **options).images, autoencoder, flip)


class LatentCorruptor(Corruptor):
    """A ``Corruptor`` of images that are moments of latents: each time they are met, another sample of them.

    count  of samples at a time
    """

    def __init__(self, *arguments, count):
        super().__init__(*arguments)
        self._first = self.backend.asarray(np.arange(count))

    def draw(self, images, index, step, number, slot=None, *, seed, flip=False):
        """As of a ``Corruptor``, images (n, h, w, 2 Z) floats -> ``Corrupted`` of (N, h, w, Z). With ``flip`` mirrored
        images are among them (``Encoded``): nothing is left to be done."""
        backend = self.backend
        moments = backend.take(images, index)
        shape = (*images.shape[1:-1], images.shape[-1] // 2)
        places = self._first if slot is None else slot
        eps = backend.philox.forward(seed, "latent", places, number, shape, kind="normal")
        z, _ = backend.gaussian_sample.forward(moments, eps)
        return super().draw(z, self._first, step, number, slot, seed=seed)
