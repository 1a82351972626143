"""philox: random numbers as a pure function of who asks for them, with no generator state.

A counter-based generator encrypts a counter; the ciphertext is the random number. The key is the seed and
the counter says which number is meant, so a sample's noise does not depend on the batch it is drawn in, on
the number of threads, or on what was drawn before, and a resumed run needs no saved state.

Philox4x32-10. Four 32-bit words `c0 .. c3` and a 64-bit key `k0, k1` go through ten rounds of
    hi0, lo0 = 0xD2511F53 c0                                        the two halves of a 64-bit product
    hi1, lo1 = 0xCD9E8D57 c2
    c0, c1, c2, c3 = hi1 xor c1 xor k0, lo1, hi0 xor c3 xor k1, lo0
    k0, k1 = k0 + 0x9E3779B9, k1 + 0xBB67AE85                       after each round, modulo `2^32`

Here the counter is (element block, draw, sample, purpose): block `b` holds elements `4b .. 4b+3` of a sample. A purpose
is told by the lowest 8 bits of its word; ``dropout`` puts the number of the layer above them, and holds other elements
in its blocks.

    uniform = (floor(word / 2^9) + 1/2) 2^-23         in `(0, 1)`, never 0 or 1, exact in float32 on every machine
    normal  = sqrt(-2 log u0) cos(2 pi u1)            and with sin: Box-Muller on the words in pairs

The data are random numbers, so there is no backward and no cache.
Cost: about 80 integer operations per four numbers.
Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011; Box and Muller, 1958.
"""

from __future__ import annotations

import math
import operator

import numpy as np

from tinydiff.ops import contract

ROUNDS = 10
MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85
WORD = np.uint64(0xFFFFFFFF)
WORD_BITS = np.uint64(32)
SAMPLES = 2**32  # that a counter tells apart

KINDS = ("bits", "uniform", "normal")

# What numbers are drawn for. Streams of different purpose never meet; a purpose keeps its number for ever.
PURPOSES = {
    "init": 0,  # a parameter's initial values; sample = the parameter's index
    "order": 1,  # the order of an epoch (see draw_batch); sample = round, draw = epoch
    "label_drop": 2,  # which samples train without their label; draw = training step
    "step": 3,  # the noise steps of a batch, from its first sample; draw = training step
    "noise": 4,  # the noise of a training sample; draw = training step
    "start": 5,  # the noise a sampler starts from; draw = 0
    "sampler": 6,  # the noise a sampler adds as it goes; draw = sampler step
    "data": 7,  # synthetic data sets; sample = the item's index
    "dropout": 8,  # what a layer drops (see dropout); sample = place in the batch, draw = training step
    "flip": 9,  # which images are mirrored (see corrupt); sample and draw likewise
    "latent": 10,  # the sample of an image's latents (see gaussian_sample); sample and draw likewise
    "guidance": 11,  # with which a student's training sample is guided; sample and draw likewise
}
PURPOSE_BITS = 8  # of the counter's last word; what stands above them tells streams of one purpose apart


def forward(seed, purpose, sample, draw, shape, *, kind, dtype=np.float32):
    """Random numbers for each sample -> array (N, *shape).

    seed     the key, an integer in [0, 2^64)
    purpose  what the numbers are for, a key of ``PURPOSES``
    sample   (N,) integers in [0, 2^32), the index of each sample in its data set or request
    draw     which draw for that sample (the training step, the sampler's step), an integer in [0, 2^32)
    shape    of one sample's numbers
    kind     "bits" (uint32), "uniform" in (0, 1) or "normal" (mean 0, variance 1)
    dtype    of uniforms and normals

    Seed and draw may be one-element arrays. Raises ``ValueError`` for an unknown kind or purpose, or an
    integer out of range.
    """
    seed, draw = check(seed, purpose, sample, draw, kind)
    shape = tuple(shape)
    elements = math.prod(shape)
    blocks = -(-elements // 4)

    counter = (
        np.arange(blocks, dtype=np.uint64)[None, :],
        np.uint64(draw),
        sample.astype(np.uint64)[:, None],
        np.uint64(PURPOSES[purpose]),
    )
    words = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))  # four of (N, blocks)
    if kind == "normal":
        numbers = _box_muller(*words)
    else:
        numbers = words if kind == "bits" else [_uniform(word) for word in words]
    numbers = np.stack(numbers, axis=-1).reshape(len(sample), 4 * blocks)[:, :elements]
    return numbers.reshape(len(sample), *shape).astype(np.uint32 if kind == "bits" else dtype)


def check(seed, purpose, sample, draw, kind):
    """Check the arguments of ``forward``; return seed and draw as integers."""
    check_kinds(purpose, sample, kind)
    if sample.min() < 0 or sample.max() >= SAMPLES:
        raise ValueError(f"philox: sample must lie in [0, 2^32), got {sample.min()} .. {sample.max()}")
    return integer("seed", seed, 64), integer("draw", draw, 32)


def check_kinds(purpose, sample, kind):
    """Check what can be checked of the arguments without their values."""
    if purpose not in PURPOSES:
        raise ValueError(f"philox: purpose must be one of {', '.join(PURPOSES)}, got {purpose!r}")
    if kind not in KINDS:
        raise ValueError(f"philox: kind must be one of {', '.join(KINDS)}, got {kind!r}")
    contract.expect_integers("philox", "sample", sample)


def philox4x32(counter, key):
    """Encrypt a counter of four broadcastable uint64 arrays that hold 32-bit words, under two 32-bit keys."""
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(word, np.uint64) for word in counter))
    k0, k1 = key
    for _ in range(ROUNDS):
        product_0, product_1 = MULTIPLIER_0 * c0, MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (
            (product_1 >> WORD_BITS) ^ c1 ^ np.uint64(k0),
            product_1 & WORD,
            (product_0 >> WORD_BITS) ^ c3 ^ np.uint64(k1),
            product_0 & WORD,
        )
        k0, k1 = (k0 + WEYL_0) & 0xFFFFFFFF, (k1 + WEYL_1) & 0xFFFFFFFF
    return c0, c1, c2, c3


def _uniform(word):
    return ((word >> np.uint64(9)).astype(np.float64) + 0.5) * 2.0**-23


def _box_muller(word_0, word_1, word_2, word_3):
    normals = []
    for word_r, word_a in ((word_0, word_1), (word_2, word_3)):
        radius = np.sqrt(-2.0 * np.log(_uniform(word_r)))
        angle = 2.0 * np.pi * _uniform(word_a)
        normals += [radius * np.cos(angle), radius * np.sin(angle)]
    return normals


def integer(name, value, bits, op="philox"):
    """``value``, a number or an array of one, as an integer. Raises ``ValueError`` outside [0, 2^bits)."""
    try:
        integer = operator.index(value if isinstance(value, int) else np.asarray(value).reshape(()).item())
    except (TypeError, ValueError):
        integer = -1
    if not 0 <= integer < 2**bits:
        raise ValueError(f"{op}: {name} must be an integer in [0, 2^{bits}), got {value!r}")
    return integer
