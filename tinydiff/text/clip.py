"""CLIP's text model: a transformer of which each token sees those before it alone.

Names and arithmetic are those of transformers' ``CLIPTextModel``, whose ``last_hidden_state`` this computes.
Source: Radford et al., "Learning transferable visual models from natural language supervision", 2021, section 2.4.
"""

from __future__ import annotations

from typing import NamedTuple

from tinydiff.model.layers import ClassEmbedding, LayerNorm
from tinydiff.model.parameters import Parameters
from tinydiff.text.layers import FeedForward, SelfAttention, embedded, positions


class ClipConfig(NamedTuple):
    """Settings by transformers' names."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5


class ClipLayer:
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, parameters, name, config):
        C, eps = config.hidden_size, config.layer_norm_eps
        names = [f"{name}.self_attn.{each}" for each in ("q_proj", "k_proj", "v_proj", "out_proj")]
        self.norm1 = LayerNorm(parameters, f"{name}.layer_norm1", C, eps)
        self.attention = SelfAttention(parameters, names, C, config.num_attention_heads)
        self.norm2 = LayerNorm(parameters, f"{name}.layer_norm2", C, eps)
        names = f"{name}.mlp.fc1", f"{name}.mlp.fc2"
        self.feed_forward = FeedForward(parameters, names, C, config.intermediate_size, config.hidden_act)

    def forward(self, x):
        x = x + self.attention.forward(self.norm1.forward(x)[0], None, causal=True)
        return x + self.feed_forward.forward(self.norm2.forward(x)[0])


class Clip:
    """ids (N, M) -> tokens (N, M, C)."""

    prefixes = ("text_model.",)  # of names in files
    passed_over = ("embeddings.position_ids", "text_projection.", "vision_model.", "visual_projection.", "logit_scale")
    pads_to_the_end = True  # every text has as many tokens as there are places, and all of them are looked at

    def __init__(self, config, backend):
        self.config, self.backend = config, backend
        self.parameters = parameters = Parameters(backend)
        C = config.hidden_size
        self.tokens = ClassEmbedding(parameters, "embeddings.token_embedding", config.vocab_size, C)
        self.places = ClassEmbedding(parameters, "embeddings.position_embedding", config.max_position_embeddings, C)
        self.layers = [ClipLayer(parameters, f"encoder.layers.{i}", config) for i in range(config.num_hidden_layers)]
        self.norm = LayerNorm(parameters, "final_layer_norm", C, config.layer_norm_eps)
        parameters.allocate(frozen=True)

    def forward(self, ids, length=None):
        """ids (N, M) integers -> tokens (N, M, C). What is padding comes after all that could see it: ``length`` is not
        looked at."""
        x = embedded(self.tokens, ids) + positions(self.places, ids)
        for layer in self.layers:
            x = layer.forward(x)
        return self.norm.forward(x)[0]
