"""What ``gpu_report.py`` times of every op: problems of the sizes that the reference U-Net meets at batch 128."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinydiff.ops import OPS, WITHOUT_GRADIENT
from tinydiff.precision import FLOAT32

PARAMETERS = 15_725_441
TRAINING_OPS = tuple(op for op in OPS if op not in FLOAT32)  # float32 in any precision


class Case(NamedTuple):
    """One problem of an op. ``inputs`` are shapes of float arrays, or arrays; None is left out."""

    op: str
    inputs: dict
    options: dict = {}
    products: int = 0  # multiply-adds of a forward

    def arguments(self, backend):
        """(positional inputs, options) on the backend, in the dtypes that its op wants."""

        def made(name, value):
            if isinstance(value, tuple):
                value = np.random.default_rng(len(name)).standard_normal(value, dtype=np.float32)
            if value is None or value.dtype.kind in "iu":
                return None if value is None else backend.asarray(value)
            return backend.asarray(value, getattr(backend, self.op).dtype(name))

        inputs = [made(name, value) for name, value in self.inputs.items()]
        options = {name: made(name, v) if isinstance(v, np.ndarray) else v for name, v in self.options.items()}
        return inputs, options

    @property
    def shape(self):
        return " ".join("x".join(map(str, getattr(v, "shape", v))) for v in self.inputs.values() if np.ndim(v))


def conv2d(N, H, C, O, R=3, stride=1):
    y = -(-H // stride)
    options = dict(stride=stride, padding=R // 2)
    return Case("conv2d", dict(x=(N, H, H, C), w=(R, R, C, O), b=(O,)), options, N * y * y * O * R * R * C)


def linear(M, C, O):
    return Case("linear", dict(x=(M, C), w=(C, O), b=(O,)), {}, M * C * O)


def group_norm(N, H, C, groups):
    return Case("group_norm", dict(x=(N, H, H, C), gamma=(C,), beta=(C,)), dict(groups=groups, silu=True))


def attention(N, L, A, D):
    return Case("attention", dict(q=(N, L, A, D), k=(N, L, A, D), v=(N, L, A, D)), {}, 2 * N * A * L * L * D)


def cases(quick=False):
    """All problems; the quick ones are as small as they can be."""
    N, H, wide, P, images = (2, 4, 1, 1000, 50) if quick else (128, 28, 8, PARAMETERS, 60_000)
    C, groups = 8 * wide, 4 if quick else 32
    one, number = np.ones(1, np.float32), np.ones(1, np.int64)
    step = (np.arange(N) % 5).astype(np.int64)
    labels, chosen = np.arange(images) % 10, (np.arange(N) * 7 % images).astype(np.int64)
    pixels = np.random.default_rng(0).integers(0, 256, (images, H, H, 1)).astype(np.uint8)
    buffers = {name: (P,) for name in ("params", "grads", "mean")}
    made = [
        conv2d(N, H, C, C),
        conv2d(N, H // 2, 2 * C, 2 * C),
        conv2d(N, H // 4, 4 * C, 4 * C),
        conv2d(N, H // 2, 4 * C, 2 * C),
        conv2d(N, H, 2 * C, C, R=1),
        conv2d(N, H, C, C, stride=2),
        conv2d(N, H, 1, C),
        conv2d(N, H, C, 1),
        linear(N * (H // 4) ** 2, 4 * C, 4 * C),
        linear(N, 4 * C, 4 * C),
        group_norm(N, H, C, groups),
        group_norm(N, H // 4, 4 * C, groups),
        attention(N, (H // 4) ** 2, 4, C),
        Case("layer_norm", dict(x=(N, (H // 4) ** 2, 4 * C), gamma=(4 * C,), beta=(4 * C,))),
        Case("silu", dict(x=(N, H, H, C))),
        Case("gelu", dict(x=(N, H, H, C))),
        Case("geglu", dict(x=(N, (H // 4) ** 2, 32 * C))),
        Case("dropout", dict(x=(N, H, H, C), number=number), dict(rate=0.1, layer=0, seed=0)),
        Case("upsample2x", dict(x=(N, H // 2, H // 2, 2 * C))),
        Case("concat", dict(a=(N, H, H, C), b=(N, H, H, C))),
        Case("class_embedding", dict(table=(11, 4 * C), labels=chosen % 11)),
        Case("timestep_embedding", dict(step=step.astype(np.float32)), dict(width=C)),
        Case("mse_loss", dict(prediction=(N, H, H, 1), target=(N, H, H, 1), weight=(N,))),
        Case("l1_loss", dict(prediction=(N, H, H, 1), target=(N, H, H, 1), weight=(N,))),
        Case("gaussian_sample", dict(moments=(N, H, H, 8), eps=(N, H, H, 4))),
        Case("gaussian_kl", dict(moments=(N, H, H, 8))),
        Case("philox", {}, dict(seed=0, purpose="noise", sample=step, draw=0, shape=(H, H, 1), kind="normal")),
        Case(
            "draw_batch",
            dict(labels=labels, number=number),
            dict(batch=N, noise_steps=5, classes=10, dropout=0.1, seed=0),
        ),
        Case("corrupt", dict(images=pixels, index=chosen, step=step, table=(5, 5), draw=number), dict(seed=0)),
        Case("global_norm", dict(grads=(P,))),
        Case(
            "adamw",
            {**buffers, "mean_square": np.ones(P, np.float32), "average": (P,)},
            dict(learning_rate=0 * one, step_number=number, norm=one, limit=1.0, average_decay=0.5 * one),
        ),
    ]
    assert {case.op for case in made} == set(OPS)
    return made


def works(case, backend):
    """{verb: (function, bytes that must move, operations)}: each input read once, each output written once."""
    op = getattr(backend, case.op)
    inputs, options = case.arguments(backend)
    forward = lambda: op.forward(*inputs, **options)
    made = forward()
    if case.op in WITHOUT_GRADIENT:
        # adamw reads five buffers and writes four; corrupt reads only the images of the batch
        moved = bytes_of(inputs) + bytes_of(made)
        if case.op == "adamw":
            moved = 9 * inputs[0].nbytes
        elif case.op in ("corrupt", "draw_batch"):
            moved = bytes_of(made) + (made[0].size if case.op == "corrupt" else 0)
        return {"forward": (forward, moved, 0)}
    y, cache = made
    dy = 1.0 if y.ndim == 0 else backend.asarray(np.full(y.shape, 0.5, np.float32), y.dtype)
    gradients = op.backward(dy, cache)
    back = bytes_of(inputs) + bytes_of([dy]) + bytes_of(gradients)
    factor = 5 if case.op == "attention" else 4  # attention makes its matrix again
    return {
        "forward": (forward, bytes_of(inputs) + bytes_of([y]), 2 * case.products),
        "backward": (lambda: op.backward(dy, cache), back, factor * case.products),
    }


def bytes_of(arrays):
    arrays = arrays if isinstance(arrays, (list, tuple)) else [arrays]
    return sum(array.nbytes for array in arrays if hasattr(array, "nbytes"))
