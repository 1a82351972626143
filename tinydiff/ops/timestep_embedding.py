"""timestep_embedding: the noise step as sines and cosines of geometrically spaced frequencies.

Letters: N batch, E width (even), `half = E/2`.

Forward
    frequency[k] = 10000^(-k/half)                         for `k = 0 .. half - 1`
    y[n] = [sin(step[n] frequency), cos(step[n] frequency)]

The steps are data, not parameters, so there is no backward and no cache. A step may lie between two
integers, as when a sampler asks for a noise level between two of the schedule's.

Cost: `2 N half` transcendental functions; negligible.
Source: Vaswani et al., 2017, section 3.5; the order [sin, cos] is that of Ho et al., "Denoising diffusion
probabilistic models", 2020 (published diffusers weights use [cos, sin]).
"""

from __future__ import annotations

import numpy as np

from tinydiff.ops import contract

MAX_PERIOD = 10000.0


def forward(step, *, width):
    """step (N,) floats, 0 <= step -> y (N, width) of the same dtype.

    Raises ``ValueError`` for a width that is odd or below 2.
    """
    check(step, width)
    half = width // 2
    frequency = MAX_PERIOD ** (-np.arange(half, dtype=np.float64) / half)
    # float64 until after the sine: a float32 angle of 999 radians is already off by 3e-5
    angle = step.astype(np.float64)[:, None] * frequency
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(step.dtype)


def check(step, width):
    """Check the arguments of ``forward``."""
    contract.bind("timestep_embedding", step=(step, "N"))
    if not isinstance(width, int) or width < 2 or width % 2:
        raise ValueError(f"timestep_embedding: width must be an even integer of at least 2, got {width!r}")
