"""draw_batch: which images a training step sees, at which noise steps, and which of them without their label.

Letters: n images in the data set, N batch, T noise steps, K classes; `number = 1, 2, ...` is the training step, `slot =
0 .. N-1` the place in the batch.

Forward
    position = (number - 1) N + slot
    index    = order(position div n)[position mod n]         one epoch after another, each in an order of its own
    step     = floor(T ((u + slot / N) mod 1))               `u`: one uniform number for the whole batch
    label    = labels[index]                                 or `K`, where a uniform number of the slot is
                                                             below ``dropout``

The noise steps lie at equal strides from one random place, so that every batch spans them all and the loss varies less
from batch to batch; each is still uniform. The label `K` stands for "no class".

The order of an epoch is a permutation that can be asked for one place at a time: nothing is sorted, nothing is kept
from step to step, and `N` threads draw a batch in no more than a moment. It is a Feistel network over numbers of `2 h`
bits, `4^h >= n`, whose round function is ``philox``:
    left, right = right, left xor (word mod 2^h)             6 rounds; ``word`` is the first that ``philox``
                                                             gives for block `right`, draw `epoch`, sample
                                                             `round`, purpose "order"
Each round can be undone, so no two places meet; a result of `n` or more goes through the network again ("cycle
walking"), which ends, as a permutation leads back below `n` in the end.

There is no gradient, so no backward and no cache.

Cost: a few thousand integer operations a sample.
Source: Kingma et al., "Variational diffusion models", 2021, I.1 (strides); Black and Rogaway, "Ciphers with arbitrary
finite domains", 2002 (the permutation).
"""

from __future__ import annotations

import numpy as np

from tinydiff.ops import contract, philox

ROUNDS = 6


def forward(labels, number, *, batch, noise_steps, classes, dropout, seed):
    """labels (n,), number (1,) integers -> index (N,), step (N,), labels (N,) or None, all int64.

    labels       of the whole data set; their values lie in [0, classes)
    number       of the training step: 1, 2, ...
    batch        N
    noise_steps  T
    classes      K; 0 for a model without classes, which gets no labels
    dropout      how often to replace a label by K, in [0, 1]
    seed         an integer in [0, 2^64)

    Raises ``ValueError`` for arrays that are not integers, or sizes out of range.
    """
    seed = check(labels, number, batch, noise_steps, classes, dropout, seed)
    slot, draw = np.arange(batch), int(number[0])
    index = index_of(draw, slot, batch, len(labels), seed)

    def uniform(purpose, sample):
        return philox.forward(seed, purpose, sample, draw, (), kind="uniform")

    along = (uniform("step", slot[:1]) + (slot / batch).astype(np.float32)) % 1
    step = (along * noise_steps).astype(np.int64)
    if not classes:
        return index, step, None
    dropped = uniform("label_drop", slot) < dropout
    return index, step, np.where(dropped, classes, labels[index]).astype(np.int64)


def index_of(number, slot, batch, n, seed):
    """Which of n images a training step, number, sees at these places of its batch, (N,) integers -> (N,)."""
    epoch, place = np.divmod((number - 1) * batch + slot, n)
    return shuffled(place, epoch, n, seed)


def shuffled(place, epoch, n, seed):
    """What stands at each place, (N,) in [0, n), in the order of that epoch, (N,); of a permutation of 0 .. n-1."""
    half = half_bits(n)
    index, outside = place.copy(), np.ones(len(place), bool)
    while outside.any():
        left, right = index[outside] >> half, index[outside] & (1 << half) - 1
        for round in range(ROUNDS):
            counter = right, epoch[outside], round, philox.PURPOSES["order"]
            word = philox.philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))[0].astype(np.int64)
            left, right = right, left ^ word & (1 << half) - 1
        index[outside] = left << half | right
        outside = index >= n
    return index


def half_bits(n):
    """The smallest h of at least 1 with 4^h >= n."""
    return max(1, ((n - 1).bit_length() + 1) // 2)


def check(labels, number, batch, noise_steps, classes, dropout, seed):
    """Check the arguments of ``forward``; return the seed as an integer."""
    contract.expect_integers("draw_batch", "labels", labels, "n")
    contract.expect_integers("draw_batch", "number", number, "1")
    for name, value, low in (("batch", batch, 1), ("noise_steps", noise_steps, 1), ("classes", classes, 0)):
        if value < low:
            raise ValueError(f"draw_batch: {name} must be at least {low}, got {value}")
    if not 0 <= dropout <= 1:
        raise ValueError(f"draw_batch: dropout must lie in [0, 1], got {dropout}")
    return philox.integer("seed", seed, 64, op="draw_batch")
