"""Layers: an op bound to its parameters. Forward returns (y, cache); backward returns the gradients of
forward's inputs and writes those of the parameters into their ``grad`` views, overwriting them."""

from __future__ import annotations

from typing import Any, NamedTuple

from tinydiff.model.parameters import Constant, Normal, Uniform


def as_activation(x, backend):
    """x in the dtype in which this backend keeps activations; where it has none of its own, as it is."""
    return x if backend.activations is None else backend.asarray(x, backend.activations)


class Linear:
    """y = x weight + bias; weight (C, O). ``zero`` starts both at 0, so the layer begins as silence; without ``bias`` there
    is none."""

    def __init__(self, parameters, name, C, O, *, zero=False, bias=True):
        self.backend = parameters.backend
        start = Constant(0.0) if zero else Uniform(C**-0.5)
        self.weight = parameters.add(f"{name}.weight", (C, O), start, decay=True)
        self.bias = parameters.add(f"{name}.bias", (O,), start) if bias else None

    def forward(self, x):
        """x (..., C) -> y (..., O), cache."""
        return self.backend.linear.forward(x, self.weight.operand, self.bias.value if self.bias else None)

    def backward(self, dy, cache):
        """dy (..., O) -> dx (..., C)."""
        into = self.weight.grad, self.bias.grad if self.bias else None
        return self.backend.linear.backward(dy, cache, into=into)[0]


class Conv2d:
    """An R x R convolution; weight (R, R, C, O)."""

    def __init__(self, parameters, name, C, O, R, *, stride=1, padding=0, zero=False):
        self.backend = parameters.backend
        self.stride, self.padding = stride, padding
        start = Constant(0.0) if zero else Uniform((R * R * C) ** -0.5)
        self.weight = parameters.add(f"{name}.weight", (R, R, C, O), start, decay=True)
        self.bias = parameters.add(f"{name}.bias", (O,), start)

    def forward(self, x, add=None):
        """x (N,H,W,C), add (N,1,1,O) or (N,H',W',O) or None -> y (N,H',W',O), cache."""
        weight, bias = self.weight.operand, self.bias.value
        return self.backend.conv2d.forward(x, weight, bias, add, stride=self.stride, padding=self.padding)

    def backward(self, dy, cache):
        """dy (N,H',W',O) -> dx (N,H,W,C), dadd (as add) or None."""
        dx, _, _, dadd = self.backend.conv2d.backward(dy, cache, into=(self.weight.grad, self.bias.grad))
        return dx, dadd


class GroupNorm:
    """Group normalisation with learned scale (``weight``) and shift (``bias``), optionally with SiLU."""

    def __init__(self, parameters, name, C, groups, eps, *, silu=False):
        self.backend = parameters.backend
        self.groups, self.eps, self.silu = groups, eps, silu
        self.weight = parameters.add(f"{name}.weight", (C,), Constant(1.0))
        self.bias = parameters.add(f"{name}.bias", (C,), Constant(0.0))

    def forward(self, x, scale=None, shift=None):
        """x (N,H,W,C), scale and shift (N,C) of the samples or None -> y (N,H,W,C), cache."""
        weight, bias = self.weight.value, self.bias.value
        options = dict(groups=self.groups, eps=self.eps, silu=self.silu)
        return self.backend.group_norm.forward(x, weight, bias, scale, shift, **options)

    def again(self, cache):
        """The y of the forward that made this cache, computed once more, to the same bits."""
        return self.forward(cache.x, cache.scale, cache.shift)[0]

    def backward(self, dy, cache, add=None):
        """dy (N,H,W,C) -> dx (N,H,W,C), plus ``add`` where given; dscale and dshift (N,C) or None."""
        into = self.weight.grad, self.bias.grad
        dx, _, _, dscale, dshift = self.backend.group_norm.backward(dy, cache, add, into=into)
        return dx, dscale, dshift


class LayerNorm:
    """Layer normalisation with learned scale (``weight``) and shift (``bias``)."""

    def __init__(self, parameters, name, C, eps=1e-5):
        self.backend, self.eps = parameters.backend, eps
        self.weight = parameters.add(f"{name}.weight", (C,), Constant(1.0))
        self.bias = parameters.add(f"{name}.bias", (C,), Constant(0.0))

    def forward(self, x):
        """x (..., C) -> y (..., C), cache."""
        return self.backend.layer_norm.forward(x, self.weight.value, self.bias.value, eps=self.eps)

    def backward(self, dy, cache, add=None):
        """dy (..., C) -> dx (..., C), plus ``add`` where given."""
        return self.backend.layer_norm.backward(dy, cache, add, into=(self.weight.grad, self.bias.grad))[0]


class Upsample2x:
    """Twice as high and as wide, each pixel four times."""

    def __init__(self, backend):
        self.backend = backend

    def forward(self, x):
        """x (N,H,W,C) -> y (N,2 H,2 W,C), cache."""
        return self.backend.upsample2x.forward(x)

    def backward(self, dy, cache):
        """dy (N,2 H,2 W,C) -> dx (N,H,W,C)."""
        return self.backend.upsample2x.backward(dy, cache)


class Dropped(NamedTuple):
    """What decides, beside the layer, which values a training step drops; arrays, as they change from step to step."""

    seed: Any  # an integer in [0, 2^64)
    number: Any  # (1,) integers, of the training step
    slot: Any = None  # (N,) integers, the places in the batch of a part of it; None: 0 .. N-1


class Dropout:
    """Values dropped at a rate while a model trains. ``layer`` tells it from the other places of the model."""

    def __init__(self, backend, rate, layer):
        self.backend, self.rate, self.layer = backend, rate, layer

    def forward(self, x, dropped=None):
        """x (N, ...) -> y of the same shape, cache. Without ``dropped``, a ``Dropped``, y is x itself."""
        if dropped is None or self.rate == 0:
            return x, None
        seed, number, slot = dropped
        return self.backend.dropout.forward(x, number, slot, rate=self.rate, layer=self.layer, seed=seed)

    def backward(self, dy, cache):
        """dy -> dx, both of the shape of x."""
        return dy if cache is None else self.backend.dropout.backward(dy, cache)[0]


class ClassEmbedding:
    """One row per class and a last row for "no class"; weight (K, E)."""

    def __init__(self, parameters, name, K, E):
        self.backend = parameters.backend
        self.weight = parameters.add(f"{name}.weight", (K, E), Normal(1.0))

    def forward(self, labels):
        """labels (N,) -> y (N, E), cache."""
        return self.backend.class_embedding.forward(self.weight.value, labels)

    def backward(self, dy, cache):
        """dy (N, E) -> None: labels have no gradient."""
        return self.backend.class_embedding.backward(dy, cache, into=(self.weight.grad,))[1]
