"""A program's calls as ONNX operators: one function an (op, verb), forward and backward alike.

Each takes the graph, the values that the call reads, the shapes of what it writes and its options, and returns the
values written, by name. Derivations are in ``tinydiff.ops``, of which every function keeps the letters and the terms;
only that images have their channels first. ONNX has no operators for gradients, and needs none: a backward is forward
operators on other arrays.
"""

from __future__ import annotations

import numpy as np

from tinydiff.ops.timestep_embedding import MAX_PERIOD
from tinydiff.program import onnx_losses, onnx_transformer
from tinydiff.program.onnx_graph import BATCH, DOUBLE, FLOAT, Value

PIXELS = (2, 3)  # axes of (N, C, H, W)
DRAWING = ("philox", "draw_batch", "corrupt", "dropout")  # random numbers, by philox


def write(graph, call, reads, shapes):
    """The values that a ``Call`` writes, {name: Value}; without those that only a backward would read if there is none.

    reads   {name: Value or None} of what it reads, and of what it updates
    shapes  {name: shape or None} of what it writes

    Raises ``ValueError`` for a call that has no form in ONNX.
    """
    name = f"{call.op}.{call.verb}"
    if name not in WRITE:
        why = ": it draws from products of 64 bits without a sign, which runtimes lack" if call.op in DRAWING else ""
        raise ValueError(f"onnx: {name} has no form in ONNX{why}")
    return WRITE[name](graph, reads, shapes, call.options)


def _linear_forward(g, r, w, o):
    y = g("MatMul", g.last(r["x"]), r["w"].name)
    if r["b"]:
        y = g("Add", y, r["b"].name)
    return {"y": Value(y, w["y"])}


def _linear_backward(g, r, w, o):
    dy, x, weight = g.matrix(r["dy"]), g.matrix(r["x"]), r["w"].name
    dx = g("Gemm", dy, weight, transB=1)
    return {
        "dx": g.shaped(Value(dx, (BATCH, r["w"].shape[0])), w["dx"]),
        "dw": Value(g("Gemm", x, dy, transA=1), w["dw"]),
        "db": Value(g("ReduceSum", dy, [0], keepdims=0), w["db"]),
    }


def _filter(g, w):
    """(R, S, C, O) -> (O, C, R, S)."""
    return g("Transpose", w.name, perm=(3, 2, 0, 1))


def _conv2d_forward(g, r, w, o):
    pads = (o["padding"][0],) * 2 + (o["padding"][1],) * 2
    b = r["b"].name if r["b"] else None
    y = g("Conv", g.planes(r["x"]), _filter(g, r["w"]), b, strides=(o["stride"],) * 2, pads=pads)
    if r["add"]:
        y = g("Add", y, g.planes(r["add"]))
    return {"y": Value(y, w["y"], planes=True)}


def _conv2d_backward(g, r, w, o):
    dy = g.planes(r["dy"])
    sizes, filters, outputs, O = r["x"].shape[1:3], r["w"].shape[:2], r["dy"].shape[1:3], r["dy"].shape[3]
    stride, before = o["stride"], o["padding"][0]
    # rows and columns that the last filter reaches beyond the image; below 0: of the image that no filter reaches
    beyond = [stride * (n - 1) + R - before - H for H, R, n in zip(sizes, filters, outputs)]
    pads = (before, before, *(max(each, 0) for each in beyond))
    unread = tuple(max(-each, 0) for each in beyond)
    dx = g("ConvTranspose", dy, _filter(g, r["w"]), strides=(stride, stride), pads=pads, output_padding=unread)

    # dw[r,s,c,o] sums x dy over samples and pixels
    columns = _columns(g, r["x"], filters, outputs, stride, pads)
    dy_NPO = g("Transpose", g.reshape(dy, (BATCH, O, outputs[0] * outputs[1])), perm=(0, 2, 1))
    dw = g("ReduceSum", g("MatMul", columns, dy_NPO), [0], keepdims=0)
    return {
        "dx": Value(dx, w["dx"], planes=True),
        "dw": Value(g.reshape(dw, w["dw"]), w["dw"]),
        "db": Value(g("ReduceSum", dy, [0, *PIXELS], keepdims=0), w["db"]),
        "dadd": Value(g("ReduceSum", dy, PIXELS, keepdims=1), w["dadd"], planes=True),
    }


