"""The cpu backend: C++ kernels (``csrc/cpu``) on NumPy arrays, in both precisions of tinydiff/precision.py.

An op here is what its reference in ``tinydiff.ops`` is, with the arithmetic elsewhere: the same arguments, the same
errors, the same gradients to within round-off. Derivations are not repeated. Results have the same bits for any
number of threads, though not for any instruction set. In bfloat16 the products of matrices take two numbers at once where
the machine can (avx512_bf16, amx, neon_bf16); elsewhere what is gained is memory.

``TINYDIFF_THREADS`` says how many threads work (default: as many as cores.py finds cores that this process may use) and
``TINYDIFF_INSTRUCTION_SET`` which kernels (default: the best this machine has); empty is as if unset.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

import tinydiff.backends._cpu as _cpu  # not ``from``: a missing module must be a ModuleNotFoundError
from tinydiff import ops
from tinydiff.backends.captured import Captured
from tinydiff.backends.cores import usable_cores
from tinydiff.backends.numpy import NumpyBackend
from tinydiff.ops import contract
from tinydiff.precision import Stored, bfloat16, has_bfloat16
from tinydiff.program import prepare

instruction_sets = _cpu.instruction_sets
instruction_set = _cpu.instruction_set
use_instruction_set = _cpu.use_instruction_set
lacking_instruction_sets = _cpu.lacking_instruction_sets  # () -> {name: why}: this machine has them, this build has not
threads = _cpu.threads
use_threads = _cpu.use_threads
memory = _cpu.memory  # () -> bytes of arrays in use, bytes kept to be used again
MOST_THREADS = _cpu.MOST_THREADS
MULTIPLY_BFLOAT16 = ("avx512_bf16", "amx", "neon_bf16")  # the instruction sets in which that is faster than float32
use_threads(min(usable_cores(), MOST_THREADS))
# bytes that a convolution works in at most: what its tiles become, in rounds of so much (csrc/cpu/winograd_tiles.h), and
# what each thread makes of that. Measured, of the presets' training steps and one thread: 10 to 14 MB
SHARED, OWN = 8 << 20, 2 << 20
CONV2D_VERSIONS = ("fastest", "direct", "winograd_2", "winograd_4")
use_conv2d_version = _cpu.use_conv2d_version  # "fastest" chooses by shape; the others are for tests and benchmarks


class CpuBackend(NumpyBackend):
    """The services of the numpy backend, whose arrays these are, with every op a C++ kernel."""

    name = "cpu"

    def __init__(self, precision="fp32"):
        super().__init__()
        _obey_environment()
        if precision == "auto":
            precision = "bf16" if instruction_set() in MULTIPLY_BFLOAT16 and has_bfloat16() else "fp32"
        self.precision = precision
        self.activations = bfloat16() if precision == "bf16" else None
        self._offer({op.__name__: op(precision) for op in OPS})

    @property
    def kernels(self):
        """Those that bits depend on: of the instruction set in use."""
        return instruction_set()

    def capture(self, step_fn, *, frozen_weights=False):
        """A function that does what ``step_fn`` does, to the same bits: the program that it is, run without Python."""
        return Captured(self, step_fn, frozen_weights)

    def memory_of(self, *programs):
        """Bytes that running programs takes beside what they keep: their arenas, the filters that are prepared in them, and
        what kernels work in, one after another."""
        prepared = (prepare.plan(each, _cpu.prepared_bytes).nbytes for each in programs)
        convolutions = [call for each in programs for call in each.calls if call.op == "conv2d"]
        largest = max((each.nbytes for call in convolutions for each in call.operands.values()), default=0)
        return sum(each.arena for each in programs) + sum(prepared) + min(6 * largest, SHARED + threads() * OWN)

    def describe(self):
        """One line for ``tinydiff info``."""
        pool = f"{threads()} thread{'s' * (threads() > 1)}"
        said = f"C++ kernels for {instruction_set()} (of {', '.join(instruction_sets())}), {pool}"
        return "; ".join([said, *(f"not for {name}: {why}" for name, why in lacking_instruction_sets().items())])


class Op(Stored):
    """An op in a precision; ``kernels`` are those of a model that have it."""

    def __init__(self, precision):
        super().__init__(precision)
        self.kernels = getattr(_cpu, self.precision)

    @property
    def name(self):
        return type(self).__name__


class linear(Op):
    Cache = ops.linear.Cache

    def forward(self, x, w, b=None):
        return self.kernels.linear_forward(x, w, b), self.Cache(x, w, b is not None)

    def backward(self, dy, cache, into=(None, None)):
        return self.kernels.linear_backward(dy, *cache, *into)


class conv2d(Op):
    class Cache(NamedTuple):
        x: np.ndarray
        w: np.ndarray
        has_b: bool
        has_time_shift: bool
        stride: int
        padding: Any
        has_residual: bool

    def forward(self, x, w, b=None, add=None, *, stride=1, padding=0):
        y = self.kernels.conv2d_forward(x, w, b, add, stride, padding)
        has_residual = add is not None and add.shape == y.shape
        has_time_shift = add is not None and not has_residual
        return y, self.Cache(x, w, b is not None, has_time_shift, stride, padding, has_residual)

    def backward(self, dy, cache, into=(None, None)):
        dx, dw, db, dadd = self.kernels.conv2d_backward(dy, *cache[:-1], *into)
        if cache.has_residual:
            dadd = dy.view()
            dadd.flags.writeable = False
        return dx, dw, db, dadd

    def version(self, x, w, *, stride=1, padding=0):
        """Of ``CONV2D_VERSIONS`` the one that computes this, forward and backward."""
        return self.kernels.conv2d_version_of(x, w, stride, padding)


class group_norm(Op):
    Cache = ops.group_norm.Cache

    def forward(self, x, gamma, beta, scale=None, shift=None, *, groups, eps=1e-5, silu=False):
        y, mean, rstd = self.kernels.group_norm_forward(x, gamma, beta, scale, shift, groups, eps, silu)
        return y, self.Cache(x, gamma, beta, scale, shift, mean, rstd, silu)

    def backward(self, dy, cache, add=None, into=(None, None)):
        return self.kernels.group_norm_backward(dy, *cache, add, *into)


class layer_norm(Op):
    Cache = ops.layer_norm.Cache

    def forward(self, x, gamma, beta, *, eps=1e-5):
        y, mean, rstd = self.kernels.layer_norm_forward(x, gamma, beta, eps)
        return y, self.Cache(x, gamma, mean, rstd)

    def backward(self, dy, cache, add=None, into=(None, None)):
        return self.kernels.layer_norm_backward(dy, *cache, add, *into)


class silu(Op):
    Cache = ops.silu.Cache

    def forward(self, x):
        return self.kernels.silu_forward(x), self.Cache(x)

    def backward(self, dy, cache):
        return self.kernels.silu_backward(dy, *cache)


class gelu(Op):
    Cache = ops.gelu.Cache

    def forward(self, x, *, form="exact"):
        ops.gelu.check(x, form)
        return self.kernels.gelu_forward(x, ops.gelu.FORMS.index(form)), self.Cache(x, form)

    def backward(self, dy, cache):
        return self.kernels.gelu_backward(dy, cache.x, ops.gelu.FORMS.index(cache.form))


class geglu(Op):
    Cache = ops.geglu.Cache

    def forward(self, x):
        ops.geglu.check(x)
        return self.kernels.geglu_forward(x), self.Cache(x)

    def backward(self, dy, cache):
        return self.kernels.geglu_backward(dy, *cache)


class dropout(Op):
    class Cache(NamedTuple):
        x_shape: tuple[int, ...]
        drawn: tuple  # slot, and the numbers that the kernel takes

    def forward(self, x, number, slot=None, *, rate, layer, seed):
        op = ops.dropout
        seed = op.check(x, number, slot, rate, layer, seed)
        draw, threshold = op.check_values(number, slot), op.threshold_of(rate)
        drawn = slot, seed, op.purpose_of(layer), draw, threshold, op.scale_of(threshold)
        return self.kernels.dropout_forward("x", x, *drawn), self.Cache(x.shape, drawn)

    def backward(self, dy, cache):
        contract.expect("dropout", "dy", dy, cache.x_shape, self.real)
        return self.kernels.dropout_forward("dy", dy, *cache.drawn), None, None


class attention(Op):
    Cache = ops.attention.Cache

    def forward(self, q, k, v, length=None, *, causal=False):
        y, lse = self.kernels.attention_forward(q, k, v, length, causal)
        return y, self.Cache(q, k, v, y, lse, length, causal)

    def backward(self, dy, cache):
        return self.kernels.attention_backward(dy, *cache)


class upsample2x(Op):
    class Cache(NamedTuple):
        x_shape: tuple[int, ...]

    def forward(self, x):
        return self.kernels.upsample2x_forward(x), self.Cache(x.shape)

    def backward(self, dy, cache):
        return self.kernels.upsample2x_backward(dy, *cache)


class concat(Op):
    class Cache(NamedTuple):
        a_shape: tuple[int, ...]
        b_shape: tuple[int, ...]

    def forward(self, a, b):
        return self.kernels.concat_forward(a, b), self.Cache(a.shape, b.shape)

    def backward(self, dy, cache):
        return self.kernels.concat_backward(dy, *cache)


class class_embedding(Op):
    class Cache(NamedTuple):
        labels: np.ndarray
        table_shape: tuple[int, int]

    def forward(self, table, labels):
        return self.kernels.class_embedding_forward(table, labels), self.Cache(labels, table.shape)

    def backward(self, dy, cache, into=(None,)):
        return self.kernels.class_embedding_backward(dy, *cache, *into), None


class timestep_embedding(Op):
    def forward(self, step, *, width):
        return self.kernels.timestep_embedding_forward(step, width)


class mse_loss(Op):
    Cache = ops.mse_loss.Cache

    def forward(self, prediction, target, weight=None):
        return _cpu.mse_loss_forward(prediction, target, weight), self.Cache(prediction, target, weight)

    def backward(self, dloss, cache, *, prediction_only=False):
        return _cpu.mse_loss_backward(float(dloss), *cache, prediction_only)


class l1_loss(Op):
    Cache = ops.l1_loss.Cache

    def forward(self, prediction, target, weight=None):
        return _cpu.l1_loss_forward(prediction, target, weight), self.Cache(prediction, target, weight)

    def backward(self, dloss, cache, *, prediction_only=False):
        return _cpu.l1_loss_backward(float(dloss), *cache, prediction_only)


class gaussian_sample(Op):
    Cache = ops.gaussian_sample.Cache

    def forward(self, moments, eps):
        return _cpu.gaussian_sample_forward(moments, eps), self.Cache(moments, eps)

    def backward(self, dy, cache, *, moments_only=False):
        return _cpu.gaussian_sample_backward(dy, *cache, moments_only)


class gaussian_kl(Op):
    Cache = ops.gaussian_kl.Cache

    def forward(self, moments):
        return _cpu.gaussian_kl_forward(moments), self.Cache(moments)

    def backward(self, dkl, cache):
        return _cpu.gaussian_kl_backward(float(dkl), *cache)


class philox(Op):
    def forward(self, seed, purpose, sample, draw, shape, *, kind, dtype=np.float32):
        seed, draw = ops.philox.check(seed, purpose, sample, draw, kind)
        if kind != "bits" and dtype != np.float32:
            raise ValueError(f"philox: dtype must be float32, got {np.dtype(dtype)}")
        return _cpu.philox_forward(seed, ops.philox.PURPOSES[purpose], sample, draw, shape, kind)


class draw_batch(Op):
    def forward(self, labels, number, *, batch, noise_steps, classes, dropout, seed):
        seed = ops.draw_batch.check(labels, number, batch, noise_steps, classes, dropout, seed)
        purposes = (ops.philox.PURPOSES[name] for name in ("order", "step", "label_drop"))
        half = ops.draw_batch.half_bits(len(labels))
        return _cpu.draw_batch_forward(labels, number[0], batch, noise_steps, classes, dropout, seed, half, *purposes)


class corrupt(Op):
    def forward(self, images, index, step, table, draw, slot=None, *, seed, flip=False):
        seed = ops.corrupt.check(images, index, step, table, draw, slot, seed, flip)
        ops.corrupt.check_values(images, index, step, table, slot)
        noise = seed, ops.philox.PURPOSES["noise"], draw[0]
        mirror = *ops.corrupt.width_and_channels(images, flip), ops.philox.PURPOSES["flip"]
        return _cpu.corrupt_forward(images, index, step, table, slot, *noise, *mirror)


class global_norm(Op):
    def forward(self, grads):
        return _cpu.global_norm_forward(grads)


class adamw(Op):
    def forward(self, params, grads, mean, mean_square, average=None, copy=None, **options):
        options = ops.adamw.check(params, grads, mean, mean_square, average, copy, options)
        for name in ("learning_rate", "norm", "average_decay"):
            if (number := getattr(options, name)) is not None:
                contract.expect("adamw", name, number, (1,), np.float32)
        average_decay = 0.0 if average is None else options.average_decay[0]
        copy = copy if options.decayed else None  # an empty array
        each_step = options.learning_rate[0], options.step_number[0], options.clip()[0], average_decay
        _cpu.adamw_forward(params, grads, mean, mean_square, average, copy, *each_step, *options[5:])


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


def _obey_environment():
    if count := os.environ.get("TINYDIFF_THREADS"):
        if count not in map(str, range(1, MOST_THREADS + 1)):
            raise ValueError(f"TINYDIFF_THREADS must be a number of threads in 1 .. {MOST_THREADS}, got {count!r}")
        use_threads(int(count))
    if name := os.environ.get("TINYDIFF_INSTRUCTION_SET"):
        if name not in instruction_sets():
            known, why = ", ".join(instruction_sets()), lacking_instruction_sets().get(name)
            said = f"TINYDIFF_INSTRUCTION_SET must be one of {known} on this machine, got {name!r}"
            raise ValueError(f"{said}: {why}" if why else said)
        use_instruction_set(name)
