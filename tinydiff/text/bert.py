"""BERT, and what was made smaller from it, such as MiniLM: a transformer of which each token sees all others.

Names and arithmetic are those of transformers' ``BertModel``, whose ``last_hidden_state`` this computes; no second
sentence is told from the first.
Source: Devlin et al., "BERT: Pre-training of deep bidirectional transformers for language understanding", 2019; Wang et
al., "MiniLM", 2020.
"""

from __future__ import annotations

from typing import NamedTuple

from tinydiff.model.layers import ClassEmbedding, LayerNorm
from tinydiff.model.parameters import Parameters
from tinydiff.text.layers import FeedForward, SelfAttention, embedded, positions


class BertConfig(NamedTuple):
    """Settings by transformers' names."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    type_vocab_size: int = 2


class BertLayer:
    """norm(x + attention(x)), then norm(x + feed_forward(x))."""

    def __init__(self, parameters, name, config):
        C, eps = config.hidden_size, config.layer_norm_eps
        names = [f"{name}.attention.{each}" for each in ("self.query", "self.key", "self.value", "output.dense")]
        self.attention = SelfAttention(parameters, names, C, config.num_attention_heads)
        self.norm1 = LayerNorm(parameters, f"{name}.attention.output.LayerNorm", C, eps)
        names = f"{name}.intermediate.dense", f"{name}.output.dense"
        self.feed_forward = FeedForward(parameters, names, C, config.intermediate_size, config.hidden_act)
        self.norm2 = LayerNorm(parameters, f"{name}.output.LayerNorm", C, eps)

    def forward(self, x, length):
        x = self.norm1.forward(x + self.attention.forward(x, length, causal=False))[0]
        return self.norm2.forward(x + self.feed_forward.forward(x))[0]


class Bert:
    """ids (N, M) and length (N), how many of them are there -> tokens (N, M, C)."""

    prefixes = ("bert.",)  # of names in files
    passed_over = ("embeddings.position_ids", "embeddings.token_type_ids", "pooler.", "cls.")
    pads_to_the_end = False

    def __init__(self, config, backend):
        self.config, self.backend = config, backend
        self.parameters = parameters = Parameters(backend)
        C = config.hidden_size
        self.tokens = ClassEmbedding(parameters, "embeddings.word_embeddings", config.vocab_size, C)
        self.places = ClassEmbedding(parameters, "embeddings.position_embeddings", config.max_position_embeddings, C)
        self.kinds = ClassEmbedding(parameters, "embeddings.token_type_embeddings", config.type_vocab_size, C)
        self.norm = LayerNorm(parameters, "embeddings.LayerNorm", C, config.layer_norm_eps)
        self.layers = [BertLayer(parameters, f"encoder.layer.{i}", config) for i in range(config.num_hidden_layers)]
        parameters.allocate(frozen=True)

    def forward(self, ids, length=None):
        """ids (N, M) integers, length (N) or None for all -> tokens (N, M, C)."""
        first = embedded(self.kinds, 0 * ids)
        x = self.norm.forward(embedded(self.tokens, ids) + first + positions(self.places, ids))[0]
        for layer in self.layers:
            x = layer.forward(x, length)
        return x