def _columns(g, x, filters, outputs, stride, pads):
    """(N, H, W, C) -> (N, R S C, H' W'): what each place of the filter sees from every output pixel."""
    (R, S), C, planes = filters, x.shape[3], g.planes(x)
    if any(pads):
        planes = g("Pad", planes, [0, 0, *pads[:2], 0, 0, *pads[2:]])
    if R * S * stride > 1:
        rows, columns = (stride * (n - 1) + 1 for n in outputs)
        corners = [(r, s) for r in range(R) for s in range(S)]
        seen = (g("Slice", planes, [r, s], [r + rows, s + columns], PIXELS, [stride, stride]) for r, s in corners)
        planes = g("Concat", *seen, axis=1)
    return g.reshape(planes, (BATCH, R * S * C, outputs[0] * outputs[1]))


def _grouped(g, x, groups):
    """An image's tensor as (N, G, M), and M."""
    N, H, W, C = x.shape
    M = H * W * C // groups
    return g.reshape(g.planes(x), (N, groups, M)), M


def _per_group(g, values_NG, groups):
    """(N, G) -> (N, G, 1), to stand against (N, G, M)."""
    return g.reshape(values_NG, (BATCH, groups, 1))


def _per_channel(g, values):
    """(C) -> (C, 1, 1), and (N, C) -> (N, C, 1, 1), to stand against (N, C, H, W)."""
    return g.reshape(g.last(values), (*values.shape, 1, 1))


def _affine(g, r, xhat):
    """u of xhat (N, G, M), as (N, C, H, W)."""
    N, H, W, C = r["x"].shape
    h = g("Mul", g.reshape(xhat, (N, C, H, W)), _per_channel(g, r["gamma"]))
    h = g("Add", h, _per_channel(g, r["beta"]))
    if not r["scale"]:
        return h
    return g("Add", g("Mul", h, g("Add", _per_channel(g, r["scale"]), 1.0)), _per_channel(g, r["shift"]))


def _group_norm_forward(g, r, w, o):
    groups = o["groups"]
    grouped, _ = _grouped(g, r["x"], groups)
    written = {}
    if g.trains:  # the backward reads mean and rstd
        mean = g("ReduceMean", grouped, [2], keepdims=0)
        deviation = g("Sub", grouped, _per_group(g, mean, groups))
        var = g("ReduceMean", g("Mul", deviation, deviation), [2], keepdims=0)
        rstd = g("Reciprocal", g("Sqrt", g("Add", var, float(o["eps"]))))
        xhat = g("Mul", deviation, _per_group(g, rstd, groups))
        written = {"mean": Value(mean, w["mean"]), "rstd": Value(rstd, w["rstd"])}
    else:  # what runtimes know as a whole, and have a fast kernel for
        one, zero = np.ones(groups, np.float32), np.zeros(groups, np.float32)
        xhat = g("InstanceNormalization", grouped, one, zero, epsilon=float(o["eps"]))
    y = _affine(g, r, xhat)
    if o["silu"]:
        y = g("Mul", y, g("Sigmoid", y))
    return {"y": Value(y, w["y"], planes=True), **written}


