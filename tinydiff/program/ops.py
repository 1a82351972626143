"""The ops of a recording: each checks its arguments as every backend does, makes its outputs, and writes the call down.

Arguments, results and errors are those of ``tinydiff.ops``; derivations are not repeated.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinydiff import ops
from tinydiff.ops import contract
from tinydiff.precision import Stored, bfloat16

FLOAT = np.dtype(np.float32)


def recording_ops(recorder, precision):
    """{name: op} of everything in ``tinydiff.ops``, writing into a ``Recorder``."""
    return {op.__name__: op(recorder, precision) for op in RECORDING}


def _known_when_it_runs(**numbers):
    """Numbers of which some lie in arrays of one element: those, and the others, both by name."""
    arrays = {name: value for name, value in numbers.items() if hasattr(value, "dtype")}
    return arrays, {name: value for name, value in numbers.items() if name not in arrays}


class RecordingOp(Stored):
    """An op and the recorder that it writes into."""

    def __init__(self, recorder, precision):
        self.recorder, self.name = recorder, type(self).__name__
        super().__init__(precision)
        self._checked = {}  # what a check returned; it looks at shapes, dtypes and options alone

    def check(self, *arguments):
        """The reference's own check of its arguments; of such as it has seen before the same result."""
        key = tuple((each.shape, each.dtype) if hasattr(each, "dtype") else each for each in arguments)
        try:
            return self._checked[key]
        except (KeyError, TypeError):
            result = ops.OPS[self.name].check(*arguments)
        self._checked[key] = result
        return result

    def new(self, shape, dtype=FLOAT):
        return self.recorder.new(shape, dtype)

    def activation(self, shape):
        """A new array for an activation or its gradient."""
        return self.recorder.new(shape, self.real)

    def call(self, verb, reads, writes, **options):
        for name, array in {**reads, **writes}.items():
            if array is not None and array.dtype.kind in "fV" and array.dtype != self.dtype(name):
                raise ValueError(f"{self.name}: {name} must be {self.dtype(name)}, got {array.dtype}")
        self.recorder.call(self.name, verb, reads, writes, **options)

    def integers(self, **arrays):
        """Integer arrays by name, as int64."""
        return {name: self.recorder.integers(self.name, name, array) for name, array in arrays.items()}

    def upstream(self, dy, shape):
        contract.expect(self.name, "dy", dy, shape, self.real)

    def output(self, name, into, shape):
        """The array given for a parameter's gradient, which must fit, or where that is None a new one."""
        if into is None:
            return self.new(shape)
        contract.expect(self.name, name, into, shape, FLOAT)
        return into


class linear(RecordingOp):
    Cache = ops.linear.Cache

    def forward(self, x, w, b=None):
        self.check(x, w, b)
        y = self.activation((*x.shape[:-1], w.shape[1]))
        self.call("forward", dict(x=x, w=w, b=b), dict(y=y))
        return y, self.Cache(x, w, b is not None)

    def backward(self, dy, cache, into=(None, None)):
        x, w, has_b = cache
        self.upstream(dy, (*x.shape[:-1], w.shape[1]))
        dx, dw = self.activation(x.shape), self.output("dw", into[0], w.shape)
        db = self.output("db", into[1], w.shape[1:]) if has_b else None
        self.call("backward", dict(dy=dy, x=x, w=w), dict(dx=dx, dw=dw, db=db))
        return dx, dw, db


class conv2d(RecordingOp):
    Cache = ops.conv2d.Cache

    def forward(self, x, w, b=None, add=None, *, stride=1, padding=0):
        padding, y_shape = self.check(x, w, b, add, stride, padding)
        y = self.activation(y_shape)
        self.call("forward", dict(x=x, w=w, b=b, add=add), dict(y=y), stride=stride, padding=padding)
        add_shape = None if add is None else tuple(add.shape)
        return y, self.Cache(x, w, stride, padding, y_shape, b is not None, add_shape)

    def backward(self, dy, cache, into=(None, None)):
        x, w, stride, padding, y_shape, has_b, add_shape = cache
        self.upstream(dy, y_shape)
        dx, dw = self.activation(x.shape), self.output("dw", into[0], w.shape)
        db = self.output("db", into[1], w.shape[3:]) if has_b else None
        has_shift = add_shape is not None and add_shape != y_shape
        dadd = self.activation(add_shape) if has_shift else None
        writes = dict(dx=dx, dw=dw, db=db, dadd=dadd)
        self.call("backward", dict(dy=dy, x=x, w=w), writes, stride=stride, padding=padding)
        if add_shape == y_shape:
            dadd = self.recorder.as_recorded(dy).read_only()
        return dx, dw, db, dadd


