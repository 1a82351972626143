"""corrupt: the images of a batch lose signal and gain noise, and give what a network should predict of them.

Letters: n images in the data set, N samples, T noise steps; H W image, C channels.

Forward. For sample `i`, with `x0 = images[index[i]]`, bytes brought to `[-1, 1]`, `eps` standard normal noise of
``(seed, slot[i], draw)``, and `a, s, p, q, weight = table[step[i]]`:
    x[i]      = a x0 + s eps             signal rate and noise rate
    target[i] = p x0 + q eps             `p, q` are 0, 1 where noise is predicted, 1, 0 where the
                                         image is, `-s, a` for v
    weight[i] = weight                   of the sample's loss

With ``flip`` half of the samples are mirrored along their width: those for which `u`, one uniform number of
``(seed, slot[i], draw)`` with a purpose of its own, is below 1/2. Of them
    x0[h, w, c] = images[index[i], h, W - 1 - w, c]

Gather, conversion, noise and both sums are one pass: a kernel reads a byte an element and writes `x` and `target`, and
the noise is never in memory. There is no gradient, so no backward and no cache.

Cost: memory-bound but for the noise, about 40 operations in double precision an element.
Source: Ho et al., "Denoising diffusion probabilistic models", 2020, eq. 4.
"""

from __future__ import annotations

import numpy as np

from tinydiff.ops import contract, philox


def forward(images, index, step, table, draw, slot=None, *, seed, flip=False):
    """images (n, ...), index (N,), step (N,), table (T, 5), draw (1,), slot (N,) or None -> x (N, ...), target (N, ...),
    weight (N,).

    images  uint8 in [0, 255], or float32 used as they are
    index   integers in [0, n): which image each sample is
    step    integers in [0, T): its noise step
    table   a, s, p, q and weight of each noise step
    draw    which draw for this place in the batch: the training step, in [0, 2^32)
    slot    the places in the batch, integers in [0, 2^32): where this is a part of it. None: 0 .. N-1
    seed    an integer in [0, 2^64)
    flip    whether to mirror half of them; images are (n, H, W, C) then

    Raises ``ValueError`` for shapes or dtypes that do not fit together, or an index, step or slot out of range.
    """
    seed = check(images, index, step, table, draw, slot, seed, flip)
    check_values(images, index, step, table, slot)
    x0, slot = bytes_to_signed(images[index]), np.arange(len(index)) if slot is None else slot
    if flip:
        mirrored = philox.forward(seed, "flip", slot, draw, (), kind="uniform") < 0.5
        x0[mirrored] = x0[mirrored, :, ::-1]
    eps = philox.forward(seed, "noise", slot, draw, x0.shape[1:], kind="normal", dtype=table.dtype)
    a, s, p, q, _ = (table[step, i].reshape(-1, *[1] * (x0.ndim - 1)) for i in range(5))
    return a * x0 + s * eps, p * x0 + q * eps, table[step, 4]


def bytes_to_signed(images):
    """uint8 in [0, 255] -> float32 in [-1, 1]. Float32 data pass through."""
    if images.dtype == np.float32:
        return images
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1)


def check(images, index, step, table, draw, slot, seed, flip):
    """Check what can be checked of the arguments without the arrays' values; return the seed as an integer."""
    contract.expect_array("corrupt", "images", images)
    if images.dtype not in (np.uint8, np.float32) or images.ndim < 2 or 0 in images.shape:
        given = f"{images.dtype} {tuple(images.shape)}"
        raise ValueError(f"corrupt: images must be uint8 or float32 (n, ...) and not empty, got {given}")
    if flip and images.ndim != 4:
        raise ValueError(f"corrupt: images must be (n, H, W, C) to be flipped, got {tuple(images.shape)}")
    contract.expect_integers("corrupt", "index", index)
    contract.expect_integers("corrupt", "step", step)
    if slot is not None:
        contract.expect_integers("corrupt", "slot", slot)
    for name, array in (("step", step), ("slot", slot)):
        if array is not None and len(index) != len(array):
            raise ValueError(
                f"corrupt: {name} must have shape {tuple(index.shape)} like index, got {tuple(array.shape)}"
            )
    contract.bind("corrupt", table=(table, "T 5"))
    contract.expect_integers("corrupt", "draw", draw, "1")
    return philox.integer("seed", seed, 64, op="corrupt")


def width_and_channels(images, flip):
    """Of an image, as kernels are told what to mirror: a width of 1 for nothing."""
    return tuple(images.shape[2:]) if flip else (1, 1)


def check_values(images, index, step, table, slot):
    """Check the values of index, step and slot."""
    contract.expect_within("corrupt", "index", index, len(images))
    contract.expect_within("corrupt", "step", step, len(table))
    if slot is not None:
        contract.expect_within("corrupt", "slot", slot, philox.SAMPLES)
