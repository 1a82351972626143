"""dropout: values are left out at random while a model trains, and the others made larger, so that their mean stays.

Letters: N batch; M values per sample, over whatever axes they lie; `number = 1, 2, ...` is the training step.

Forward. Every value has a number of its own, `half[n, m]`, one of 65536 that are equally likely; as many of them as
threshold says drop it:
    threshold  = round(65536 rate)              but 65535 at most
    scale      = 1 / (1 - threshold / 65536)
    keep[n, m] = 1                              where `half[n, m] >= threshold`, else 0
    y[n, m]    = x[n, m] keep[n, m] scale

`keep` is 1 with the probability `1 - threshold / 65536`, exactly, so the mean of `y` over all draws is `x`: for
this the scale is made of the threshold, not of the rate, which it may miss by `2^-17`. A `rate` of 0 changes nothing.

Backward. `keep` does not depend on `x`, so each value is multiplied by what it was multiplied by:
    dx[n, m] = dy[n, m] keep[n, m] scale

The numbers are ``philox``, of (seed, layer, number, slot, m) alone: the layer is the place in the model, the slot the
place in the batch. So a backward makes `keep` again and nothing is kept; no number of parts, ranks or threads changes
it; and a run that is resumed drops what it would have dropped. A block is one call of ``philox``, for the counter
(block, number, slot, purpose), which decides eight values with the halves of its four words, the lower half first:
    block = 16 (m div 128) + m mod 16
    part  = (m div 16) mod 8                    which of its halves is `half[n, m]`

Sixteen blocks together decide 128 neighbours, each every sixteenth of them: so a vector of neighbours takes the same
half of as many neighbouring blocks, and no number changes its place.

Cost: memory-bound; one FLOP and about 12 integer operations per element.
Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014, there scaled when
nothing is dropped; in residual blocks Ho et al., "Denoising diffusion probabilistic models", 2020, appendix B.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.ops import contract, philox

CHANCES = 2**16  # the values of half a word
PARTS, APART = 8, 16  # halves of a block, and how far apart the values lie that they decide
LAYER_BITS = 24  # of the counter's last word, above the purpose


class Cache(NamedTuple):
    x_shape: tuple[int, ...]  # (N, ...): the gradient needs no values
    dtype: np.dtype
    number: np.ndarray  # (1,) integers
    slot: np.ndarray | None  # (N,) integers
    rate: float
    layer: int
    seed: int


def forward(x, number, slot=None, *, rate, layer, seed):
    """x (N, ...), number (1,), slot (N,) or None -> y of the shape of x, cache.

    number  of the training step, an integer in [0, 2^32)
    slot    the places in the batch, integers in [0, 2^32): where this is a part of it. None: 0 .. N-1
    rate    how often a value is dropped, in [0, 1)
    layer   which place in the model this is, an integer in [0, 2^24)
    seed    an integer in [0, 2^64)

    Raises ``ValueError`` for shapes that do not fit together, or a number out of its range.
    """
    seed = check(x, number, slot, rate, layer, seed)
    check_values(number, slot)
    cache = Cache(x.shape, x.dtype, number, slot, rate, layer, seed)
    return x * _factor(cache), cache


def backward(dy, cache):
    """dy -> dx of the shape of x, None, None (number and slot are integers and have no gradient)."""
    contract.expect("dropout", "dy", dy, cache.x_shape, cache.dtype)
    dx = dy * _factor(cache)
    return dx, None, None


def check(x, number, slot, rate, layer, seed):
    """Check what can be checked of the arguments of ``forward`` without the arrays' values; return the seed as an
    integer."""
    contract.bind("dropout", x=(x, "..."))
    if not x.shape:
        raise ValueError("dropout: x must have at least one axis")
    contract.expect_integers("dropout", "number", number, "1")
    if len(number) != 1:
        raise ValueError(f"dropout: number must have shape (1,), got {tuple(number.shape)}")
    if slot is not None:
        contract.expect_integers("dropout", "slot", slot)
        if len(slot) != x.shape[0]:
            raise ValueError(f"dropout: slot must have shape ({x.shape[0]},) like x, got {tuple(slot.shape)}")
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: rate must lie in [0, 1), got {rate}")
    philox.integer("layer", layer, LAYER_BITS, op="dropout")
    return philox.integer("seed", seed, 64, op="dropout")


def check_values(number, slot):
    """Check the values of number and slot; return the number as an integer."""
    if slot is not None:
        contract.expect_within("dropout", "slot", slot, philox.SAMPLES)
    return philox.integer("number", number, 32, op="dropout")


def threshold_of(rate):
    """How many of ``CHANCES`` numbers drop a value."""
    return min(round(CHANCES * rate), CHANCES - 1)


def scale_of(threshold):
    """What a value that stays is multiplied by."""
    return 1 / (1 - threshold / CHANCES)


def purpose_of(layer):
    """The last word of the counter."""
    return philox.PURPOSES["dropout"] | layer << philox.PURPOSE_BITS


def halves(number, slot, M, layer, seed):
    """The number of each value: number and layer integers, slot (N,) -> (N, M) in [0, ``CHANCES``)."""
    groups = -(-M // (PARTS * APART))
    block, slot = np.arange(groups * APART)[None, :], np.asarray(slot, np.uint64)[:, None]
    words = philox.philox4x32((block, number, slot, purpose_of(layer)), (seed & 0xFFFFFFFF, seed >> 32))
    parts = [part for word in words for part in (word & np.uint64(CHANCES - 1), word >> np.uint64(16))]
    in_groups = np.stack([part.reshape(len(slot), groups, APART) for part in parts], axis=2)
    return in_groups.reshape(len(slot), -1)[:, :M]


def _factor(cache):
    """keep scale, of the shape and the dtype of x."""
    x_shape, dtype, number, slot, rate, layer, seed = cache
    threshold, slot = threshold_of(rate), np.arange(x_shape[0]) if slot is None else slot
    half = halves(philox.integer("number", number, 32), slot, int(np.prod(x_shape[1:])), layer, seed)
    keep = half >= threshold
    return np.where(keep, scale_of(threshold), 0.0).astype(dtype).reshape(x_shape)
