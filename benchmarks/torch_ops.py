"""PyTorch's own ops at the inputs of ``bench_ops.py``, images as channels-last NCHW: the layout closest to ours."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def functions(op, inputs, options):
    """{("torch", "forward"): function, ("torch", "backward"): function}, for the ops that PyTorch has as one call."""
    if op not in CALLS:
        return {}
    tensors = [_tensor(array, op) for array in inputs]

    def forward():
        return CALLS[op](*tensors, **options)

    y = forward()
    leaves = [tensor for tensor in tensors if tensor.requires_grad]
    dy = torch.randn_like(y)

    def backward():
        torch.autograd.grad(y, leaves, dy, retain_graph=True)

    return {("torch", "forward"): forward, ("torch", "backward"): backward}


def _tensor(array, op):
    tensor = torch.from_numpy(array)
    if tensor.ndim == 4 and op == "conv2d" and array.shape[0] == array.shape[1] == 1:
        tensor = tensor.permute(3, 2, 0, 1)  # a 1x1 filter (R, S, C, O)
    elif tensor.ndim == 4:
        tensor = tensor.transpose(1, 2) if op == "attention" else tensor.permute(0, 3, 1, 2)
    return tensor.detach().requires_grad_() if tensor.is_floating_point() else tensor


CALLS = {
    "linear": lambda x, w, b: F.linear(x, w.t(), b),
    "conv2d": lambda x, w, b: F.conv2d(x, w, b),
    "group_norm": lambda x, gamma, beta, groups, silu: F.silu(F.group_norm(x, groups, gamma, beta)),
    "layer_norm": lambda x, gamma, beta: F.layer_norm(x, gamma.shape, gamma, beta),
    "silu": F.silu,
    "gelu": F.gelu,
    "geglu": lambda x: (lambda a, g: a * F.gelu(g))(*x.chunk(2, dim=-1)),
    "dropout": lambda x, number, rate, layer, seed: F.dropout(x, rate),
    "attention": F.scaled_dot_product_attention,
    "upsample2x": lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
    "concat": lambda a, b: torch.cat([a, b], dim=1),
    "class_embedding": lambda table, labels: F.embedding(labels, table),
    "mse_loss": lambda p, y, weight: (weight[:, None, None, None] * (p - y) ** 2).mean(),
    "l1_loss": lambda p, y, weight: (weight[:, None, None, None] * (p - y).abs()).mean(),
    "gaussian_sample": lambda moments, eps: _mean(moments) + (_logvar(moments) / 2).exp() * eps,
    "gaussian_kl": lambda moments: (_mean(moments) ** 2 + _logvar(moments).exp() - 1 - _logvar(moments)).mean() / 2,
}


def _mean(moments):
    return moments.chunk(2, dim=1)[0]


def _logvar(moments):
    return moments.chunk(2, dim=1)[1].clamp(-30, 20)
