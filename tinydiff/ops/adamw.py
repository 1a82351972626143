"""adamw: one optimizer step over flat buffers, in place; optionally the running average in the same pass.

With g the gradient, n the step number from 1, and clip the factor of global-norm clipping:
    g    = clip g
    m    = beta1 m + (1 - beta1) g                       the gradient's running mean
    v    = beta2 v + (1 - beta2) g^2                     the running mean of its square
    mhat = m / (1 - beta1^n),   vhat = v / (1 - beta2^n)  both start at 0; this takes the bias out
    p    = p - learning_rate (mhat / (sqrt(vhat) + eps) + weight_decay p)
    a    = a + (1 - average_decay) (p - a)               the average, if there is one

The decay acts on the parameter itself, not through the moments ("decoupled"), and only on the first
``decayed`` values of the buffer: weights come first, then biases and norms.

A clip that is not positive (0 or NaN, from gradients that are not finite) makes the step do nothing, so one
bad batch never reaches the parameters.

What changes from step to step (learning rate, step number, clip, average decay) comes in one-element
arrays, because a captured graph freezes plain numbers. There is no backward and no cache.

Cost: memory-bound; reads 5 and writes 4 values per parameter with the average.
Source: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019, algorithm 2.
"""

from __future__ import annotations

import numpy as np

from tinydiff.ops import contract


def forward(
    params,
    grads,
    mean,
    mean_square,
    average=None,
    *,
    learning_rate,
    step_number,
    clip,
    average_decay=None,
    decayed=0,
    weight_decay=0.0,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
):
    """Update params, mean, mean_square and average (all (P,)) in place from grads (P,), which is only read.

    learning_rate, step_number (1, 2, ...), clip and average_decay are arrays of shape (1,). Raises
    ``ValueError`` for buffers that do not match, an average without its decay, or decayed outside [0, P].
    """
    check(params, grads, mean, mean_square, average, learning_rate, step_number, clip, average_decay, decayed)
    if not clip[0] > 0:
        return
    step = float(step_number[0])
    g = grads * clip
    mean *= beta1
    mean += (1 - beta1) * g
    np.square(g, out=g)
    mean_square *= beta2
    mean_square += (1 - beta2) * g

    scale = np.divide(mean_square, 1 - beta2**step, out=g)
    np.sqrt(scale, out=scale)
    scale += eps
    update = np.divide(mean, scale, out=scale)
    update /= 1 - beta1**step
    update[:decayed] += weight_decay * params[:decayed]
    update *= learning_rate
    params -= update

    if average is not None:
        average += (1 - average_decay) * (params - average)


def check(params, grads, mean, mean_square, average, learning_rate, step_number, clip, average_decay, decayed):
    """Check the arguments of ``forward``."""
    P = contract.bind(
        "adamw",
        params=(params, "P"),
        grads=(grads, "P"),
        mean=(mean, "P"),
        mean_square=(mean_square, "P"),
        average=(average, "P"),
    )["P"]
    contract.bind("adamw", learning_rate=(learning_rate, "1"), clip=(clip, "1"), average_decay=(average_decay, "1"))
    contract.expect_integers("adamw", "step_number", step_number, "1")
    if (average is None) != (average_decay is None):
        raise ValueError("adamw: average and average_decay must be given together")
    if not 0 <= decayed <= P:
        raise ValueError(f"adamw: decayed must lie in [0, {P}], got {decayed!r}")
