"""The autoencoder of latent diffusion: an image as a small array of latents, and the image from them again.

The encoder gives mean and log variance of every latent value (``ops.gaussian_sample``), the decoder an image from a
sample of them. Both are the U-Net's blocks without time and without skips, so each is a chain. Parameter names and
arithmetic are those of diffusers' ``AutoencoderKL``: weights go both ways by transposes alone.
Source: Kingma and Welling, "Auto-encoding variational Bayes", 2014; Rombach et al., "High-resolution image synthesis
with latent diffusion models", 2022, section 3.1 and appendix G.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from tinydiff.model.attention_block import AttentionBlock
from tinydiff.model.chain import Chain
from tinydiff.model.fields import expect_levels, expect_types
from tinydiff.model.layers import Conv2d, GroupNorm, Upsample2x, as_activation
from tinydiff.model.parameters import Parameters
from tinydiff.model.res_block import ResBlock


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """The shape of an autoencoder. ``channels`` names the width of each level; the image halves between levels.

    As it stands here: 2,698,537 parameters, 64x64x3 to 16x16x3. That of Stable Diffusion, of 83.7 million:
    channels (128, 256, 512, 512), blocks 2, latent_channels 4, groups 32, both quant convolutions.
    """

    size: int = 64  # height and width of the images that it is trained on; it takes others too
    image_channels: int = 3
    channels: tuple[int, ...] = (32, 64, 128)
    blocks: int = 1  # residual blocks a level on the way down; one more on the way up
    latent_channels: int = 3
    groups: int = 8  # fewer than channels: a norm of one channel a group would take each channel's mean from the image
    eps: float = 1e-6
    mid_attention: bool = True  # in the middle of both halves, one head of the full width
    quant_conv: bool = False  # a 1x1 convolution of the moments behind the encoder
    post_quant_conv: bool = False  # and one of the latents before the decoder

    def __post_init__(self):
        expect_types(self)
        expect_levels(self, "latent_channels")
        if not self.eps > 0:
            raise ValueError(f"eps must be positive, got {self.eps}")

    @property
    def shape(self):
        """Of one image."""
        return (self.size, self.size, self.image_channels)

    @property
    def latent_shape(self):
        """Of one image's latents."""
        return (self.size // self.factor, self.size // self.factor, self.latent_channels)

    @property
    def factor(self):
        """By how much the latents are smaller than the image, along either axis."""
        return 2 ** (len(self.channels) - 1)


@dataclasses.dataclass(frozen=True)
class LatentScale:
    """Latents as a diffusion model sees them, of mean 0 and variance 1: (z - shift) scale, channel by channel.

    A noise schedule takes its data to be of about that size. diffusers' ``scaling_factor`` and ``shift_factor`` are
    such a scale and shift of all channels alike, Stable Diffusion's 0.18215 one over the standard deviation of the
    latents of a batch (Rombach et al., 2022, appendix G).
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self):
        expect_types(self)
        if not self.shift or len(self.shift) != len(self.scale):
            raise ValueError(f"shift and scale must be one number a channel, got {self.shift} and {self.scale}")
        if not np.isfinite(self.shift).all():
            raise ValueError(f"shift must be finite, got {self.shift}")
        if not (np.isfinite(self.scale).all() and min(self.scale) > 0):
            raise ValueError(f"scale must be positive and finite, got {self.scale}")


class _Parts:
    """The parts of an encoder or decoder, by the names they have there."""

    def __init__(self, parameters, half, config):
        self.parameters, self.half, self.config = parameters, half, config
        self.norm = dict(groups=config.groups, eps=config.eps)

    def res_block(self, name, C, O):
        return ResBlock(self.parameters, f"{self.half}.{name}", C, O, None, film=False, **self.norm)

    def conv(self, name, C, O, **options):
        return Conv2d(self.parameters, f"{self.half}.{name}", C, O, 3, **{"padding": 1, **options})

    def middle(self):
        C = self.config.channels[-1]
        yield self.res_block("mid_block.resnets.0", C, C)
        if self.config.mid_attention:
            name = f"{self.half}.mid_block.attentions.0"
            yield AttentionBlock(self.parameters, name, C, head_width=C, **self.norm)
        yield self.res_block("mid_block.resnets.1", C, C)

    def norm_out(self, C):
        return GroupNorm(self.parameters, f"{self.half}.conv_norm_out", C, silu=True, **self.norm)


class Encoder:
    """x -> moments: mean and log variance of every latent value, the means in the first half of the channels.

    conv_in; per level residual blocks, then a stride-2 convolution; residual block, attention, residual block;
    norm + SiLU + conv_out; quant_conv where there is one.
    """

    def __init__(self, parameters, config):
        self.config, self.backend = config, parameters.backend
        parts, C, Z = _Parts(parameters, "encoder", config), config.channels[0], config.latent_channels
        links = [parts.conv("conv_in", config.image_channels, C)]
        for i, O in enumerate(config.channels):
            name = f"down_blocks.{i}"
            for j in range(config.blocks):
                links.append(parts.res_block(f"{name}.resnets.{j}", C, O))
                C = O
            if i < len(config.channels) - 1:
                links.append(parts.conv(f"{name}.downsamplers.0.conv", O, O, stride=2, padding=(0, 1)))
        links += [*parts.middle(), parts.norm_out(C), parts.conv("conv_out", C, 2 * Z)]
        if config.quant_conv:
            links.append(Conv2d(parameters, "quant_conv", 2 * Z, 2 * Z, 1))
        self.chain = Chain(*links)

    def forward(self, x):
        """x (N,H,W,image_channels) -> moments (N,h,w,2 Z) in the dtype of x, cache; h and w are H and W over the factor.

        Raises ``ValueError`` for another number of channels, or a size that the factor does not divide.
        """
        moments, cache = self.chain.forward(self._activation(x))
        return moments.astype(x.dtype, copy=False), cache

    def predict(self, x):
        """The moments alone, in a fraction of the memory."""
        return self.chain.predict(self._activation(x)).astype(x.dtype, copy=False)

    def backward(self, dmoments, cache):
        """dmoments (N,h,w,2 Z) -> dx as x. The cache is used up, as ``Chain.backward`` says."""
        dh = as_activation(dmoments, self.backend)
        return self.chain.backward(dh, cache).astype(dmoments.dtype, copy=False)

    def check(self, x):
        """Raise ``ValueError`` for what is no batch of images."""
        factor, channels = self.config.factor, self.config.image_channels
        if x.ndim != 4 or x.shape[1] % factor or x.shape[2] % factor or x.shape[3] != channels:
            raise ValueError(
                f"encoder: x must have shape (N, H, W, {channels}) with H and W divisible by {factor}, "
                f"got {tuple(x.shape)}"
            )

    def _activation(self, x):
        self.check(x)
        return as_activation(x, self.backend)


class Decoder:
    """z -> y: an image from latents.

    post_quant_conv where there is one; conv_in; residual block, attention, residual block; per level residual blocks,
    then nearest + convolution; norm + SiLU + conv_out.
    """

    def __init__(self, parameters, config):
        self.config, self.backend = config, parameters.backend
        parts, C, Z = _Parts(parameters, "decoder", config), config.channels[-1], config.latent_channels
        links = [Conv2d(parameters, "post_quant_conv", Z, Z, 1)] if config.post_quant_conv else []
        links += [parts.conv("conv_in", Z, C), *parts.middle()]
        for i, O in enumerate(reversed(config.channels)):
            name = f"up_blocks.{i}"
            for j in range(config.blocks + 1):
                links.append(parts.res_block(f"{name}.resnets.{j}", C, O))
                C = O
            if i < len(config.channels) - 1:
                links += [Upsample2x(self.backend), parts.conv(f"{name}.upsamplers.0.conv", O, O)]
        links += [parts.norm_out(C), parts.conv("conv_out", C, config.image_channels)]
        self.chain = Chain(*links)

    def forward(self, z):
        """z (N,h,w,Z) -> y (N,H,W,image_channels) in the dtype of z, cache; H and W are h and w times the factor.

        Raises ``ValueError`` for another number of channels.
        """
        y, cache = self.chain.forward(self._activation(z))
        return y.astype(z.dtype, copy=False), cache

    def predict(self, z):
        """The image alone, in a fraction of the memory."""
        return self.chain.predict(self._activation(z)).astype(z.dtype, copy=False)

    def backward(self, dy, cache):
        """dy as the image -> dz (N,h,w,Z). The cache is used up, as ``Chain.backward`` says."""
        dh = as_activation(dy, self.backend)
        return self.chain.backward(dh, cache).astype(dy.dtype, copy=False)

    def _activation(self, z):
        channels = self.config.latent_channels
        if z.ndim != 4 or z.shape[3] != channels:
            raise ValueError(f"decoder: z must have shape (N, h, w, {channels}), got {tuple(z.shape)}")
        return as_activation(z, self.backend)


class Cache(NamedTuple):
    encoder: list
    moments: Any  # (N, h, w, 2 Z), which the other part of a loss, the KL divergence, is of
    sample: Any
    decoder: list


class Autoencoder:
    """y = decoder(z), z a sample of the normal distribution that encoder(x) are the moments of."""

    def __init__(self, config, backend, dtype=np.float32, *, frozen=False):
        """``frozen``: it is to encode and decode, and has no gradients."""
        self.config, self.backend = config, backend
        self.parameters = parameters = Parameters(backend, dtype)
        self.encoder, self.decoder = Encoder(parameters, config), Decoder(parameters, config)
        parameters.allocate(frozen=frozen)

    def forward(self, x, eps):
        """x (N,H,W,image_channels), eps (N,h,w,Z) standard normal -> y as x, the cache with the ``moments`` in it.

        Raises ``ValueError`` as ``Encoder.forward`` does, and for an eps of another shape than the latents.
        """
        self._check_noise(x, eps)
        moments, encoder = self.encoder.forward(x)
        z, sample = self.backend.gaussian_sample.forward(moments, eps)
        y, decoder = self.decoder.forward(z)
        return y, Cache(encoder, moments, sample, decoder)

    def backward(self, dy, cache, add=None, *, image_only=False):
        """dy as x -> dx as x, deps as eps.

        ``add`` (N,h,w,2 Z) or None is added to the gradient of the moments: what reaches them by other ways, as from
        the KL divergence. ``image_only`` leaves out, as None, the gradient of the noise, which training has no use for.
        The caches of encoder and decoder are used up.
        """
        dz = self.decoder.backward(dy, cache.decoder)
        dmoments, deps = self.backend.gaussian_sample.backward(dz, cache.sample, moments_only=image_only)
        if add is not None:
            dmoments = dmoments + add
        return self.encoder.backward(dmoments, cache.encoder), deps

    def encode(self, x):
        """x (N,H,W,image_channels) -> moments (N,h,w,2 Z), with nothing kept for a backward."""
        return self.encoder.predict(x)

    def decode(self, z):
        """z (N,h,w,Z) -> y (N,H,W,image_channels), with nothing kept for a backward."""
        return self.decoder.predict(z)

    def _check_noise(self, x, eps):
        self.encoder.check(x)
        N, H, W, _ = x.shape
        latents = (N, H // self.config.factor, W // self.config.factor, self.config.latent_channels)
        if tuple(eps.shape) != latents:
            raise ValueError(f"autoencoder: eps must have shape {latents}, as the latents of x, got {tuple(eps.shape)}")
