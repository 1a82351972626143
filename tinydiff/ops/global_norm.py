"""global_norm: the length of all gradients taken as one vector, by which training clips them.

Forward
    norm = sqrt(sum_p grads[p]^2)

Nothing is trained through it, so there is no backward and no cache. A gradient that is infinite or NaN makes
the norm so, as does one whose square overflows.

Cost: memory-bound; reads every gradient once.
Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013.
"""

from __future__ import annotations

import numpy as np

from tinydiff.ops import contract


def forward(grads):
    """grads (P,) -> norm (1,)."""
    check(grads)
    return np.sqrt(grads @ grads).reshape(1)


def check(grads):
    """Check the arguments of ``forward``."""
    contract.bind("global_norm", grads=(grads, "P"))