def _group_norm_backward(g, r, w, o):
    N, H, W, C = r["x"].shape
    groups = o["groups"]
    grouped, M = _grouped(g, r["x"], groups)
    mean, rstd = (_per_group(g, g.last(r[name]), groups) for name in ("mean", "rstd"))
    xhat_grouped = g("Mul", g("Sub", grouped, mean), rstd)
    xhat = g.reshape(xhat_grouped, (N, C, H, W))
    gamma, beta = g.last(r["gamma"]), g.last(r["beta"])

    # y = silu(u), reversed
    du = g.planes(r["dy"])
    if o["silu"]:
        du = g("Mul", du, _slope(g, _affine(g, r, xhat_grouped)))

    # u = h (1 + scale) + shift, reversed, from sums over the pixels of each sample
    du_xhat = g("ReduceSum", g("Mul", du, xhat), PIXELS, keepdims=0)
    du_sum = g("ReduceSum", du, PIXELS, keepdims=0)
    written = {}
    dh, dh_xhat, dh_sum = du, du_xhat, du_sum
    if r["scale"]:
        dscale = g("Add", g("Mul", du_xhat, gamma), g("Mul", du_sum, beta))
        written = {"dscale": Value(dscale, w["dscale"]), "dshift": Value(du_sum, w["dshift"])}
        dh = g("Mul", du, g("Add", _per_channel(g, r["scale"]), 1.0))
        slope = g("Add", g.last(r["scale"]), 1.0)
        dh_xhat, dh_sum = g("Mul", slope, du_xhat), g("Mul", slope, du_sum)

    # h = gamma xhat + beta, reversed
    written["dgamma"] = Value(g("ReduceSum", dh_xhat, [0], keepdims=0), w["dgamma"])
    written["dbeta"] = Value(g("ReduceSum", dh_sum, [0], keepdims=0), w["dbeta"])
    dxhat = g.reshape(g("Mul", dh, _per_channel(g, r["gamma"])), (N, groups, M))

    # xhat = (x - mean) rstd, reversed
    def group_mean(sums_NC):
        by_group = g.reshape(g("Mul", sums_NC, gamma), (N, groups, C // groups))
        return g("Div", g("ReduceSum", by_group, [2], keepdims=1), float(M))

    through_mean, through_var = group_mean(dh_sum), group_mean(dh_xhat)
    dx = g("Sub", g("Sub", dxhat, through_mean), g("Mul", xhat_grouped, through_var))
    dx = g.reshape(g("Mul", dx, rstd), (N, C, H, W))
    if r["add"]:
        dx = g("Add", dx, g.planes(r["add"]))
    return {"dx": Value(dx, w["dx"], planes=True), **written}


def _slope(g, x):
    """dsilu/dx = s (1 + x (1 - s)) at x."""
    s = g("Sigmoid", x)
    return g("Mul", s, g("Add", g("Mul", x, g("Sub", 1.0, s)), 1.0))


def _silu_forward(g, r, w, o):
    (x,), planes = g.alike(r["x"])
    return {"y": Value(g("Mul", x, g("Sigmoid", x)), w["y"], planes)}


def _silu_backward(g, r, w, o):
    (dy, x), planes = g.alike(r["dy"], r["x"])
    return {"dx": Value(g("Mul", dy, _slope(g, x)), w["dx"], planes)}


def _upsample2x_forward(g, r, w, o):
    twice = np.array([1, 1, 2, 2], np.float32)
    how = dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    return {"y": Value(g("Resize", g.planes(r["x"]), None, twice, **how), w["y"], planes=True)}


def _upsample2x_backward(g, r, w, o):
    N, H, W, C = w["dx"]
    blocks = g.reshape(g.planes(r["dy"]), (N, C, H, 2, W, 2))
    return {"dx": Value(g("ReduceSum", blocks, [3, 5], keepdims=0), w["dx"], planes=True)}


def _concat_forward(g, r, w, o):
    return {"y": Value(g("Concat", g.planes(r["a"]), g.planes(r["b"]), axis=1), w["y"], planes=True)}


def _concat_backward(g, r, w, o):
    widths = [w["da"][-1], w["db"][-1]]
    da, db = g("Split", g.planes(r["dy"]), widths, axis=1, outputs=2)
    return {"da": Value(da, w["da"], planes=True), "db": Value(db, w["db"], planes=True)}


def _class_embedding_forward(g, r, w, o):
    return {"y": Value(g("Gather", r["table"].name, r["labels"].name, axis=0), w["y"])}


def _class_embedding_backward(g, r, w, o):
    K = w["dtable"][0]
    onehot = g("OneHot", r["labels"].name, K, np.array([0, 1], np.float32))
    return {"dtable": Value(g("Gemm", onehot, g.last(r["dy"]), transA=1), w["dtable"])}


def _timestep_embedding_forward(g, r, w, o):
    half = w["y"][1] // 2
    frequency = MAX_PERIOD ** (-np.arange(half, dtype=np.float64) / half)
    # float64 until after the sine: a float32 angle of 999 radians is already off by 3e-5
    step = g.reshape(g("Cast", r["step"].name, to=DOUBLE), (BATCH, 1))
    angle = g("Mul", step, frequency[None])
    waves = g("Concat", g("Sin", angle), g("Cos", angle), axis=1)
    return {"y": Value(g("Cast", waves, to=FLOAT), w["y"])}


def _global_norm_forward(g, r, w, o):
    grads = r["grads"].name
    return {"norm": Value(g("Sqrt", g("ReduceSum", g("Mul", grads, grads), [0], keepdims=1)), w["norm"])}


def _adamw_clip(g, r, w, o):
    norm = r["norm"].name
    is_finite = g("Less", norm, float("inf"))  # which NaN is not
    clip = g("Div", o["limit"], g("Max", norm, o["limit"]))
    return {"clip": Value(g("Where", is_finite, clip, 0.0), w["clip"])}


def _adamw_forward(g, r, w, o):
    params, grads, m, v = (r[name].name for name in ("params", "grads", "mean", "mean_square"))
    beta1, beta2 = o["beta1"], o["beta2"]
    number = g("Cast", r["step_number"].name, to=DOUBLE)

    def bias(beta):
        """1 - beta^n, in double: in float32 the first steps would lose half of its digits."""
        power = g("Pow", np.float64(beta), number)
        return g("Cast", g("Sub", np.float64(1), power), to=FLOAT)

    def mixed(old, new, share):
        """(1 - share) old + share new."""
        return g("Add", g("Mul", old, 1 - share), g("Mul", new, share))

    gradient = g("Mul", grads, r["clip"].name) if r["clip"] else grads
    new = {"mean": mixed(m, gradient, 1 - beta1)}
    new["mean_square"] = mixed(v, g("Mul", gradient, gradient), 1 - beta2)

    scale = g("Add", g("Sqrt", g("Div", new["mean_square"], bias(beta2))), o["eps"])
    update = g("Div", g("Div", new["mean"], scale), bias(beta1))
    if o["weight_decay"]:
        decayed = g("Slice", params, [0], [o["decayed"]], [0])
        behind = [0, r["params"].shape[0] - o["decayed"]]
        update = g("Add", update, g("Pad", g("Mul", decayed, o["weight_decay"]), behind))
    new["params"] = g("Sub", params, g("Mul", update, r["learning_rate"].name))
    if r["average"]:
        through = g("Mul", g("Sub", new["params"], r["average"].name), g("Sub", 1.0, r["average_decay"].name))
        new["average"] = g("Add", r["average"].name, through)

    if r["clip"]:  # 0 after gradients that were not finite: then nothing changes
        goes = g("Greater", r["clip"].name, 0.0)
        new = {name: g("Where", goes, each, r[name].name) for name, each in new.items()}
    return {name: Value(each, w[name]) for name, each in new.items()}


def _of_arrays(op_type):
    """Of arrays of one shape."""

    def written(g, r, w, o):
        names, planes = g.alike(*r.values())
        return {"y": Value(g(op_type, *names), w["y"], planes)}

    return written


def _with_numbers(op_type):
    """Of an array and numbers."""

    def written(g, r, w, o):
        (x,), planes = g.alike(r["x"])
        return {"y": Value(g(op_type, x, *o.values()), w["y"], planes)}

    return written


def _fill(g, r, w, o):
    if BATCH in w["y"]:
        raise ValueError("onnx: an array that grows with the batch is filled with a number")
    dtype = np.float32 if isinstance(o["value"], float) else np.int64
    return {"y": Value(g.constant(np.full(w["y"], o["value"], dtype)), w["y"])}


def _copy(g, r, w, o):
    return {"y": r["x"]}


def _cast(g, r, w, o):
    return {"y": Value(g("Cast", r["x"].name, to=FLOAT), w["y"])}


def _take(g, r, w, o):
    return {"y": Value(g("Gather", g.last(r["table"]), r["index"].name, axis=0), w["y"])}


WRITE = {
    "linear.forward": _linear_forward,
    "linear.backward": _linear_backward,
    "conv2d.forward": _conv2d_forward,
    "conv2d.backward": _conv2d_backward,
    "group_norm.forward": _group_norm_forward,
    "group_norm.backward": _group_norm_backward,
    "silu.forward": _silu_forward,
    "silu.backward": _silu_backward,
    "upsample2x.forward": _upsample2x_forward,
    "upsample2x.backward": _upsample2x_backward,
    "concat.forward": _concat_forward,
    "concat.backward": _concat_backward,
    "class_embedding.forward": _class_embedding_forward,
    "class_embedding.backward": _class_embedding_backward,
    "timestep_embedding.forward": _timestep_embedding_forward,
    **onnx_losses.WRITE,
    **onnx_transformer.WRITE,
    "global_norm.forward": _global_norm_forward,
    "adamw.clip": _adamw_clip,
    "adamw.forward": _adamw_forward,
    "array.add": _of_arrays("Add"),
    "array.subtract": _of_arrays("Sub"),
    "array.add_number": _with_numbers("Add"),
    "array.multiply_number": _with_numbers("Mul"),
    "array.divide_number": _with_numbers("Div"),
    "array.clip": _with_numbers("Clip"),
    "array.fill": _fill,
    "array.copy": _copy,
    "array.cast": _cast,
    "array.take": _take,
}
