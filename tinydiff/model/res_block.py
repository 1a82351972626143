"""The residual block of the DDPM/ADM U-Net, told the noise step through a time embedding; and of an autoencoder, which
has no time."""

from __future__ import annotations

from typing import Any, NamedTuple

from tinydiff.model.layers import Conv2d, Dropout, GroupNorm, Linear


class Cache(NamedTuple):
    norm1: Any
    time_emb_proj: Any  # None without time
    conv1: Any  # without its x: the output of norm1 is made again, which costs little and saves its memory
    norm2: Any
    dropped: Any  # None, and so the next, where nothing was dropped
    dropout: Any
    conv2: Any  # without its x, like conv1: what dropout left of norm2's output is made again with it
    conv_shortcut: Any  # None where C = O: the shortcut is x itself


class ResBlock:
    """y = conv2(dropout(silu(norm2(conv1(silu(norm1(x))) + time shift)))) + shortcut(x).

    With ``film`` the time does not shift conv1's output but scales and shifts norm2's: silu(norm2(h) (1 +
    scale) + shift). The shortcut is a 1x1 convolution where the width changes. conv2 starts at zero, so the
    block begins as its shortcut (Ho et al., 2020; Dhariwal and Nichol, 2021).

    Values are dropped at the rate ``dropout``, where ``forward`` is told which; ``layer`` is the number of the block in
    its model. Dropping is an op of its own and no part of group_norm, of whose kernels each would draw its numbers in
    another order of going through an image, to save one pass over an activation.

    Letters: C channels in, O channels out, E width of the time embedding, to which SiLU was already applied;
    None makes a block without time.
    """

    def __init__(self, parameters, name, C, O, E, *, groups, eps, film, dropout=0.0, layer=0):
        self.backend = parameters.backend
        self.O, self.film = O, film
        self.norm1 = GroupNorm(parameters, f"{name}.norm1", C, groups, eps, silu=True)
        self.conv1 = Conv2d(parameters, f"{name}.conv1", C, O, 3, padding=1)
        self.time_emb_proj = Linear(parameters, f"{name}.time_emb_proj", E, 2 * O if film else O) if E else None
        self.norm2 = GroupNorm(parameters, f"{name}.norm2", O, groups, eps, silu=True)
        self.dropout = Dropout(self.backend, dropout, layer)
        self.conv2 = Conv2d(parameters, f"{name}.conv2", O, O, 3, padding=1, zero=True)
        self.conv_shortcut = Conv2d(parameters, f"{name}.conv_shortcut", C, O, 1) if C != O else None

    def forward(self, x, time=None, dropped=None):
        """x (N,H,W,C), time (N,E) or None without it, dropped a ``Dropped`` or None for nothing -> y (N,H,W,O), cache."""
        h, norm1 = self.norm1.forward(x)
        modulation = time_emb_proj = None
        if self.time_emb_proj:
            modulation, time_emb_proj = self.time_emb_proj.forward(time)  # (N, O), or (N, 2 O) with film
        if self.film:
            scale, shift = modulation[:, : self.O].copy(), modulation[:, self.O :].copy()
            h, conv1 = self.conv1.forward(h)
            h, norm2 = self.norm2.forward(h, scale, shift)
        else:
            shift = None if modulation is None else modulation[:, None, None]
            h, conv1 = self.conv1.forward(h, add=shift)
            h, norm2 = self.norm2.forward(h)
        h, dropout = self.dropout.forward(h, dropped)
        residual, conv_shortcut = x, None
        if self.conv_shortcut:
            residual, conv_shortcut = self.conv_shortcut.forward(x)
        y, conv2 = self.conv2.forward(h, add=residual)
        conv1, conv2 = conv1._replace(x=None), conv2._replace(x=None)
        return y, Cache(norm1, time_emb_proj, conv1, norm2, dropped, dropout, conv2, conv_shortcut)

    def backward(self, dy, cache):
        """dy (N,H,W,O) -> dx (N,H,W,C), dtime (N,E) or None."""
        dh, dresidual = self.conv2.backward(dy, cache.conv2._replace(x=self._into_conv2(cache)))
        dx_shortcut = dresidual
        if self.conv_shortcut:
            dx_shortcut, _ = self.conv_shortcut.backward(dresidual, cache.conv_shortcut)
        dh = self.dropout.backward(dh, cache.dropout)
        dh, dscale, dshift = self.norm2.backward(dh, cache.norm2)
        dh, dadd = self.conv1.backward(dh, cache.conv1._replace(x=self.norm1.again(cache.norm1)))
        if self.film:
            dmodulation = self.backend.empty((len(dy), 2 * self.O), dy.dtype)
            dmodulation[:, : self.O], dmodulation[:, self.O :] = dscale, dshift
        elif self.time_emb_proj:
            dmodulation = dadd.reshape(len(dy), self.O)
        dtime = self.time_emb_proj.backward(dmodulation, cache.time_emb_proj) if self.time_emb_proj else None
        dx, _, _ = self.norm1.backward(dh, cache.norm1, add=dx_shortcut)
        return dx, dtime

    def _into_conv2(self, cache):
        """What conv2 took in the forward that made this cache, computed once more, to the same bits."""
        return self.dropout.forward(self.norm2.again(cache.norm2), cache.dropped)[0]
