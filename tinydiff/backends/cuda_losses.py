"""The ops of the cuda and the emulator backend that a loss is made of, as those of ``cuda.py``."""

from __future__ import annotations

from typing import Any, NamedTuple

from tinydiff import ops
from tinydiff.backends.launch_table import STRETCH, ceil_div
from tinydiff.backends.op import Op, f32, i32, i64


class LossOp(Op):
    """An op that makes one number, the gradient of which is a number too, or an array that only the device need know."""

    def upstream_number(self, dloss):
        """(array or None, number)."""
        return (dloss, f32(0)) if isinstance(dloss, self.launcher.xp.ndarray) else (None, f32(dloss))


class _Errors(LossOp):
    """A loss that is the mean of something of each error."""

    class Cache(NamedTuple):
        for_one: Any  # dprediction where dloss is 1, as in training: made while both arrays were read
        sums: Any  # (N,), of each sample: dweight needs it and little else
        weighted: bool

    def forward(self, prediction, target, weight=None):
        ops.OPS[self.name].check(prediction, target, weight)
        self.dense(prediction=prediction, target=target, weight=weight)
        N = len(prediction)
        M = prediction.size // N
        self.countable(N=N)
        parts = ceil_div(M, STRETCH)
        sums_NP, sums, loss = self.empty((N, parts)), self.empty(N), self.empty(())
        for_one = self.empty(prediction.shape)
        arrays = prediction, target, weight, sums_NP, for_one
        self.launch("sums", dict(parts=parts, N=N), *arrays, i64(M), i64(STRETCH))
        self.launch("forward", {}, sums_NP, weight, loss, sums, i32(N), i32(parts), i64(M))
        return loss, self.Cache(for_one, sums, weight is not None)

    def backward(self, dloss, cache, *, prediction_only=False):
        """dloss is a number, or an array of one that only the device need know."""
        for_one, sums, weighted = cache
        if prediction_only and isinstance(dloss, float) and dloss == 1:
            return self.read_only(for_one), None, None
        N = len(for_one)
        dprediction = self.empty(for_one.shape)
        dtarget = None if prediction_only else self.empty(for_one.shape)
        dweight = self.empty(N) if weighted and not prediction_only else None
        outputs = dprediction, dtarget, dweight
        sizes = i32(N), i64(for_one.size // N)
        given = *self.upstream_number(dloss), for_one, sums
        self.launch("backward", dict(count=for_one.size), *given, *outputs, *sizes)
        return outputs


class mse_loss(_Errors):
    pass


class l1_loss(_Errors):
    pass


class gaussian_sample(Op):
    Cache = ops.gaussian_sample.Cache

    def forward(self, moments, eps):
        ops.gaussian_sample.check(moments, eps)
        self.dense(moments=moments, eps=eps)
        Z = eps.shape[-1]
        self.countable(Z=Z)
        y = self.empty(eps.shape)
        self.launch("forward", dict(count=eps.size), moments, eps, y, i64(eps.size), i32(Z))
        return y, self.Cache(moments, eps)

    def backward(self, dy, cache, *, moments_only=False):
        moments, eps = cache
        self.upstream(dy, eps.shape)
        dmoments, deps = self.empty(moments.shape), None if moments_only else self.empty(eps.shape)
        arrays = dy, moments, eps, dmoments, deps
        self.launch("backward", dict(count=eps.size), *arrays, i64(eps.size), i32(eps.shape[-1]))
        return dmoments, deps


class gaussian_kl(LossOp):
    Cache = ops.gaussian_kl.Cache

    def forward(self, moments):
        ops.gaussian_kl.check(moments)
        self.dense(moments=moments)
        count, Z = moments.size // 2, moments.shape[-1] // 2
        self.countable(Z=Z)
        parts = ceil_div(count, STRETCH)
        sums, kl = self.empty(parts), self.empty(())
        self.launch("sums", dict(parts=parts), moments, sums, i64(count), i32(Z), i64(STRETCH))
        self.launch("forward", {}, sums, kl, i32(parts), i64(count))
        return kl, self.Cache(moments)

    def backward(self, dkl, cache):
        """dkl is a number, or an array of one that only the device need know."""
        (moments,) = cache
        count, dmoments = moments.size // 2, self.empty(moments.shape)
        sizes = i64(count), i32(moments.shape[-1] // 2)
        self.launch("backward", dict(count=count), *self.upstream_number(dkl), moments, dmoments, *sizes)
        return dmoments
