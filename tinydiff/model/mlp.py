"""A small residual MLP for points, told the noise step and the class the same way as the U-Net."""

from __future__ import annotations

import dataclasses
import functools
import operator
from typing import Any, NamedTuple

import numpy as np

from tinydiff.model.embedding import StepEmbedding
from tinydiff.model.fields import expect_types
from tinydiff.model.layers import Linear, as_activation
from tinydiff.model.parameters import Parameters


@dataclasses.dataclass(frozen=True)
class MLPConfig:
    """The shape of an MLP."""

    dimensions: int = 2  # of a point
    width: int = 128
    layers: int = 3
    classes: int = 0  # 0: no class conditioning

    def __post_init__(self):
        expect_types(self)
        for name in ("dimensions", "width", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width % 2:
            raise ValueError(f"width must be even, got {self.width}")
        if self.classes < 0:
            raise ValueError(f"classes must be at least 0, got {self.classes}")

    @property
    def shape(self):
        """Of one point."""
        return (self.dimensions,)


class Layer(NamedTuple):
    """h + linear(silu(h + time_proj(time)))."""

    time_proj: Linear
    linear: Linear


class LayerCache(NamedTuple):
    time_proj: Any
    silu: Any
    linear: Any


class Cache(NamedTuple):
    embedding: Any
    time_silu: Any
    input: Any
    layers: list[LayerCache]
    silu: Any
    output: Any


class MLP:
    """x, step, labels -> a prediction of the shape of x."""

    takes_guidance = False

    def __init__(self, config, backend, dtype=np.float32):
        self.config, self.backend = config, backend
        self.parameters = parameters = Parameters(backend, dtype)
        width = config.width
        self.embedding = StepEmbedding(parameters, width, width, config.classes)
        self.input = Linear(parameters, "input", config.dimensions, width)
        self.layers = [
            Layer(
                Linear(parameters, f"layers.{i}.time_proj", width, width),
                Linear(parameters, f"layers.{i}.linear", width, width),
            )
            for i in range(config.layers)
        ]
        self.output = Linear(parameters, "output", width, config.dimensions, zero=True)
        parameters.allocate()

    @property
    def classes(self):
        """K: labels lie in [0, K], where K itself is the null label; 0 for a model without."""
        return self.config.classes

    def forward(self, x, step, labels=None):
        """x (N, dimensions), step (N,) floats, labels (N,) integers or None -> prediction as x, cache."""
        silu = self.backend.silu
        embedding, embedding_cache = self.embedding.forward(step, labels)
        time, time_silu = silu.forward(embedding)
        h, input_cache = self.input.forward(as_activation(x, self.backend))
        layers = []
        for layer in self.layers:
            shift, time_proj = layer.time_proj.forward(time)
            a, silu_cache = silu.forward(h + shift)
            update, linear = layer.linear.forward(a)
            h = h + update
            layers.append(LayerCache(time_proj, silu_cache, linear))
        a, silu_cache = silu.forward(h)
        y, output = self.output.forward(a)
        cache = Cache(embedding_cache, time_silu, input_cache, layers, silu_cache, output)
        return y.astype(x.dtype, copy=False), cache

    def predict(self, x, step, labels=None):
        """The prediction alone."""
        return self.forward(x, step, labels)[0]

    def backward(self, dy, cache):
        """dy as the prediction -> dx as x, None, None (step and labels have no gradient)."""
        silu = self.backend.silu
        da = self.output.backward(as_activation(dy, self.backend), cache.output)
        dh = silu.backward(da, cache.silu)
        dtimes = []
        for layer, (time_proj, silu_cache, linear) in zip(reversed(self.layers), reversed(cache.layers)):
            da = layer.linear.backward(dh, linear)
            dshift = silu.backward(da, silu_cache)
            dtimes.append(layer.time_proj.backward(dshift, time_proj))
            dh = dh + dshift
        dx = self.input.backward(dh, cache.input)
        dtime = functools.reduce(operator.add, dtimes)
        dembedding = silu.backward(dtime, cache.time_silu)
        dstep, dlabels = self.embedding.backward(dembedding, cache.embedding)
        return dx.astype(dy.dtype, copy=False), dstep, dlabels
