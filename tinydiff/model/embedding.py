"""What a model is told besides x: the noise step and the class, as one embedding."""

from __future__ import annotations

from typing import Any, NamedTuple

from tinydiff.model.layers import ClassEmbedding, Linear


class Cache(NamedTuple):
    linear_1: Any
    silu: Any
    linear_2: Any
    class_embedding: Any  # None without classes


class StepEmbedding:
    """embedding = linear_2(silu(linear_1(sin and cos of step))) + class row.

    Letters: S width of the sines and cosines, E width of the embedding, K classes; the class table has
    K + 1 rows, the last for "no class". K = 0 makes a model without classes.
    """

    def __init__(self, parameters, S, E, K):
        self.backend = parameters.backend
        self.S = S
        self.linear_1 = Linear(parameters, "time_embedding.linear_1", S, E)
        self.linear_2 = Linear(parameters, "time_embedding.linear_2", E, E)
        self.class_embedding = ClassEmbedding(parameters, "class_embedding", K + 1, E) if K else None

    def forward(self, step, labels=None):
        """step (N,) floats, labels (N,) integers in [0, K] or None -> embedding (N, E), cache.

        Raises ``ValueError`` where labels are given to a model without classes or the reverse.
        """
        if (labels is None) != (self.class_embedding is None):
            raise ValueError("labels must be given exactly when the model has classes")
        waves = self.backend.timestep_embedding.forward(step, width=self.S)
        h, linear_1 = self.linear_1.forward(waves)
        h, silu = self.backend.silu.forward(h)
        embedding, linear_2 = self.linear_2.forward(h)
        class_embedding = None
        if self.class_embedding:
            row, class_embedding = self.class_embedding.forward(labels)
            embedding = embedding + row
        return embedding, Cache(linear_1, silu, linear_2, class_embedding)

    def backward(self, dembedding, cache):
        """dembedding (N, E) -> None, None: neither the step nor the label has a gradient."""
        if self.class_embedding:
            self.class_embedding.backward(dembedding, cache.class_embedding)
        dh = self.linear_2.backward(dembedding, cache.linear_2)
        dh = self.backend.silu.backward(dh, cache.silu)
        self.linear_1.backward(dh, cache.linear_1)
        return None, None
