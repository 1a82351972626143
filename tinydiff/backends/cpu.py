"""The cpu backend: C++ kernels (``csrc/cpu``) on NumPy arrays, float32.

An op here is what its reference in ``tinydiff.ops`` is, with the arithmetic elsewhere: the same arguments, the same
errors, the same gradients to within round-off. Derivations are not repeated. Results have the same bits for any
number of threads, though not for any instruction set.

``TINYDIFF_THREADS`` says how many threads work (default: the cores this process may use) and
``TINYDIFF_INSTRUCTION_SET`` which kernels (default: the best this machine has).
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

import tinydiff.backends._cpu as _cpu  # not ``from``: a missing module must be a ModuleNotFoundError
from tinydiff import ops
from tinydiff.backends.captured import Captured
from tinydiff.backends.numpy import NumpyBackend

instruction_sets = _cpu.instruction_sets
instruction_set = _cpu.instruction_set
use_instruction_set = _cpu.use_instruction_set
threads = _cpu.threads
use_threads = _cpu.use_threads
memory = _cpu.memory  # () -> bytes of arrays in use, bytes kept to be used again
CONV2D_VERSIONS = ("fastest", "direct", "winograd_2", "winograd_4")
use_conv2d_version = _cpu.use_conv2d_version  # "fastest" chooses by shape; the others are for tests and benchmarks


class CpuBackend(NumpyBackend):
    """The services of the numpy backend, whose arrays these are, with every op a C++ kernel."""

    name = "cpu"

    def __init__(self):
        super().__init__()
        self._offer({op.__name__: op for op in OPS})
        _obey_environment()

    def capture(self, step_fn, *, frozen_weights=False):
        """A function that does what ``step_fn`` does, to the same bits: the program that it is, run without Python."""
        return Captured(self, step_fn, frozen_weights)

    def describe(self):
        """One line for ``tinydiff info``."""
        return f"C++ kernels for {instruction_set()} (of {', '.join(instruction_sets())}), {threads()} threads"


class linear:
    Cache = ops.linear.Cache

    @staticmethod
    def forward(x, w, b=None):
        return _cpu.linear_forward(x, w, b), linear.Cache(x, w, b is not None)

    @staticmethod
    def backward(dy, cache, into=(None, None)):
        return _cpu.linear_backward(dy, *cache, *into)


class conv2d:
    class Cache(NamedTuple):
        x: np.ndarray
        w: np.ndarray
        has_b: bool
        has_time_shift: bool
        stride: int
        padding: Any
        has_residual: bool

    @staticmethod
    def forward(x, w, b=None, add=None, *, stride=1, padding=0):
        y = _cpu.conv2d_forward(x, w, b, add, stride, padding)
        has_residual = add is not None and add.shape == y.shape
        has_time_shift = add is not None and not has_residual
        return y, conv2d.Cache(x, w, b is not None, has_time_shift, stride, padding, has_residual)

    @staticmethod
    def backward(dy, cache, into=(None, None)):
        dx, dw, db, dadd = _cpu.conv2d_backward(dy, *cache[:-1], *into)
        if cache.has_residual:
            dadd = dy.view()
            dadd.flags.writeable = False
        return dx, dw, db, dadd


class group_norm:
    Cache = ops.group_norm.Cache

    @staticmethod
    def forward(x, gamma, beta, scale=None, shift=None, *, groups, eps=1e-5, silu=False):
        y, mean, rstd = _cpu.group_norm_forward(x, gamma, beta, scale, shift, groups, eps, silu)
        return y, group_norm.Cache(x, gamma, beta, scale, shift, mean, rstd, silu)

    @staticmethod
    def backward(dy, cache, add=None, into=(None, None)):
        return _cpu.group_norm_backward(dy, *cache, add, *into)


class silu:
    Cache = ops.silu.Cache

    @staticmethod
    def forward(x):
        return _cpu.silu_forward(x), silu.Cache(x)

    @staticmethod
    def backward(dy, cache):
        return _cpu.silu_backward(dy, *cache)


class attention:
    Cache = ops.attention.Cache

    @staticmethod
    def forward(q, k, v):
        y, lse = _cpu.attention_forward(q, k, v)
        return y, attention.Cache(q, k, v, y, lse)

    @staticmethod
    def backward(dy, cache):
        return _cpu.attention_backward(dy, *cache)


class upsample2x:
    class Cache(NamedTuple):
        x_shape: tuple[int, ...]

    @staticmethod
    def forward(x):
        return _cpu.upsample2x_forward(x), upsample2x.Cache(x.shape)

    @staticmethod
    def backward(dy, cache):
        return _cpu.upsample2x_backward(dy, *cache)


class concat:
    class Cache(NamedTuple):
        a_shape: tuple[int, ...]
        b_shape: tuple[int, ...]

    @staticmethod
    def forward(a, b):
        return _cpu.concat_forward(a, b), concat.Cache(a.shape, b.shape)

    @staticmethod
    def backward(dy, cache):
        return _cpu.concat_backward(dy, *cache)


class class_embedding:
    class Cache(NamedTuple):
        labels: np.ndarray
        table_shape: tuple[int, int]

    @staticmethod
    def forward(table, labels):
        return _cpu.class_embedding_forward(table, labels), class_embedding.Cache(labels, table.shape)

    @staticmethod
    def backward(dy, cache, into=(None,)):
        return _cpu.class_embedding_backward(dy, *cache, *into), None


class timestep_embedding:
    @staticmethod
    def forward(step, *, width):
        return _cpu.timestep_embedding_forward(step, width)


class mse_loss:
    Cache = ops.mse_loss.Cache

    @staticmethod
    def forward(prediction, target, weight=None):
        return _cpu.mse_loss_forward(prediction, target, weight), mse_loss.Cache(prediction, target, weight)

    @staticmethod
    def backward(dloss, cache, *, prediction_only=False):
        return _cpu.mse_loss_backward(float(dloss), *cache, prediction_only)


class philox:
    @staticmethod
    def forward(seed, purpose, sample, draw, shape, *, kind, dtype=np.float32):
        seed, draw = ops.philox.check(seed, purpose, sample, draw, kind)
        if kind != "bits" and dtype != np.float32:
            raise ValueError(f"philox: dtype must be float32, got {np.dtype(dtype)}")
        return _cpu.philox_forward(seed, ops.philox.PURPOSES[purpose], sample, draw, shape, kind)


class draw_batch:
    @staticmethod
    def forward(labels, number, *, batch, noise_steps, classes, dropout, seed):
        seed = ops.draw_batch.check(labels, number, batch, noise_steps, classes, dropout, seed)
        purposes = (ops.philox.PURPOSES[name] for name in ("order", "step", "label_drop"))
        half = ops.draw_batch.half_bits(len(labels))
        return _cpu.draw_batch_forward(labels, number[0], batch, noise_steps, classes, dropout, seed, half, *purposes)


class corrupt:
    @staticmethod
    def forward(images, index, step, table, draw, *, seed):
        seed = ops.corrupt.check(images, index, step, table, draw, seed)
        ops.corrupt.check_values(images, index, step, table)
        return _cpu.corrupt_forward(images, index, step, table, seed, ops.philox.PURPOSES["noise"], draw[0])


class global_norm:
    @staticmethod
    def forward(grads):
        return _cpu.global_norm_forward(grads)


class adamw:
    @staticmethod
    def forward(params, grads, mean, mean_square, average=None, copy=None, **options):
        options = ops.adamw.check(params, grads, mean, mean_square, average, copy, options)
        average_decay = 0.0 if average is None else options.average_decay[0]
        each_step = options.learning_rate[0], options.step_number[0], options.clip()[0], average_decay
        _cpu.adamw_forward(params, grads, mean, mean_square, average, *each_step, *options[5:])
        if copy is not None:
            copy[...] = params[: options.decayed]


OPS = (
    linear,
    conv2d,
    group_norm,
    silu,
    attention,
    upsample2x,
    concat,
    class_embedding,
    timestep_embedding,
    mse_loss,
    philox,
    draw_batch,
    corrupt,
    global_norm,
    adamw,
)


def _obey_environment():
    count = os.environ.get("TINYDIFF_THREADS")
    if count is not None:
        if not count.isdigit() or int(count) < 1:
            raise ValueError(f"TINYDIFF_THREADS must be a number of threads of at least 1, got {count!r}")
        use_threads(int(count))
    name = os.environ.get("TINYDIFF_INSTRUCTION_SET")
    if name is not None:
        use_instruction_set(name)
