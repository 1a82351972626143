"""Global-norm clipping over the flat gradient buffer."""

from __future__ import annotations


def clip_factor(grads, limit, backend):
    """The norm of all gradients together and the factor that limits it, as one-element arrays.

        norm = sqrt(sum g^2),   factor = min(1, limit / norm)

    The factor is applied inside ``adamw``. Both stay on the backend: nobody looks at their values here. A
    norm of 0 gives the factor 1; a norm that is infinite or NaN gives 0 or NaN, which ``adamw`` refuses.
    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """
    norm = backend.global_norm.forward(grads)
    return norm, limit / norm.clip(limit)
