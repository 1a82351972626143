"""The ops of a transformer's blocks, as the cuda and the emulator backend run them: ops as in ``cuda``."""

from __future__ import annotations

from tinydiff import ops
from tinydiff.backends.launch_table import ceil_div, split
from tinydiff.backends.op import Op, f32, i32, i64
from tinydiff.ops import contract


class layer_norm(Op):
    Cache = ops.layer_norm.Cache

    def forward(self, x, gamma, beta, *, eps=1e-5):
        ops.layer_norm.check(x, gamma, beta, eps)
        self.dense(x=x, gamma=gamma, beta=beta)
        C = len(gamma)
        M = x.size // C
        self.countable(C=C)
        y, mean, rstd = self.activation(x.shape), self.empty(M), self.empty(M)
        self.launch("forward", dict(count=32 * M), x, gamma, beta, y, mean, rstd, i64(M), i32(C), f32(eps))
        return y, self.Cache(x, gamma, mean, rstd)

    def backward(self, dy, cache, add=None, into=(None, None)):
        x, gamma, mean, rstd = cache
        self.upstream(dy, x.shape)
        if add is not None:
            contract.expect("layer_norm", "add", add, x.shape, self.real)
            self.dense(add=add)
        C = len(gamma)
        M = x.size // C
        dgamma, dbeta = self.output("dgamma", into[0], (C,)), self.output("dbeta", into[1], (C,))
        dx = self.activation(x.shape)
        self.launch("backward", dict(count=32 * M), dy, x, gamma, mean, rstd, add, dx, i64(M), i32(C))
        parts, stretch = split(M, ceil_div(C, 32))
        sums = self.empty((parts, 2, C))
        launch = dict(rows=1, columns=C, parts=parts)
        self.launch("parameter_gradients", launch, dy, x, mean, rstd, sums, i64(M), i32(C), i64(stretch))
        self.launch("merge", dict(count=C), sums, dgamma, dbeta, i32(parts), i32(C))
        return dx, dgamma, dbeta


class attention(Op):
    Cache = ops.attention.Cache  # with lse (N, A, L)

    def forward(self, q, k, v, length=None, *, causal=False):
        ops.attention.check(q, k, v, length, causal)
        if self.launcher.values_at_hand:
            ops.attention.check_values(k, length)
        self.dense(q=q, k=k, v=v)
        N, L, A, D = q.shape
        M = k.shape[1]
        self.countable(N=N, L=L, M=M, A=A, D=D)
        length = None if length is None else self.integers(length)
        y, lse = self.activation(q.shape), self.empty((N, A, L))
        cache = self.Cache(q, k, v, y, lse, length, causal)
        self.launch("forward", dict(N=N, A=A, L=L, M=M, D=D), q, k, v, y, lse, *self._others(cache))
        return y, cache

    def backward(self, dy, cache):
        q, k, v, y, lse, *_ = cache
        self.upstream(dy, q.shape)
        N, L, A, D = q.shape
        launch = dict(N=N, A=A, L=L, M=k.shape[1], D=D)
        row_dot = self.empty((N, A, L))
        dq, dk, dv = self.activation(q.shape), self.activation(k.shape), self.activation(v.shape)
        self.launch("row_dot", dict(count=N * A * L), dy, y, row_dot, i32(N), i32(L), i32(A), i32(D))
        self.launch("query_gradient", launch, dy, q, k, v, lse, row_dot, dq, *self._others(cache))
        self.launch("key_gradient", launch, dy, q, k, v, lse, row_dot, dk, dv, *self._others(cache))
        return dq, dk, dv, None

    def _others(self, cache):
        """The sizes as kernels take them, and which keys are looked at."""
        _, L, A, D = cache.q.shape
        sizes = i32(L), i32(cache.k.shape[1]), i32(A), i32(D), f32(D**-0.5)
        return *sizes, cache.length, i32(cache.causal)


class gelu(Op):
    Cache = ops.gelu.Cache

    def forward(self, x, *, form="exact"):
        ops.gelu.check(x, form)
        self.dense(x=x)
        y = self.activation(x.shape)
        self.launch("forward", dict(count=x.size, bytes=x.nbytes), x, y, i64(x.size), self._number_of(form))
        return y, self.Cache(x, form)

    def backward(self, dy, cache):
        x, form = cache
        self.upstream(dy, x.shape)
        dx = self.activation(x.shape)
        self.launch("backward", dict(count=x.size, bytes=x.nbytes), dy, x, dx, i64(x.size), self._number_of(form))
        return dx

    def _number_of(self, form):
        return i32(ops.gelu.FORMS.index(form))


class geglu(Op):
    Cache = ops.geglu.Cache

    def forward(self, x):
        ops.geglu.check(x)
        self.dense(x=x)
        C = x.shape[-1] // 2
        self.countable(C=C)
        y = self.activation((*x.shape[:-1], C))
        self.launch("forward", dict(count=y.size), x, y, i64(y.size), i32(C))
        return y, self.Cache(x)

    def backward(self, dy, cache):
        (x,) = cache
        C = x.shape[-1] // 2
        self.upstream(dy, (*x.shape[:-1], C))
        dx = self.activation(x.shape)
        self.launch("backward", dict(count=dy.size), dy, x, dx, i64(dy.size), i32(C))
        return dx
