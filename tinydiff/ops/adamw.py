"""adamw: clip, one optimizer step over flat buffers in place, and what follows from it, in the same pass.

Forward. With `g` the gradient, `n` the step number from 1, and `norm` the length of all gradients (``global_norm``):
    g    = g limit / max(norm, limit)                    clipping by the global norm
    m    = beta1 m + (1 - beta1) g                       the gradient's running mean
    v    = beta2 v + (1 - beta2) g^2                     the running mean of its square
    mhat = m / (1 - beta1^n),   vhat = v / (1 - beta2^n)   both start at 0; this takes the bias out
    p    = p - learning_rate (mhat / (sqrt(vhat) + eps) + weight_decay p)
    a    = a + (1 - average_decay) (p - a)               the average, if there is one
    c    = round(p)                                      to bfloat16: the copy, if there is one

The decay acts on the parameter itself, not through the moments ("decoupled"), and only on the first
``decayed`` values of the buffer: weights come first, then biases and norms. The copy is of the same values: they
are what matrix products read.

A norm that is infinite or NaN, from gradients that are not finite, makes the step do nothing, so one bad batch
never reaches the parameters.

What changes from step to step (learning rate, step number, norm, average decay) comes in one-element
arrays, because a captured graph freezes plain numbers. There is no backward and no cache.

Cost: memory-bound; reads 5 and writes 4 values per parameter with the average.
Source: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019, algorithm 2; Pascanu, Mikolov and
Bengio, "On the difficulty of training recurrent neural networks", 2013 (clipping).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tinydiff.ops import contract


class Options(NamedTuple):
    """What a step is told besides its buffers; the arrays have one element."""

    learning_rate: np.ndarray
    step_number: np.ndarray  # integers: 1, 2, ...
    norm: np.ndarray | None = None  # of all gradients; None: they are not clipped
    limit: float = math.inf  # of the norm
    average_decay: np.ndarray | None = None
    decayed: int = 0
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def clip(self):
        """The factor of the gradients, (1,): 1 where their norm keeps the limit, 0 or NaN where it is not finite."""
        if self.norm is None:
            return np.ones_like(self.learning_rate)
        return self.limit / np.maximum(self.norm, self.limit)


def forward(params, grads, mean, mean_square, average=None, copy=None, **options):
    """Update params, mean, mean_square and average (all (P,)) in place from grads (P,), which is only read.

    copy is a bfloat16 array (decayed,) to be written; the options are the fields of ``Options``. Raises
    ``ValueError`` for buffers that do not match, an average without its decay, a norm without its limit, or decayed
    outside [0, P].
    """
    options = check(params, grads, mean, mean_square, average, copy, options)
    clip, decayed, beta1, beta2 = options.clip(), options.decayed, options.beta1, options.beta2
    if not clip[0] > 0:
        return
    step = float(options.step_number[0])
    g = grads * clip
    mean *= beta1
    mean += (1 - beta1) * g
    np.square(g, out=g)
    mean_square *= beta2
    mean_square += (1 - beta2) * g

    scale = np.divide(mean_square, 1 - beta2**step, out=g)
    np.sqrt(scale, out=scale)
    scale += options.eps
    update = np.divide(mean, scale, out=scale)
    update /= 1 - beta1**step
    update[:decayed] += options.weight_decay * params[:decayed]
    update *= options.learning_rate
    params -= update

    if average is not None:
        average += (1 - options.average_decay) * (params - average)
    if copy is not None:
        copy[...] = params[:decayed]


def check(params, grads, mean, mean_square, average, copy, options):
    """Check the arguments of ``forward``; return the options, a dictionary, as ``Options``."""
    options = Options(**options)
    _, _, norm, limit, average_decay, decayed, *_ = options
    P = contract.bind(
        "adamw",
        params=(params, "P"),
        grads=(grads, "P"),
        mean=(mean, "P"),
        mean_square=(mean_square, "P"),
        average=(average, "P"),
    )["P"]
    each_step = {"learning_rate": options.learning_rate, "norm": norm, "average_decay": average_decay}
    contract.bind("adamw", **{name: (array, "1") for name, array in each_step.items()})
    contract.expect_integers("adamw", "step_number", options.step_number, "1")
    if (average is None) != (average_decay is None):
        raise ValueError("adamw: average and average_decay must be given together")
    if (norm is None) != (limit == math.inf) or not limit > 0:
        raise ValueError(f"adamw: norm and a limit above 0 must be given together, got the limit {limit}")
    if not 0 <= decayed <= P:
        raise ValueError(f"adamw: decayed must lie in [0, {P}], got {decayed!r}")
    if copy is not None and (str(copy.dtype), tuple(copy.shape)) != ("bfloat16", (decayed,)):
        raise ValueError(f"adamw: copy must be bfloat16 of shape ({decayed},), got {copy.dtype} {tuple(copy.shape)}")
    return options