class group_norm(RecordingOp):
    Cache = ops.group_norm.Cache

    def forward(self, x, gamma, beta, scale=None, shift=None, *, groups, eps=1e-5, silu=False):
        self.check(x, gamma, beta, scale, shift, groups, eps)
        y, mean, rstd = self.activation(x.shape), self.new((len(x), groups)), self.new((len(x), groups))
        reads = dict(x=x, gamma=gamma, beta=beta, scale=scale, shift=shift)
        self.call("forward", reads, dict(y=y, mean=mean, rstd=rstd), groups=groups, eps=eps, silu=silu)
        return y, self.Cache(x, gamma, beta, scale, shift, mean, rstd, silu)

    def backward(self, dy, cache, add=None, into=(None, None)):
        x, gamma, beta, scale, shift, mean, rstd, silu = cache
        self.upstream(dy, x.shape)
        if add is not None:
            contract.expect("group_norm", "add", add, x.shape, self.real)
        dx = self.activation(x.shape)
        dgamma, dbeta = self.output("dgamma", into[0], gamma.shape), self.output("dbeta", into[1], beta.shape)
        dscale, dshift = (None if each is None else self.activation(each.shape) for each in (scale, shift))
        reads = dict(dy=dy, x=x, gamma=gamma, beta=beta, scale=scale, shift=shift, mean=mean, rstd=rstd, add=add)
        writes = dict(dx=dx, dgamma=dgamma, dbeta=dbeta, dscale=dscale, dshift=dshift)
        self.call("backward", reads, writes, groups=mean.shape[1], silu=silu)
        return dx, dgamma, dbeta, dscale, dshift


class layer_norm(RecordingOp):
    Cache = ops.layer_norm.Cache

    def forward(self, x, gamma, beta, *, eps=1e-5):
        self.check(x, gamma, beta, eps)
        M = x.size // len(gamma)
        y, mean, rstd = self.activation(x.shape), self.new((M,)), self.new((M,))
        self.call("forward", dict(x=x, gamma=gamma, beta=beta), dict(y=y, mean=mean, rstd=rstd), eps=eps)
        return y, self.Cache(x, gamma, mean, rstd)

    def backward(self, dy, cache, add=None, into=(None, None)):
        x, gamma, mean, rstd = cache
        self.upstream(dy, x.shape)
        if add is not None:
            contract.expect("layer_norm", "add", add, x.shape, self.real)
        dx = self.activation(x.shape)
        dgamma, dbeta = self.output("dgamma", into[0], gamma.shape), self.output("dbeta", into[1], gamma.shape)
        reads = dict(dy=dy, x=x, gamma=gamma, mean=mean, rstd=rstd, add=add)
        self.call("backward", reads, dict(dx=dx, dgamma=dgamma, dbeta=dbeta))
        return dx, dgamma, dbeta


class silu(RecordingOp):
    Cache = ops.silu.Cache

    def forward(self, x):
        self.check(x)
        y = self.activation(x.shape)
        self.call("forward", dict(x=x), dict(y=y))
        return y, self.Cache(x)

    def backward(self, dy, cache):
        (x,) = cache
        self.upstream(dy, x.shape)
        dx = self.activation(x.shape)
        self.call("backward", dict(dy=dy, x=x), dict(dx=dx))
        return dx


class gelu(RecordingOp):
    Cache = ops.gelu.Cache

    def forward(self, x, *, form="exact"):
        self.check(x, form)
        y = self.activation(x.shape)
        self.call("forward", dict(x=x), dict(y=y), form=form)
        return y, self.Cache(x, form)

    def backward(self, dy, cache):
        x, form = cache
        self.upstream(dy, x.shape)
        dx = self.activation(x.shape)
        self.call("backward", dict(dy=dy, x=x), dict(dx=dx), form=form)
        return dx


