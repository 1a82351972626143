"""The U-Net of DDPM and ADM, with its backward written out.

Parameter names and arithmetic are those of diffusers' ``UNet2DModel``, so weights go both ways by
transposes (and one row permutation for its [cos, sin] step embedding).
Source: Ho et al., 2020, appendix B; Dhariwal and Nichol, 2021.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator
from typing import Any, NamedTuple

import numpy as np

from tinydiff.model.attention_block import AttentionBlock
from tinydiff.model.embedding import StepEmbedding
from tinydiff.model.fields import expect_levels, expect_types
from tinydiff.model.layers import Conv2d, GroupNorm, as_activation
from tinydiff.model.parameters import Parameters
from tinydiff.model.res_block import ResBlock
from tinydiff.model.transformer_block import Transformer


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """The shape of a U-Net. ``channels`` names the width of each level; the image halves between levels.

    As it stands here: 15,725,441 parameters.
    """

    size: int = 28  # height and width of the images
    image_channels: int = 1
    channels: tuple[int, ...] = (64, 128, 256)
    blocks: int = 2  # residual blocks a level on the way down; one more on the way up
    attention_levels: tuple[int, ...] = (-1,)  # levels with attention after each block, -1 the lowest; the middle
    # always has attention
    head_width: int = 64  # one head of the full width where a level is narrower
    classes: int = 10  # 0: no class conditioning
    groups: int = 32
    eps: float = 1e-5
    film: bool = False  # time as scale and shift instead of shift alone
    downsample_padding: int = 1  # 1: symmetric; 0: one row and column after, none before
    positions: int = 0  # frequencies, along each axis, of the waves beside the image that tell conv_in where it is
    dropout: float = 0.0  # how often a value is dropped before the last convolution of a residual block, in training
    context_width: int = 0  # of the tokens of a text that all attention looks at too; 0: there is no text
    transformer_depth: int = 1  # transformer blocks, one after another, wherever there is attention to a text
    heads: tuple[int, ...] = ()  # of attention, at each level, in place of head_width; (): it says
    guidance_width: int = 0  # of the waves that tell it with which guidance it draws; 0: it is not told

    def __post_init__(self):
        expect_types(self)
        expect_levels(self, "head_width")
        levels = len(self.channels)
        if self.channels[0] % 2:
            raise ValueError(f"channels must begin with an even width, got {self.channels[0]}")
        if self.transformer_depth < 1:
            raise ValueError(f"transformer_depth must be at least 1, got {self.transformer_depth}")
        for name in ("classes", "positions", "context_width", "guidance_width"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.guidance_width % 2:
            raise ValueError(f"guidance_width must be even, got {self.guidance_width}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        if any(level not in range(-levels, levels) for level in self.attention_levels):
            raise ValueError(f"attention_levels must lie in [{-levels}, {levels}), got {self.attention_levels}")
        if len(self.heads) not in (0, levels) or any(
            heads < 1 or C % heads and (self.has_attention(i) or i == levels - 1)
            for i, (C, heads) in enumerate(zip(self.channels, self.heads))
        ):
            raise ValueError(f"heads must be one number a level that divides its width, got {self.heads}")
        if self.downsample_padding not in (0, 1):
            raise ValueError(f"downsample_padding must be 0 or 1, got {self.downsample_padding}")

    @property
    def shape(self):
        """Of one image."""
        return (self.size, self.size, self.image_channels)

    def has_attention(self, level):
        """Whether the blocks of a level, counted from 0, are followed by attention."""
        return level in self.attention_levels or level - len(self.channels) in self.attention_levels

    def head_width_at(self, level):
        """That of attention at a level, counted from 0."""
        width = self.channels[level]
        return width // self.heads[level] if self.heads else min(self.head_width, width)

    @property
    def factor(self):
        """By how much the lowest level is smaller than the image."""
        return 2 ** (len(self.channels) - 1)


def position_waves(size, count):
    """sin and cos of k pi u / 2, k = 1 .. count, for u from -1 at one edge to 1 at the other, along the width and along
    the height: (1, size, size, 4 count).

    A convolution does the same everywhere; with these beside the image it can do something else at each place, such as
    looking for a stroke where the class has one. Source: Liu et al., "An intriguing failing of convolutional neural
    networks and the CoordConv solution", 2018, with waves for its ramps.
    """
    angle = np.linspace(-1, 1, size)[:, None] * (np.pi / 2 * np.arange(1, count + 1))
    waves = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    shape = (size, size, 2 * count)
    along_width, along_height = np.broadcast_to(waves, shape), np.broadcast_to(waves[:, None], shape)
    return np.concatenate([along_width, along_height], axis=2)[None]


class Cache(NamedTuple):
    embedding: Any
    time_silu: Any
    positions: Any  # None without them
    conv_in: Any
    down: list  # caches of the way down, in the order of the forward
    mid: tuple
    up: list  # caches of the way up, in the order of the forward
    conv_norm_out: Any
    conv_out: Any


class Level(NamedTuple):
    """One resolution on the way down or up: residual blocks, each with attention or None, then a resampling
    convolution (None at the last level)."""

    blocks: list
    resample: Any


class _Nothing(list):
    """A list that keeps nothing."""

    def append(self, item):
        pass


class UNet:
    """x, step, labels -> a prediction of the shape of x.

    Labels are those of ``config.classes``; of a model with a ``context_width`` that was given ``texts``, a
    ``transformer_block.Texts``, they say which of these each image is of.
    """

    texts = None

    def __init__(self, config, backend, dtype=np.float32, *, frozen=False):
        """``frozen``: it is to draw with, and has no gradients."""
        self.config, self.backend = config, backend
        self.parameters = parameters = Parameters(backend, dtype)
        first, last = config.channels[0], config.channels[-1]
        E = 4 * first
        norm = dict(groups=config.groups, eps=config.eps)
        numbers = itertools.count()  # of the residual blocks: runs that are resumed have the same

        def res_block(name, C, O):
            dropping = dict(dropout=config.dropout, layer=next(numbers))
            return ResBlock(parameters, name, C, O, E, film=config.film, **dropping, **norm)

        def attention(name, index):
            C, head_width = config.channels[index], config.head_width_at(index)
            if not config.context_width:
                return AttentionBlock(parameters, name, C, head_width=head_width, **norm)
            width, depth = config.context_width, config.transformer_depth
            return Transformer(parameters, name, C, width, head_width=head_width, depth=depth, groups=config.groups)

        def level(name, index, widths, O):
            return [
                (
                    res_block(f"{name}.resnets.{j}", C, O),
                    attention(f"{name}.attentions.{j}", index) if config.has_attention(index) else None,
                )
                for j, C in enumerate(widths)
            ]

        waves = backend.asarray(position_waves(config.size, config.positions), dtype)
        self.positions = as_activation(waves, backend) if config.positions else None
        channels_in = config.image_channels + 4 * config.positions
        self.conv_in = Conv2d(parameters, "conv_in", channels_in, first, 3, padding=1)
        self.embedding = StepEmbedding(parameters, first, E, config.classes, config.guidance_width)

        self.down, C, skips = [], first, [first]
        downsample_padding = 1 if config.downsample_padding else (0, 1)
        for i, O in enumerate(config.channels):
            name = f"down_blocks.{i}"
            blocks = level(name, i, [C] + [O] * (config.blocks - 1), O)
            skips += [O] * config.blocks
            resample = None
            if i < len(config.channels) - 1:
                resample = Conv2d(
                    parameters, f"{name}.downsamplers.0.conv", O, O, 3, stride=2, padding=downsample_padding
                )
                skips.append(O)
            self.down.append(Level(blocks, resample))
            C = O

        self.mid_res_1 = res_block("mid_block.resnets.0", last, last)
        self.mid_attention = attention("mid_block.attentions.0", len(config.channels) - 1)
        self.mid_res_2 = res_block("mid_block.resnets.1", last, last)

        self.up = []
        for j, O in enumerate(reversed(config.channels)):
            name, i = f"up_blocks.{j}", len(config.channels) - 1 - j
            widths = []
            for _ in range(config.blocks + 1):
                widths.append(C + skips.pop())
                C = O
            blocks = level(name, i, widths, O)
            resample = Conv2d(parameters, f"{name}.upsamplers.0.conv", O, O, 3, padding=1) if i else None
            self.up.append(Level(blocks, resample))

        self.conv_norm_out = GroupNorm(parameters, "conv_norm_out", first, silu=True, **norm)
        self.conv_out = Conv2d(parameters, "conv_out", first, config.image_channels, 3, padding=1, zero=True)
        parameters.allocate(frozen=frozen)

    @property
    def classes(self):
        """K: labels lie in [0, K], where K itself is the null label; 0 for a model without."""
        return len(self.texts.tokens) - 1 if self.texts else self.config.classes

    @property
    def takes_guidance(self):
        """Whether it is told the guidance, and need not be asked twice."""
        return self.config.guidance_width > 0

    def forward(self, x, step, labels=None, dropped=None, context=None, guidance=None):
        """x (N,H,W,image_channels), step (N,) floats, labels (N,) integers -> prediction as x, cache.

        Labels lie in [0, classes]; ``classes`` itself is the null label. They are None for a model without
        classes. ``dropped``, a ``layers.Dropped``, says what a training step drops; without it nothing is.
        ``context``, a ``transformer_block.Context``, is what a model with a ``context_width`` looks at, where labels do not
        choose one of its ``texts``. ``guidance`` (N,) floats goes to a model with a ``guidance_width``.
        Raises ``ValueError`` for an image of another size or number of channels, and for a context that does not fit.
        """
        return self._forward(x, step, labels, dropped, context, guidance, keep=True)

    def predict(self, x, step, labels=None, context=None, guidance=None):
        """The prediction alone. What only a backward would need is let go as soon as a block is done with it, so
        that drawing samples takes a fraction of the memory of training."""
        return self._forward(x, step, labels, None, context, guidance, keep=False)[0]

    def _forward(self, x, step, labels, dropped, context, guidance, keep):
        if self.texts and context is None:
            context, labels = self.texts.chosen(labels, self.backend), None
        self._check(x, context)
        looked_at = () if context is None else (as_activation(context.tokens, self.backend), context.length)
        embedding, embedding_cache = self.embedding.forward(step, labels, guidance)
        time, time_silu = self.backend.silu.forward(embedding)

        h, positions = as_activation(x, self.backend), None
        if self.positions is not None:
            waves = self.backend.repeat(self.positions, len(x))
            h, positions = self.backend.concat.forward(h, waves)
        h, conv_in = self.conv_in.forward(h)
        skips = [h]

        down = [] if keep else _Nothing()
        for blocks, downsample in self.down:
            for res_block, attention in blocks:
                h, cache = res_block.forward(h, time, dropped)
                down.append(cache)
                if attention:
                    h, cache = attention.forward(h, *looked_at)
                    down.append(cache)
                skips.append(h)
            if downsample:
                h, cache = downsample.forward(h)
                down.append(cache)
                skips.append(h)

        h, mid_res_1 = self.mid_res_1.forward(h, time, dropped)
        h, mid_attention = self.mid_attention.forward(h, *looked_at)
        h, mid_res_2 = self.mid_res_2.forward(h, time, dropped)

        up = [] if keep else _Nothing()
        for blocks, upsample in self.up:
            for res_block, attention in blocks:
                h, cache = self.backend.concat.forward(h, skips.pop())
                up.append(cache)
                h, cache = res_block.forward(h, time, dropped)
                up.append(cache)
                if attention:
                    h, cache = attention.forward(h, *looked_at)
                    up.append(cache)
            if upsample:
                h, cache = self.backend.upsample2x.forward(h)
                up.append(cache)
                h, cache = upsample.forward(h)
                up.append(cache)

        h, conv_norm_out = self.conv_norm_out.forward(h)
        y, conv_out = self.conv_out.forward(h)
        mid = (mid_res_1, mid_attention, mid_res_2)
        cache = Cache(embedding_cache, time_silu, positions, conv_in, down, mid, up, conv_norm_out, conv_out)
        return y.astype(x.dtype, copy=False), cache

    def backward(self, dy, cache):
        """dy as the prediction -> dx as x, None, None (step and labels have no gradient, nor is a context given one: it
        comes from an encoder that is frozen).

        The forward from its last line to its first. Where the forward read a value twice (h goes on and
        is kept as a skip; time enters every block), the backward adds the gradients of both uses.

        The cache is used up: what a block kept is let go as soon as its gradients are known, so the gradients on
        their way down take the place of activations. A second backward needs a second forward.
        """
        dh, _ = self.conv_out.backward(as_activation(dy, self.backend), cache.conv_out)
        dh, _, _ = self.conv_norm_out.backward(dh, cache.conv_norm_out)
        dtimes, dskips = [], []

        for blocks, upsample in reversed(self.up):
            if upsample:
                dh, _ = upsample.backward(dh, cache.up.pop())
                dh = self.backend.upsample2x.backward(dh, cache.up.pop())
            for res_block, attention in reversed(blocks):
                if attention:
                    dh = _back_through(attention, dh, cache.up.pop())
                dh, dtime_block = res_block.backward(dh, cache.up.pop())
                dtimes.append(dtime_block)
                dh, dskip = self.backend.concat.backward(dh, cache.up.pop())
                dskips.append(dskip)

        mid_res_1, mid_attention, mid_res_2 = cache.mid
        dh, dtime_block = self.mid_res_2.backward(dh, mid_res_2)
        dtimes.append(dtime_block)
        dh = _back_through(self.mid_attention, dh, mid_attention)
        dh, dtime_block = self.mid_res_1.backward(dh, mid_res_1)
        dtimes.append(dtime_block)

        for blocks, downsample in reversed(self.down):
            if downsample:
                dh = dh + dskips.pop()
                dh, _ = downsample.backward(dh, cache.down.pop())
            for res_block, attention in reversed(blocks):
                dh = dh + dskips.pop()
                if attention:
                    dh = _back_through(attention, dh, cache.down.pop())
                dh, dtime_block = res_block.backward(dh, cache.down.pop())
                dtimes.append(dtime_block)

        dh = dh + dskips.pop()
        dx, _ = self.conv_in.backward(dh, cache.conv_in)
        if self.positions is not None:
            dx, _ = self.backend.concat.backward(dx, cache.positions)

        dtime = functools.reduce(operator.add, dtimes)
        dembedding = self.backend.silu.backward(dtime, cache.time_silu)
        dstep, dlabels = self.embedding.backward(dembedding, cache.embedding)
        return dx.astype(dy.dtype, copy=False), dstep, dlabels

    def _check(self, x, context):
        factor, channels = self.config.factor, self.config.image_channels
        if x.ndim != 4 or x.shape[1] % factor or x.shape[2] % factor or x.shape[3] != channels:
            raise ValueError(
                f"unet: x must have shape (N, H, W, {channels}) with H and W divisible by {factor}, got {tuple(x.shape)}"
            )
        if self.positions is not None and x.shape[1:3] != self.positions.shape[1:3]:
            raise ValueError(f"unet: x must be of {self.config.size}x{self.config.size} pixels, got {tuple(x.shape)}")
        if (context is None) != (self.config.context_width == 0):
            wanted = f"of width {self.config.context_width}" if self.config.context_width else "None"
            raise ValueError(f"unet: context must be {wanted}, got {'None' if context is None else 'one'}")
        if context is not None:
            N, width, shape = len(x), self.config.context_width, tuple(context.tokens.shape)
            if len(shape) != 3 or (shape[0], shape[2]) != (N, width):
                raise ValueError(f"unet: context must have tokens ({N}, M, {width}), got {shape}")


def _back_through(attention, dh, cache):
    """dh before attention, of either kind."""
    dx = attention.backward(dh, cache)
    return dx[0] if isinstance(attention, Transformer) else dx
