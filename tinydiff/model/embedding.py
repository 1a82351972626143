"""What a model is told besides x: the noise step, the class and, of a student of guided teachers, the guidance, as one
embedding.

The guidance comes in as diffusers' ``TimestepEmbedding`` takes it (``time_cond_proj_dim``): projected onto the waves
of the step. Its projection begins as 0, so the model as one that is not told. Waves of a guidance of 0 to 4 are slow
ones, the fastest one radian long: what they are to tell is smooth. Source: Meng et al., "On distillation of guided
diffusion models", 2023, section 3.1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tinydiff.model.layers import ClassEmbedding, Linear


class Cache(NamedTuple):
    cond_proj: Any  # None where it is not told the guidance
    linear_1: Any
    silu: Any
    linear_2: Any
    class_embedding: Any  # None without classes


class StepEmbedding:
    """embedding = linear_2(silu(linear_1(waves of step + cond_proj(waves of guidance)))) + class row, waves being sin
    and cos.

    Letters: S width of the step's waves, W of the guidance's, E width of the embedding, K classes; the class table has
    K + 1 rows, the last for "no class". K = 0 makes a model without classes, W = 0 one that is not told the guidance.
    """

    def __init__(self, parameters, S, E, K, W=0):
        self.backend = parameters.backend
        self.S, self.W = S, W
        self.cond_proj = Linear(parameters, "time_embedding.cond_proj", W, S, zero=True, bias=False) if W else None
        self.linear_1 = Linear(parameters, "time_embedding.linear_1", S, E)
        self.linear_2 = Linear(parameters, "time_embedding.linear_2", E, E)
        self.class_embedding = ClassEmbedding(parameters, "class_embedding", K + 1, E) if K else None

    def forward(self, step, labels=None, guidance=None):
        """step (N,) floats, labels (N,) integers in [0, K] or None, guidance (N,) floats or None -> embedding (N, E),
        cache.

        Raises ``ValueError`` where labels are given to a model without classes or the reverse, or guidance to one that
        is not told it.
        """
        if (guidance is None) != (self.cond_proj is None):
            raise ValueError("guidance must be given exactly when the model is told it")
        if (labels is None) != (self.class_embedding is None):
            raise ValueError("labels must be given exactly when the model has classes")
        waves, cond_proj = self.backend.timestep_embedding.forward(step, width=self.S), None
        if self.cond_proj:
            of_guidance = self.backend.timestep_embedding.forward(guidance, width=self.W)
            projected, cond_proj = self.cond_proj.forward(of_guidance)
            waves = waves + projected
        h, linear_1 = self.linear_1.forward(waves)
        h, silu = self.backend.silu.forward(h)
        embedding, linear_2 = self.linear_2.forward(h)
        class_embedding = None
        if self.class_embedding:
            row, class_embedding = self.class_embedding.forward(labels)
            embedding = embedding + row
        return embedding, Cache(cond_proj, linear_1, silu, linear_2, class_embedding)

    def backward(self, dembedding, cache):
        """dembedding (N, E) -> None, None: neither the step nor the label has a gradient, nor has the guidance."""
        if self.class_embedding:
            self.class_embedding.backward(dembedding, cache.class_embedding)
        dh = self.linear_2.backward(dembedding, cache.linear_2)
        dh = self.backend.silu.backward(dh, cache.silu)
        dwaves = self.linear_1.backward(dh, cache.linear_1)
        if self.cond_proj:
            self.cond_proj.backward(dwaves, cache.cond_proj)
        return None, None