class geglu(RecordingOp):
    Cache = ops.geglu.Cache

    def forward(self, x):
        self.check(x)
        y = self.activation((*x.shape[:-1], x.shape[-1] // 2))
        self.call("forward", dict(x=x), dict(y=y))
        return y, self.Cache(x)

    def backward(self, dy, cache):
        (x,) = cache
        self.upstream(dy, (*x.shape[:-1], x.shape[-1] // 2))
        dx = self.activation(x.shape)
        self.call("backward", dict(dy=dy, x=x), dict(dx=dx))
        return dx


class dropout(RecordingOp):
    class Cache(NamedTuple):
        x_shape: tuple[int, ...]
        arrays: dict[str, Any]  # number, slot or None, and the seed where that lies in an array
        options: dict[str, Any]

    def forward(self, x, number, slot=None, *, rate, layer, seed):
        arrays, numbers = _known_when_it_runs(seed=seed)
        self.check(x, number, slot, rate, layer, numbers.get("seed", 0))
        arrays |= self.integers(number=number)
        arrays |= {"slot": None} if slot is None else self.integers(slot=slot)
        y, options = self.activation(x.shape), dict(rate=float(rate), layer=layer, **numbers)
        self.call("forward", dict(x=x, **arrays), dict(y=y), **options)
        return y, self.Cache(x.shape, arrays, options)

    def backward(self, dy, cache):
        self.upstream(dy, cache.x_shape)
        dx = self.activation(cache.x_shape)
        self.call("backward", dict(dy=dy, **cache.arrays), dict(dx=dx), **cache.options)
        return dx, None, None


class attention(RecordingOp):
    Cache = ops.attention.Cache

    def forward(self, q, k, v, length=None, *, causal=False):
        self.check(q, k, v, length, causal)
        N, L, A, _ = q.shape
        y, lse = self.activation(q.shape), self.new((N, A, L, 1))
        self.call("forward", dict(q=q, k=k, v=v, **self._of(length)), dict(y=y, lse=lse), causal=causal)
        return y, self.Cache(q, k, v, y, lse, length, causal)

    def backward(self, dy, cache):
        q, k, v, y, lse, length, causal = cache
        self.upstream(dy, q.shape)
        dq, dk, dv = self.activation(q.shape), self.activation(k.shape), self.activation(v.shape)
        reads = dict(dy=dy, q=q, k=k, v=v, y=y, lse=lse, **self._of(length))
        self.call("backward", reads, dict(dq=dq, dk=dk, dv=dv), causal=causal)
        return dq, dk, dv, None

    def _of(self, length):
        return {"length": None} if length is None else self.integers(length=length)


class upsample2x(RecordingOp):
    class Cache(NamedTuple):
        x_shape: tuple[int, ...]

    def forward(self, x):
        self.check(x)
        N, H, W, C = x.shape
        y = self.activation((N, 2 * H, 2 * W, C))
        self.call("forward", dict(x=x), dict(y=y))
        return y, self.Cache(x.shape)

    def backward(self, dy, cache):
        N, H, W, C = cache.x_shape
        self.upstream(dy, (N, 2 * H, 2 * W, C))
        dx = self.activation(cache.x_shape)
        self.call("backward", dict(dy=dy), dict(dx=dx))
        return dx


class concat(RecordingOp):
    class Cache(NamedTuple):
        a_shape: tuple[int, ...]
        b_shape: tuple[int, ...]

    def forward(self, a, b):
        self.check(a, b)
        y = self.activation((*a.shape[:-1], a.shape[-1] + b.shape[-1]))
        self.call("forward", dict(a=a, b=b), dict(y=y))
        return y, self.Cache(a.shape, b.shape)

    def backward(self, dy, cache):
        a_shape, b_shape = cache
        self.upstream(dy, (*a_shape[:-1], a_shape[-1] + b_shape[-1]))
        da, db = self.activation(a_shape), self.activation(b_shape)
        self.call("backward", dict(dy=dy), dict(da=da, db=db))
        return da, db


class class_embedding(RecordingOp):
    class Cache(NamedTuple):
        labels: Any  # (N,) int64
        table_shape: tuple[int, int]

    def forward(self, table, labels):
        self.check(table, labels)
        y = self.activation((len(labels), table.shape[1]))
        self.call("forward", dict(table=table, **self.integers(labels=labels)), dict(y=y))
        return y, self.Cache(labels, table.shape)

    def backward(self, dy, cache, into=(None,)):
        labels, table_shape = cache
        self.upstream(dy, (len(labels), table_shape[1]))
        dtable = self.output("dtable", into[0], table_shape)
        self.call("backward", dict(dy=dy, **self.integers(labels=labels)), dict(dtable=dtable))
        return dtable, None


class timestep_embedding(RecordingOp):
    def forward(self, step, *, width):
        self.check(step, width)
        y = self.activation((len(step), width))
        self.call("forward", dict(step=step), dict(y=y))
        return y


class _Loss(RecordingOp):
    def forward(self, prediction, target, weight=None):
        self.check(prediction, target, weight)
        loss = self.new(())
        self.call("forward", dict(prediction=prediction, target=target, weight=weight), dict(loss=loss))
        return loss, ops.OPS[self.name].Cache(prediction, target, weight)

    def backward(self, dloss, cache, *, prediction_only=False):
        """dloss is a number: what it is lies in no array."""
        prediction, target, weight = cache
        dprediction = self.new(prediction.shape)
        dtarget = None if prediction_only else self.new(prediction.shape)
        dweight = None if prediction_only or weight is None else self.new(weight.shape)
        writes = dict(dprediction=dprediction, dtarget=dtarget, dweight=dweight)
        self.call("backward", cache._asdict(), writes, dloss=float(dloss))
        return dprediction, dtarget, dweight


class mse_loss(_Loss):
    pass


class l1_loss(_Loss):
    pass


class gaussian_sample(RecordingOp):
    Cache = ops.gaussian_sample.Cache

    def forward(self, moments, eps):
        self.check(moments, eps)
        y = self.new(eps.shape)
        self.call("forward", dict(moments=moments, eps=eps), dict(y=y))
        return y, self.Cache(moments, eps)

    def backward(self, dy, cache, *, moments_only=False):
        moments, eps = cache
        self.upstream(dy, eps.shape)
        dmoments, deps = self.new(moments.shape), None if moments_only else self.new(eps.shape)
        self.call("backward", dict(dy=dy, moments=moments, eps=eps), dict(dmoments=dmoments, deps=deps))
        return dmoments, deps


class gaussian_kl(RecordingOp):
    Cache = ops.gaussian_kl.Cache

    def forward(self, moments):
        self.check(moments)
        kl = self.new(())
        self.call("forward", dict(moments=moments), dict(kl=kl))
        return kl, self.Cache(moments)

    def backward(self, dkl, cache):
        """dkl is a number: what it is lies in no array."""
        (moments,) = cache
        dmoments = self.new(moments.shape)
        self.call("backward", dict(moments=moments), dict(dmoments=dmoments), dkl=float(dkl))
        return dmoments


class philox(RecordingOp):
    def forward(self, seed, purpose, sample, draw, shape, *, kind, dtype=np.float32):
        ops.philox.check_kinds(purpose, sample, kind)
        if kind == "bits" or dtype != np.float32:
            raise ValueError(f"philox: a program draws float32, got {kind} of {np.dtype(dtype)}")
        y = self.new((len(sample), *shape))
        arrays, numbers = _known_when_it_runs(seed=seed, draw=draw)
        bits = {"seed": 64, "draw": 32}
        numbers = {name: ops.philox.integer(name, value, bits[name]) for name, value in numbers.items()}
        reads = {**self.integers(sample=sample), **arrays}
        self.call("forward", reads, dict(y=y), kind=kind, purpose=purpose, **numbers)
        return y


class draw_batch(RecordingOp):
    def forward(self, labels, number, *, batch, noise_steps, classes, dropout, seed):
        arrays, numbers = _known_when_it_runs(seed=seed)
        ops.draw_batch.check(labels, number, batch, noise_steps, classes, dropout, numbers.get("seed", 0))
        index, step = self.new((batch,), np.int64), self.new((batch,), np.int64)
        labels_N = self.new((batch,), np.int64) if classes else None
        options = dict(noise_steps=noise_steps, classes=classes, dropout=float(dropout), **numbers)
        writes = dict(index=index, step=step, labels_N=labels_N)
        self.call("forward", {**self.integers(labels=labels, number=number), **arrays}, writes, **options)
        return index, step, labels_N


class corrupt(RecordingOp):
    def forward(self, images, index, step, table, draw, slot=None, *, seed, flip=False):
        arrays, numbers = _known_when_it_runs(seed=seed)
        ops.corrupt.check(images, index, step, table, draw, slot, numbers.get("seed", 0), flip)
        shape = len(index), *images.shape[1:]
        x, target, weight = self.new(shape), self.new(shape), self.new((len(index),))
        reads = dict(images=images, **self.integers(index=index, step=step), table=table, **self.integers(draw=draw))
        reads |= {"slot": None} if slot is None else self.integers(slot=slot)
        self.call("forward", reads | arrays, dict(x=x, target=target, weight=weight), flip=flip, **numbers)
        return x, target, weight


class global_norm(RecordingOp):
    def forward(self, grads):
        self.check(grads)
        norm = self.new((1,))
        self.call("forward", dict(grads=grads), dict(norm=norm))
        return norm


class adamw(RecordingOp):
    def dtype(self, name):
        return bfloat16() if name == "copy" else FLOAT

    def forward(self, params, grads, mean, mean_square, average=None, copy=None, **options):
        options = ops.adamw.check(params, grads, mean, mean_square, average, copy, options)._asdict()
        norm, limit = options.pop("norm"), options.pop("limit")
        clip = None if norm is None else self.new((1,))  # the factor of the gradients; None: 1
        if norm is not None:
            self.call("clip", dict(norm=norm), dict(clip=clip), limit=float(limit))
        each_step = {name: options.pop(name) for name in ("learning_rate", "average_decay")}
        each_step |= self.integers(step_number=options.pop("step_number"))
        buffers = dict(params=params, mean=mean, mean_square=mean_square, average=average)
        updates, writes = tuple(buffers), dict(**buffers, copy=copy)
        self.call("forward", dict(grads=grads, clip=clip, **each_step), writes, updates=updates, **options)


RECORDING = (
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
