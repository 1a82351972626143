"""The ops of a transformer's blocks as ONNX operators: functions as in ``onnx_ops``."""

from __future__ import annotations

import math

import numpy as np

from tinydiff.ops import gelu
from tinydiff.program.onnx_graph import BATCH, Value


def _layer_norm_forward(g, r, w, o):
    x = g.last(r["x"])
    mean = g("ReduceMean", x, [-1], keepdims=1)
    deviation = g("Sub", x, mean)
    var = g("ReduceMean", g("Mul", deviation, deviation), [-1], keepdims=1)
    rstd = g("Reciprocal", g("Sqrt", g("Add", var, float(o["eps"]))))
    y = g("Add", g("Mul", g("Mul", deviation, rstd), r["gamma"].name), r["beta"].name)
    written = {name: Value(g.reshape(each, w[name]), w[name]) for name, each in (("mean", mean), ("rstd", rstd))}
    return {"y": Value(y, w["y"]), **written}


def _layer_norm_backward(g, r, w, o):
    x, dy = g.matrix(r["x"]), g.matrix(r["dy"])
    mean, rstd = (g.reshape(r[name].name, (BATCH, 1)) for name in ("mean", "rstd"))
    xhat = g("Mul", g("Sub", x, mean), rstd)
    dxhat = g("Mul", dy, r["gamma"].name)
    through_mean = g("ReduceMean", dxhat, [1], keepdims=1)
    through_var = g("ReduceMean", g("Mul", dxhat, xhat), [1], keepdims=1)
    dx = g("Mul", rstd, g("Sub", g("Sub", dxhat, through_mean), g("Mul", xhat, through_var)))
    if r["add"]:
        dx = g("Add", dx, g.matrix(r["add"]))
    return {
        "dx": g.shaped(Value(dx, (BATCH, r["gamma"].shape[0])), w["dx"]),
        "dgamma": Value(g("ReduceSum", g("Mul", dy, xhat), [0], keepdims=0), w["dgamma"]),
        "dbeta": Value(g("ReduceSum", dy, [0], keepdims=0), w["dbeta"]),
    }


def _heads_outside(g, x):
    """(N, L, A, D) -> (N, A, L, D); its own reverse."""
    return g("Transpose", x, perm=(0, 2, 1, 3))


def _turned(g, x):
    """(N, A, L, D) -> (N, A, D, L)."""
    return g("Transpose", x, perm=(0, 1, 3, 2))


def _scores(g, r, o):
    """s (N, A, L, M) = q k^T / sqrt(D), of values (N, L, A, D) and (N, M, A, D), -inf where a query does not look at a
    key."""
    q, k = r["q"], r["k"]
    scaled = g("Mul", _heads_outside(g, g.last(q)), float(q.shape[-1] ** -0.5))
    s = g("MatMul", scaled, g("Transpose", g.last(k), perm=(0, 2, 3, 1)))
    key = np.arange(k.shape[1])
    if r["length"]:
        is_there = g("Less", key, g.reshape(r["length"].name, (BATCH, 1, 1, 1)))
        s = g("Where", is_there, s, -math.inf)
    if o["causal"]:
        s = g("Add", s, np.where(key <= key[:, None], 0, -np.inf).astype(np.float32))
    return s


def _attention_forward(g, r, w, o):
    s = _scores(g, r, o)
    y = g("MatMul", g("Softmax", s, axis=-1), _heads_outside(g, g.last(r["v"])))
    lse = g("ReduceLogSumExp", s, [-1], keepdims=1)  # which nobody reads: a backward finds the softmax as it is
    return {"y": Value(_heads_outside(g, y), w["y"]), "lse": Value(lse, w["lse"])}


def _attention_backward(g, r, w, o):
    q, k, v, dy = (_heads_outside(g, g.last(r[name])) for name in ("q", "k", "v", "dy"))
    p = g("Softmax", _scores(g, r, o), axis=-1)

    # y = p v, reversed
    dv = g("MatMul", _turned(g, p), dy)
    dp = g("MatMul", dy, _turned(g, v))

    # p = softmax(s), reversed
    row_dot = g("ReduceSum", g("Mul", dy, _heads_outside(g, g.last(r["y"]))), [-1], keepdims=1)
    ds = g("Mul", p, g("Sub", dp, row_dot))

    # s = q k^T scale, reversed
    ds = g("Mul", ds, float(r["q"].shape[-1] ** -0.5))
    dq, dk = g("MatMul", ds, k), g("MatMul", _turned(g, ds), q)
    return {name: Value(_heads_outside(g, each), w[name]) for name, each in (("dq", dq), ("dk", dk), ("dv", dv))}


def _share(g, x, form):
    """P of every x: what a GELU lets through."""
    if form == "exact":
        return g("Mul", g("Add", g("Erf", g("Mul", x, 0.5**0.5)), 1.0), 0.5)
    if form == "quick":
        return g("Sigmoid", g("Mul", x, gelu.QUICK))
    cube = g("Mul", g("Mul", x, x), x)
    return g("Sigmoid", g("Mul", g("Add", x, g("Mul", cube, gelu.CUBIC)), gelu.TANH))


def _gelu_slope(g, x, form):
    """dgelu/dx = P + x P'(x) at x."""
    P, square = _share(g, x, form), g("Mul", x, x)
    if form == "exact":
        density = g("Mul", g("Exp", g("Mul", square, -0.5)), (2 * math.pi) ** -0.5)
    else:
        steepness = gelu.QUICK if form == "quick" else g("Add", g("Mul", square, 3 * gelu.CUBIC * gelu.TANH), gelu.TANH)
        density = g("Mul", g("Mul", P, g("Sub", 1.0, P)), steepness)
    return g("Add", P, g("Mul", x, density))


def _gelu_forward(g, r, w, o):
    (x,), planes = g.alike(r["x"])
    return {"y": Value(g("Mul", x, _share(g, x, o["form"])), w["y"], planes)}


def _gelu_backward(g, r, w, o):
    (dy, x), planes = g.alike(r["dy"], r["x"])
    return {"dx": Value(g("Mul", dy, _gelu_slope(g, x, o["form"])), w["dx"], planes)}


def _halves(g, x):
    C = x.shape[-1] // 2
    whole = g.last(x)
    return (g("Slice", whole, [first], [first + C], [-1]) for first in (0, C))


def _geglu_forward(g, r, w, o):
    a, gate = _halves(g, r["x"])
    return {"y": Value(g("Mul", a, g("Mul", gate, _share(g, gate, "exact"))), w["y"])}


def _geglu_backward(g, r, w, o):
    a, gate = _halves(g, r["x"])
    dy = g.last(r["dy"])
    da = g("Mul", dy, g("Mul", gate, _share(g, gate, "exact")))
    dg = g("Mul", g("Mul", dy, a), _gelu_slope(g, gate, "exact"))
    return {"dx": Value(g("Concat", da, dg, axis=-1), w["dx"])}


WRITE = {
    "layer_norm.forward": _layer_norm_forward,
    "layer_norm.backward": _layer_norm_backward,
    "attention.forward": _attention_forward,
    "attention.backward": _attention_backward,
    "gelu.forward": _gelu_forward,
    "gelu.backward": _gelu_backward,
    "geglu.forward": _geglu_forward,
    "geglu.backward": _geglu_backward,
}
