"""What lets pixels look at a text: self-attention, cross-attention and a gated linear layer, each with a residual around it.

Parameter names and arithmetic are those of diffusers' ``BasicTransformerBlock`` and ``Transformer2DModel``.
Source: Rombach et al., "High-resolution image synthesis with latent diffusion models", 2022, section 3.3; Vaswani et al.,
"Attention is all you need", 2017.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tinydiff.model.layers import GroupNorm, LayerNorm, Linear

NORM_EPS = 1e-6  # of the group norm, whatever that of the other norms is


class Context(NamedTuple):
    """What a model looks at beside its images: the tokens of a text, as a frozen encoder has them."""

    tokens: Any  # (N, M, width)
    length: Any = None  # (N,) integers, how many of a sample's tokens are there, the rest is padding; None: all of them


class Texts(NamedTuple):
    """Contexts to be chosen by a label, arrays of a backend; the last, of the label "no text", is that of an empty one."""

    tokens: Any  # (K + 1, M, width)
    length: Any = None  # (K + 1,) int64, or None

    def chosen(self, labels, backend):
        """The ``Context`` of labels (N,) in [0, K]."""
        length = None if self.length is None else backend.take(self.length, labels)
        return Context(backend.take(self.tokens, labels), length)


class AttentionCache(NamedTuple):
    to_q: Any
    to_k: Any
    to_v: Any
    attention: Any
    to_out: Any


class Attention:
    """y = to_out(attention(to_q(x), to_k(context), to_v(context))), tokens (N, L, C); context (N, M, width) may be x itself.

    Letters: A = C / D heads of width D. Queries, keys and values have no bias.
    """

    def __init__(self, parameters, name, C, width, *, head_width):
        if C % head_width:
            raise ValueError(f"head_width must divide the {C} channels it attends over, got {head_width}")
        self.backend = parameters.backend
        self.D = head_width
        self.to_q = Linear(parameters, f"{name}.to_q", C, C, bias=False)
        self.to_k = Linear(parameters, f"{name}.to_k", width, C, bias=False)
        self.to_v = Linear(parameters, f"{name}.to_v", width, C, bias=False)
        self.to_out = Linear(parameters, f"{name}.to_out.0", C, C)

    def forward(self, x, context, length=None):
        """x (N,L,C), context (N,M,width), length (N) of it or None for all -> y (N,L,C), cache."""
        q, to_q = self.to_q.forward(x)
        k, to_k = self.to_k.forward(context)
        v, to_v = self.to_v.forward(context)
        mixed, attention = self.backend.attention.forward(*map(self._heads, (q, k, v)), length)
        y, to_out = self.to_out.forward(mixed.reshape(x.shape))
        return y, AttentionCache(to_q, to_k, to_v, attention, to_out)

    def backward(self, dy, cache):
        """dy (N,L,C) -> dx (N,L,C), dcontext (N,M,width), None."""
        dmixed = self.to_out.backward(dy, cache.to_out)
        dq, dk, dv, _ = self.backend.attention.backward(self._heads(dmixed), cache.attention)
        tokens = lambda d: d.reshape(*d.shape[:2], -1)
        through_v = self.to_v.backward(tokens(dv), cache.to_v)
        through_k = self.to_k.backward(tokens(dk), cache.to_k)
        return self.to_q.backward(tokens(dq), cache.to_q), through_v + through_k, None

    def _heads(self, tokens):
        """(N, T, C) -> (N, T, A, D)."""
        return tokens.reshape(*tokens.shape[:2], -1, self.D)


class BlockCache(NamedTuple):
    norm1: Any
    attn1: Any
    norm2: Any
    attn2: Any
    norm3: Any
    proj: Any
    geglu: Any
    out: Any


class TransformerBlock:
    """h = x + attn1(norm1(x)) among the tokens;  h = h + attn2(norm2(h), context);  y = h + out(geglu(proj(norm3(h))))."""

    def __init__(self, parameters, name, C, width, *, head_width):
        self.backend = parameters.backend
        self.norm1, self.norm2, self.norm3 = (LayerNorm(parameters, f"{name}.norm{i}", C) for i in (1, 2, 3))
        self.attn1 = Attention(parameters, f"{name}.attn1", C, C, head_width=head_width)
        self.attn2 = Attention(parameters, f"{name}.attn2", C, width, head_width=head_width)
        self.proj = Linear(parameters, f"{name}.ff.net.0.proj", C, 8 * C)
        self.out = Linear(parameters, f"{name}.ff.net.2", 4 * C, C)

    def forward(self, x, context, length=None):
        """x (N,L,C), context (N,M,width), length (N) of it or None for all -> y (N,L,C), cache."""
        h, norm1 = self.norm1.forward(x)
        h, attn1 = self.attn1.forward(h, h)
        x = x + h
        h, norm2 = self.norm2.forward(x)
        h, attn2 = self.attn2.forward(h, context, length)
        x = x + h
        h, norm3 = self.norm3.forward(x)
        h, proj = self.proj.forward(h)
        h, geglu = self.backend.geglu.forward(h)
        h, out = self.out.forward(h)
        return x + h, BlockCache(norm1, attn1, norm2, attn2, norm3, proj, geglu, out)

    def backward(self, dy, cache):
        """dy (N,L,C) -> dx (N,L,C), dcontext (N,M,width), None.

        What reaches a residual's x past its branch is added where the branch's norm is gone through.
        """
        dh = self.out.backward(dy, cache.out)
        dh = self.backend.geglu.backward(dh, cache.geglu)
        dh = self.proj.backward(dh, cache.proj)
        past_feed_forward = dy
        dx = self.norm3.backward(dh, cache.norm3, add=past_feed_forward)

        dh, dcontext, _ = self.attn2.backward(dx, cache.attn2)
        past_cross_attention = dx
        dx = self.norm2.backward(dh, cache.norm2, add=past_cross_attention)

        dh, through_context, _ = self.attn1.backward(dx, cache.attn1)  # the tokens are queries, and context too
        past_self_attention = dx
        dx = self.norm1.backward(dh + through_context, cache.norm1, add=past_self_attention)
        return dx, dcontext, None


class Cache(NamedTuple):
    norm: Any
    proj_in: Any
    blocks: list
    proj_out: Any


class Transformer:
    """y = x + proj_out(blocks(proj_in(norm(x)), context)), pixels as tokens.

    proj_out starts at zero, so it begins as the identity. Both projections are linear layers on tokens, which is what a
    1x1 convolution of an image is.
    """

    def __init__(self, parameters, name, C, width, *, head_width, depth, groups):
        self.norm = GroupNorm(parameters, f"{name}.norm", C, groups, NORM_EPS)
        self.proj_in = Linear(parameters, f"{name}.proj_in", C, C)
        block = lambda i: TransformerBlock(
            parameters, f"{name}.transformer_blocks.{i}", C, width, head_width=head_width
        )
        self.blocks = [block(i) for i in range(depth)]
        self.proj_out = Linear(parameters, f"{name}.proj_out", C, C, zero=True)

    def forward(self, x, context, length=None):
        """x (N,H,W,C), context (N,M,width), length (N) of it or None for all -> y (N,H,W,C), cache."""
        N, H, W, C = x.shape
        h, norm = self.norm.forward(x)
        h, proj_in = self.proj_in.forward(h.reshape(N, H * W, C))
        blocks = []
        for block in self.blocks:
            h, cache = block.forward(h, context, length)
            blocks.append(cache)
        h, proj_out = self.proj_out.forward(h)
        return x + h.reshape(x.shape), Cache(norm, proj_in, blocks, proj_out)

    def backward(self, dy, cache):
        """dy (N,H,W,C) -> dx (N,H,W,C), dcontext (N,M,width), None."""
        N, H, W, C = dy.shape
        dh = self.proj_out.backward(dy.reshape(N, H * W, C), cache.proj_out)
        dcontext = None
        for block, block_cache in zip(reversed(self.blocks), reversed(cache.blocks)):
            dh, through_block, _ = block.backward(dh, block_cache)
            dcontext = through_block if dcontext is None else dcontext + through_block
        dh = self.proj_in.backward(dh, cache.proj_in)
        through_residual = dy
        dx, _, _ = self.norm.backward(dh.reshape(dy.shape), cache.norm, add=through_residual)
        return dx, dcontext, None
