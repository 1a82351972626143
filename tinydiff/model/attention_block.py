"""Self-attention over the pixels of an activation, with a residual around it."""

from __future__ import annotations

from typing import Any, NamedTuple

from tinydiff.model.layers import GroupNorm, Linear


class Cache(NamedTuple):
    group_norm: Any
    to_q: Any
    to_k: Any
    to_v: Any
    attention: Any
    to_out: Any


class AttentionBlock:
    """y = x + to_out(attention(to_q(h), to_k(h), to_v(h))) with h = group_norm(x), pixels as tokens.

    Letters: C channels, A = C / D heads of width D, L = H W tokens. to_out starts at zero, so the block
    begins as the identity.
    """

    def __init__(self, parameters, name, C, *, head_width, groups, eps):
        if C % head_width:
            raise ValueError(f"head_width must divide the {C} channels it attends over, got {head_width}")
        self.backend = parameters.backend
        self.A, self.D = C // head_width, head_width
        self.group_norm = GroupNorm(parameters, f"{name}.group_norm", C, groups, eps)
        self.to_q = Linear(parameters, f"{name}.to_q", C, C)
        self.to_k = Linear(parameters, f"{name}.to_k", C, C)
        self.to_v = Linear(parameters, f"{name}.to_v", C, C)
        self.to_out = Linear(parameters, f"{name}.to_out.0", C, C, zero=True)

    def forward(self, x):
        """x (N,H,W,C) -> y (N,H,W,C), cache."""
        N, H, W, C = x.shape
        heads = (N, H * W, self.A, self.D)
        h, group_norm = self.group_norm.forward(x)
        tokens = h.reshape(N, H * W, C)
        q, to_q = self.to_q.forward(tokens)
        k, to_k = self.to_k.forward(tokens)
        v, to_v = self.to_v.forward(tokens)
        mixed, attention = self.backend.attention.forward(q.reshape(heads), k.reshape(heads), v.reshape(heads))
        out, to_out = self.to_out.forward(mixed.reshape(N, H * W, C))
        return x + out.reshape(x.shape), Cache(group_norm, to_q, to_k, to_v, attention, to_out)

    def backward(self, dy, cache):
        """dy (N,H,W,C) -> dx (N,H,W,C)."""
        N, H, W, C = dy.shape
        tokens = (N, H * W, C)
        dmixed = self.to_out.backward(dy.reshape(tokens), cache.to_out)
        dq, dk, dv, _ = self.backend.attention.backward(dmixed.reshape(N, H * W, self.A, self.D), cache.attention)
        through_v = self.to_v.backward(dv.reshape(tokens), cache.to_v)
        through_k = self.to_k.backward(dk.reshape(tokens), cache.to_k)
        through_q = self.to_q.backward(dq.reshape(tokens), cache.to_q)
        dtokens = through_v + through_k + through_q
        through_residual = dy
        dx, _, _ = self.group_norm.backward(dtokens.reshape(dy.shape), cache.group_norm, add=through_residual)
        return dx
