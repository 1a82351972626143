"""The cuda and the emulator backend: kernels of ``csrc/cuda``, launched on a GPU or on their emulator.

An op here is what its reference in ``tinydiff.ops`` is, with the arithmetic elsewhere: the same arguments, the same
errors, the same gradients to within round-off. Derivations are not repeated. Results have the same bits on every
run. What would take looking into an array's values is checked where that costs nothing (in the emulator).

It has both precisions of tinydiff/precision.py. On the emulator the loss of a small U-Net follows that of the float64
reference as closely as rounding to bfloat16 at the same places lets the reference itself (tests/kernels/test_unet.py).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tinydiff import ops
from tinydiff.backends import launchers
from tinydiff.backends.by_name import ByName
from tinydiff.backends.cuda_losses import gaussian_kl, gaussian_sample, l1_loss, mse_loss
from tinydiff.backends.cuda_transformer import attention, geglu, gelu, layer_norm
from tinydiff.backends.launch_table import STRETCH, ceil_div, split, use_version
from tinydiff.backends.op import Op, f32, i32, i64
from tinydiff.ops import contract
from tinydiff.precision import bfloat16

__all__ = ["OPS", "CudaBackend", "use_version"]
SERVICES = (
    "asarray",
    "empty",
    "zeros",
    "take",
    "repeat",
    "has_room_for",
    "free_memory",
    "uploads",
    "synchronize",
    "capture",
    "describe",
)


def bits_of(value):
    """An integer in [0, 2^64) as the int64 of the same bits."""
    return np.uint64(value).astype(np.int64)


class CudaBackend(ByName):
    """One attribute per op and the array services a model needs, on the arrays of its launcher."""

    def __init__(self, name, precision="fp32", launcher=None):
        self.name, self.precision = name, precision
        self.activations = bfloat16() if precision == "bf16" else None  # None: as parameters are
        self.launcher = launcher or launchers.get(name)
        for service in SERVICES:
            setattr(self, service, getattr(self.launcher, service))
        for op in OPS:
            setattr(self, op.__name__, op(self.launcher, precision))

    @property
    def kernels(self):
        """Where they run, which bits depend on."""
        return self.launcher.kind

    def to_numpy(self, array):
        """A NumPy array of the same values; in the emulator it may share memory."""
        return array.get() if hasattr(array, "get") else np.asarray(array)


class linear(Op):
    Cache = ops.linear.Cache

    def forward(self, x, w, b=None):
        ops.linear.check(x, w, b)
        self.dense(x=x, w=w, b=b)
        C, O = w.shape
        self.countable(C=C, O=O)
        M = x.size // C
        y = self.activation((*x.shape[:-1], O))
        self.launch("forward", dict(rows=M, columns=O), x, w, b, y, i64(M), i32(C), i32(O))
        return y, self.Cache(x, w, b is not None)

    def backward(self, dy, cache, into=(None, None)):
        x, w, has_b = cache
        C, O = w.shape
        M = x.size // C
        self.upstream(dy, (*x.shape[:-1], O))
        dw = self.output("dw", into[0], w.shape)
        db = self.output("db", into[1], (O,)) if has_b else None
        dx = self.activation(x.shape)
        self.launch("input_gradient", dict(rows=M, columns=C), dy, w, dx, i64(M), i32(C), i32(O))
        self.sum_rows("weight_gradient", (C, O), M, (x, dy), dw, (i64(M), i32(C), i32(O)))
        if has_b:
            parts, stretch = split(M, ceil_div(O, 32))
            sums = db if parts == 1 else self.empty((parts, O))
            self.launch("column_sums", dict(O=O, parts=parts), dy, sums, i64(M), i32(O), i64(stretch))
            if parts > 1:
                self.add_parts(sums, db)
        return dx, dw, db


class conv2d(Op):
    Cache = ops.conv2d.Cache

    def forward(self, x, w, b=None, add=None, *, stride=1, padding=0):
        padding, y_shape = ops.conv2d.check(x, w, b, add, stride, padding)
        self.dense(x=x, w=w, b=b, add=add)
        N, H_out, W_out, O = y_shape
        _, H, W, C = x.shape
        R, S, _, _ = w.shape
        filters = {"R S C": R * S * C, "R S O": R * S * O, "(R W + S) C": (R * W + S) * C}
        images = {"H + padding": H + sum(padding), "W + padding": W + sum(padding), "H' W'": H_out * W_out}
        self.countable(N=N, O=O, **images, **filters, stride=stride)
        add_shape = None if add is None else tuple(add.shape)
        cache = self.Cache(x, w, stride, padding, y_shape, b is not None, add_shape)
        y = self.activation(y_shape)
        add_pixels = 1 if add_shape == y_shape else H_out * W_out
        launch = dict(rows=N * H_out * W_out, columns=O)
        self.launch("forward", launch, x, w, b, add, y, i32(add_pixels), *self._sizes(cache))
        return y, cache

    def backward(self, dy, cache, into=(None, None)):
        x, w, _, _, y_shape, has_b, add_shape = cache
        self.upstream(dy, y_shape)
        N, H_out, W_out, O = y_shape
        R, S, C, _ = w.shape
        dw = self.output("dw", into[0], w.shape)
        db = self.output("db", into[1], (O,)) if has_b else None
        sizes = self._sizes(cache)
        dx = self.activation(x.shape)
        self.launch("input_gradient", dict(rows=x.size // C, columns=C), dy, w, dx, *sizes)
        taps = R * S * (C if self.precision == "fp32" else ceil_div(C, 8) * 8)  # pieces of 16 bytes
        self.sum_rows("weight_gradient", (taps, O), N * H_out * W_out, (x, dy), dw, sizes)

        dadd = None
        if has_b or (add_shape is not None and add_shape != y_shape):
            pixels = H_out * W_out
            sums = self.empty((N, O))
            self.launch("column_sums", dict(O=O, parts=N), dy, sums, i64(N * pixels), i32(O), i64(pixels))
            dadd = sums.reshape(N, 1, 1, O).astype(self.real, copy=False)
        if has_b:
            self.add_parts(sums, db)
        if add_shape is None:
            dadd = None
        elif add_shape == y_shape:
            dadd = self.read_only(dy)
        return dx, dw, db, dadd

    def _sizes(self, cache):
        """The geometry as kernels take it."""
        N, H, W, C = cache.x.shape
        R, S, _, O = cache.w.shape
        _, H_out, W_out, _ = cache.y_shape
        return tuple(map(i32, (N, H, W, C, R, S, O, cache.stride, cache.padding[0], H_out, W_out)))


class group_norm(Op):
    Cache = ops.group_norm.Cache

    def forward(self, x, gamma, beta, scale=None, shift=None, *, groups, eps=1e-5, silu=False):
        ops.group_norm.check(x, gamma, beta, scale, shift, groups, eps)
        self.dense(x=x, gamma=gamma, beta=beta, scale=scale, shift=shift)
        N, H, W, C = x.shape
        self.countable(N=N, C=C, **{"H W": H * W, "H W C / G": H * W * C // groups})
        y, mean, rstd = self.activation(x.shape), self.empty((N, groups)), self.empty((N, groups))
        launch = dict(N=N, G=groups, values=H * W * C // groups, width=C // groups, itemsize=x.itemsize)
        sizes = i32(H * W), i32(C), i32(groups), f32(eps), i32(silu)
        self.launch("forward", launch, x, gamma, beta, scale, shift, y, mean, rstd, *sizes)
        return y, self.Cache(x, gamma, beta, scale, shift, mean, rstd, silu)

    def backward(self, dy, cache, add=None, into=(None, None)):
        x, gamma, beta, scale, shift, mean, rstd, silu = cache
        self.upstream(dy, x.shape)
        if add is not None:
            contract.expect("group_norm", "add", add, x.shape, self.real)
            self.dense(add=add)
        N, H, W, C = x.shape
        G = mean.shape[1]
        dgamma, dbeta = self.output("dgamma", into[0], (C,)), self.output("dbeta", into[1], (C,))
        dx, du_sum, du_xhat = self.activation(x.shape), self.empty((N, C)), self.empty((N, C))
        dscale = dshift = None
        if scale is not None:
            dscale, dshift = self.activation((N, C)), self.activation((N, C))
        arrays = dy, x, gamma, beta, scale, shift, mean, rstd, add, dx, du_sum, du_xhat
        sizes = i32(H * W), i32(C), i32(G), i32(silu)
        launch = dict(N=N, G=G, values=H * W * C // G, width=C // G, itemsize=x.itemsize)
        self.launch("backward", launch, *arrays, *sizes)
        arrays = gamma, beta, scale, du_sum, du_xhat, dgamma, dbeta, dscale, dshift
        self.launch("parameter_gradients", dict(count=C), *arrays, i32(N), i32(C))
        return dx, dgamma, dbeta, dscale, dshift


class silu(Op):
    Cache = ops.silu.Cache

    def forward(self, x):
        ops.silu.check(x)
        self.dense(x=x)
        y = self.activation(x.shape)
        self.launch("forward", dict(count=x.size, bytes=x.nbytes), x, y, i64(x.size))
        return y, self.Cache(x)

    def backward(self, dy, cache):
        (x,) = cache
        self.upstream(dy, x.shape)
        dx = self.activation(x.shape)
        self.launch("backward", dict(count=x.size, bytes=x.nbytes), dy, x, dx, i64(x.size))
        return dx


class dropout(Op):
    class Cache(NamedTuple):
        x_shape: tuple[int, ...]
        number: Any  # (1,) int64
        slot: Any  # (N,) int64 or None
        options: tuple  # the other numbers that the kernel takes

    def forward(self, x, number, slot=None, *, rate, layer, seed):
        op = ops.dropout
        seed = op.check(x, number, slot, rate, layer, seed)
        if self.launcher.values_at_hand:
            op.check_values(number, slot)
        self.dense(x=x)
        threshold = op.threshold_of(rate)
        options = bits_of(seed), np.uint32(op.purpose_of(layer)), np.uint32(threshold), f32(op.scale_of(threshold))
        slot = None if slot is None else self.integers(slot)
        cache = self.Cache(x.shape, self.integers(number), slot, options)
        return self._some_of(x, cache), cache

    def backward(self, dy, cache):
        self.upstream(dy, cache.x_shape)
        return self._some_of(dy, cache), None, None

    def _some_of(self, x, cache):
        """The values that stay, made larger, beside zeros."""
        N, M = len(x), x.size // len(x)
        y = self.activation(x.shape)
        blocks = ops.dropout.APART * ceil_div(M, ops.dropout.APART * ops.dropout.PARTS)
        arrays = x, cache.number, cache.slot, y
        self.launch("forward", dict(count=N * blocks), *arrays, i64(N), i64(M), *cache.options)
        return y


class upsample2x(Op):
    class Cache(NamedTuple):
        x_shape: tuple[int, ...]

    def forward(self, x):
        ops.upsample2x.check(x)
        self.dense(x=x)
        N, H, W, C = x.shape
        self.countable(N=N, C=C, **{"2 H": 2 * H, "2 W": 2 * W})
        y = self.activation((N, 2 * H, 2 * W, C))
        self.launch("forward", dict(count=y.size), x, y, i32(N), i32(H), i32(W), i32(C))
        return y, self.Cache(x.shape)

    def backward(self, dy, cache):
        N, H, W, C = cache.x_shape
        self.upstream(dy, (N, 2 * H, 2 * W, C))
        dx = self.activation(cache.x_shape)
        self.launch("backward", dict(count=dx.size), dy, dx, i32(N), i32(H), i32(W), i32(C))
        return dx


class concat(Op):
    class Cache(NamedTuple):
        a_shape: tuple[int, ...]
        b_shape: tuple[int, ...]

    def forward(self, a, b):
        ops.concat.check(a, b)
        self.dense(a=a, b=b)
        A, B = a.shape[-1], b.shape[-1]
        self.countable(**{"the number of channels": A + B})
        y = self.activation((*a.shape[:-1], A + B))
        self.launch("forward", dict(count=y.size), a, b, y, i64(a.size // A), i32(A), i32(B))
        return y, self.Cache(a.shape, b.shape)

    def backward(self, dy, cache):
        a_shape, b_shape = cache
        A, B = a_shape[-1], b_shape[-1]
        self.upstream(dy, (*a_shape[:-1], A + B))
        da, db = self.activation(a_shape), self.activation(b_shape)
        self.launch("backward", dict(count=dy.size), dy, da, db, i64(da.size // A), i32(A), i32(B))
        return da, db


class class_embedding(Op):
    class Cache(NamedTuple):
        labels: Any  # (N,) int64
        table_shape: tuple[int, int]

    def forward(self, table, labels):
        ops.class_embedding.check(table, labels)
        self.dense(table=table)
        N, (K, E) = len(labels), table.shape
        self.countable(N=N, K=K, E=E)
        if self.launcher.values_at_hand:
            ops.class_embedding.check_labels(labels, K)
        labels = self.integers(labels)
        y = self.activation((N, E))
        self.launch("forward", dict(count=y.size), table, labels, y, i32(N), i32(K), i32(E))
        return y, self.Cache(labels, table.shape)

    def backward(self, dy, cache, into=(None,)):
        labels, (K, E) = cache
        N = len(labels)
        self.upstream(dy, (N, E))
        dtable = self.output("dtable", into[0], (K, E))
        self.launch("backward", dict(count=dtable.size), dy, labels, dtable, i32(N), i32(K), i32(E))
        return dtable, None


class timestep_embedding(Op):
    def forward(self, step, *, width):
        ops.timestep_embedding.check(step, width)
        self.dense(step=step)
        N, half = len(step), width // 2
        self.countable(N=N, width=width)
        y = self.activation((N, width))
        self.launch("forward", dict(count=N * half), step, y, i32(N), i32(half))
        return y


class philox(Op):
    def forward(self, seed, purpose, sample, draw, shape, *, kind, dtype=np.float32):
        ops.philox.check_kinds(purpose, sample, kind)
        if self.launcher.values_at_hand:
            ops.philox.check(seed, purpose, sample, draw, kind)
        if kind != "bits" and dtype != np.float32:
            raise ValueError(f"philox: dtype must be float32, got {np.dtype(dtype)}")
        N, M = len(sample), math.prod(shape)
        y = self.empty((N, *shape), np.uint32 if kind == "bits" else np.float32)
        if M:
            who = *self._number(seed), np.uint32(ops.philox.PURPOSES[purpose]), self.integers(sample)
            launch = dict(count=N * ceil_div(M, 4))
            self.launch(kind, launch, *who, *self._number(draw), y, i64(N), i64(M))
        return y

    def _number(self, value):
        """(array or None, number) of a number, or of an array of one that only the device need know."""
        if isinstance(value, self.launcher.xp.ndarray):
            return value.view(np.int64) if value.dtype == np.uint64 else self.integers(value), i64(0)
        return None, bits_of(value)


class draw_batch(Op):
    def forward(self, labels, number, *, batch, noise_steps, classes, dropout, seed):
        seed = ops.draw_batch.check(labels, number, batch, noise_steps, classes, dropout, seed)
        self.countable(batch=batch, noise_steps=noise_steps, classes=classes)
        index, step = self.empty(batch, np.int64), self.empty(batch, np.int64)
        labels_N = self.empty(batch, np.int64) if classes else None
        sizes = i64(len(labels)), i32(batch), i32(noise_steps), i32(classes), f32(dropout)
        purposes = (np.uint32(ops.philox.PURPOSES[name]) for name in ("order", "step", "label_drop"))
        random = bits_of(seed), i32(ops.draw_batch.half_bits(len(labels))), *purposes
        arrays = self.integers(labels), self.integers(number), index, step, labels_N
        self.launch("forward", dict(count=batch), *arrays, *sizes, *random)
        return index, step, labels_N


class corrupt(Op):
    def forward(self, images, index, step, table, draw, slot=None, *, seed, flip=False):
        seed = ops.corrupt.check(images, index, step, table, draw, slot, seed, flip)
        if self.launcher.values_at_hand:
            ops.corrupt.check_values(images, index, step, table, slot)
        self.dense(table=table)
        if not images.flags.c_contiguous:
            raise ValueError("corrupt: images must be C-contiguous")
        n, N, M = len(images), len(index), images.size // len(images)
        width, channels = ops.corrupt.width_and_channels(images, flip)
        self.countable(N=N, T=len(table), W=width, C=channels)
        shape = N, *images.shape[1:]
        x, target, weight = self.empty(shape), self.empty(shape), self.empty(N)
        slot = None if slot is None else self.integers(slot)
        arrays = images, self.integers(index), self.integers(step), table, self.integers(draw), slot, x, target, weight
        sizes = i64(n), i32(len(table)), i32(N), i64(M)
        verb = "bytes" if images.dtype == np.uint8 else "floats"
        random = bits_of(seed), np.uint32(ops.philox.PURPOSES["noise"])
        mirror = i32(width), i32(channels), np.uint32(ops.philox.PURPOSES["flip"])
        self.launch(verb, dict(count=N * ceil_div(M, 4)), *arrays, *sizes, *random, *mirror)
        return x, target, weight


class global_norm(Op):
    def forward(self, grads):
        ops.global_norm.check(grads)
        self.dense(grads=grads)
        P = grads.size
        parts = ceil_div(P, STRETCH)
        squares, norm = self.empty(parts), self.empty(1)
        self.launch("squares", dict(parts=parts), grads, squares, i64(P), i64(STRETCH))
        self.launch("forward", {}, squares, norm, i32(parts))
        return norm


class adamw(Op):
    def forward(self, params, grads, mean, mean_square, average=None, copy=None, **options):
        options = ops.adamw.check(params, grads, mean, mean_square, average, copy, options)
        learning_rate, step_number, norm, limit, average_decay, decayed, *others = options
        self.dense(grads=grads, learning_rate=learning_rate, norm=norm, average_decay=average_decay)
        self.writeable(params=params, mean=mean, mean_square=mean_square, average=average)
        buffers = params, grads, mean, mean_square, average, None if copy is None else copy.view(np.uint16)
        each_step = learning_rate, self.integers(step_number), norm, average_decay
        weight_decay, beta1, beta2, eps = others
        numbers = f32(limit), f32(weight_decay), np.float64(beta1), np.float64(beta2), f32(eps)
        self.launch("forward", dict(count=params.size), *buffers, *each_step, i64(params.size), i64(decayed), *numbers)


OPS = (
    linear,
    conv2d,
    group_norm,
    layer_norm,
    silu,
    gelu,
    geglu,
    dropout,
    attention,
    upsample2x,
    concat,
    class_embedding,
    timestep_embedding,
    mse_loss,
    l1_loss,
    gaussian_sample,
    gaussian_kl,
    philox,
    draw_batch,
    corrupt,
    global_norm,
    adamw,
)
