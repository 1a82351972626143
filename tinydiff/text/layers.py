"""What the encoders are made of: layers of ``tinydiff.model``, of which only the forward is used."""

from __future__ import annotations

import numpy as np

from tinydiff.model.layers import Linear

ACTIVATIONS = {  # transformers' names of the forms of gelu
    "gelu": "exact",
    "gelu_new": "tanh",
    "gelu_pytorch_tanh": "tanh",
    "quick_gelu": "quick",
}


class SelfAttention:
    """Tokens (N, M, C) -> tokens; ``names`` are those of the four projections."""

    def __init__(self, parameters, names, C, heads):
        self.backend, self.D = parameters.backend, C // heads
        self.to_q, self.to_k, self.to_v, self.to_out = (Linear(parameters, name, C, C) for name in names)

    def forward(self, x, length, causal):
        heads = lambda tokens: tokens.reshape(*tokens.shape[:2], -1, self.D)
        q, k, v = (heads(each.forward(x)[0]) for each in (self.to_q, self.to_k, self.to_v))
        mixed, _ = self.backend.attention.forward(q, k, v, length, causal=causal)
        return self.to_out.forward(mixed.reshape(x.shape))[0]


class FeedForward:
    """Tokens (N, M, C) -> tokens, through a layer of another width; ``names`` are those of the two layers."""

    def __init__(self, parameters, names, C, width, activation):
        self.backend, self.form = parameters.backend, ACTIVATIONS[activation]
        self.first, self.second = Linear(parameters, names[0], C, width), Linear(parameters, names[1], width, C)

    def forward(self, x):
        h, _ = self.first.forward(x)
        h, _ = self.backend.gelu.forward(h, form=self.form)
        return self.second.forward(h)[0]


def embedded(table, ids):
    """A ``ClassEmbedding`` of ids (N, M) -> (N, M, C)."""
    return table.forward(ids.reshape(-1))[0].reshape(*ids.shape, -1)


def positions(table, ids):
    """A ``ClassEmbedding`` of the places of ids (N, M) -> (N, M, C)."""
    N, M = ids.shape
    return embedded(table, table.backend.asarray(np.tile(np.arange(M), (N, 1))))
