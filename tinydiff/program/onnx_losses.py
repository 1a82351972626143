"""Losses, and the normal distributions of an autoencoder, as ONNX operators: functions as in ``onnx_ops``."""

from __future__ import annotations

from tinydiff.ops.gaussian_sample import HIGH, LOW
from tinydiff.program.onnx_graph import BATCH, FLOAT, Value


def _error(g, r):
    """prediction - target, the weight (N) to stand against it, or None, and the layout."""
    (prediction, target), planes = g.alike(r["prediction"], r["target"])
    weight = None
    if r["weight"]:
        weight = g.reshape(r["weight"].name, (BATCH, *[1] * (len(r["prediction"].shape) - 1)))
    return g("Sub", prediction, target), weight, planes


def _square(g, error):
    return g("Mul", error, error)


def _size(g, error):
    return g("Abs", error)


def _forward(size):
    """Of a loss that is the mean of this of the errors."""

    def written(g, r, w, o):
        error, weight, _ = _error(g, r)
        sizes = size(g, error)
        if weight:
            sizes = g("Mul", sizes, weight)
        return {"loss": Value(g("ReduceMean", sizes, keepdims=0), w["loss"])}

    return written


def _backward(size, slope):
    """The same; ``slope`` is the derivative of the size of an error."""

    def written(g, r, w, o):
        error, weight, planes = _error(g, r)
        mean = g("Div", o["dloss"], g("Cast", g("Size", error), to=FLOAT))
        sums = g("ReduceSum", size(g, error), list(range(1, len(r["prediction"].shape))), keepdims=0)
        weighted = g("Mul", slope(g, error), weight) if weight else slope(g, error)
        dprediction = g("Mul", weighted, mean)
        return {
            "dprediction": Value(dprediction, w["dprediction"], planes),
            "dtarget": Value(g("Neg", dprediction), w["dtarget"], planes),
            "dweight": Value(g("Mul", sums, mean), w["dweight"]),
        }

    return written


def _moments(g, r, *others):
    """mean, logvar, v = clip(logvar), whatever else has as many axes, the axis of the channels, and the layout."""
    (moments, *others), planes = g.alike(r["moments"], *(r[name] for name in others))
    axis, Z = 1 if planes else len(r["moments"].shape) - 1, r["moments"].shape[-1] // 2
    mean, logvar = g("Split", moments, [Z, Z], axis=axis, outputs=2)
    return mean, logvar, g("Clip", logvar, LOW, HIGH), *others, axis, planes


def _joined(g, dmean, dv, v, logvar, axis):
    """dmoments of dmean and of dv, which goes on to logvar where that was not cut off."""
    uncut = g("Cast", g("Equal", v, logvar), to=FLOAT)
    return g("Concat", dmean, g("Mul", dv, uncut), axis=axis)


def _gaussian_sample_forward(g, r, w, o):
    mean, _, v, eps, _, planes = _moments(g, r, "eps")
    std = g("Exp", g("Mul", v, 0.5))
    return {"y": Value(g("Add", mean, g("Mul", std, eps)), w["y"], planes)}


def _gaussian_sample_backward(g, r, w, o):
    _, logvar, v, eps, dy, axis, planes = _moments(g, r, "eps", "dy")
    std = g("Exp", g("Mul", v, 0.5))
    dv = g("Mul", g("Mul", g("Mul", dy, eps), std), 0.5)
    return {
        "dmoments": Value(_joined(g, dy, dv, v, logvar, axis), w["dmoments"], planes),
        "deps": Value(g("Mul", dy, std), w["deps"], planes),
    }


def _gaussian_kl_forward(g, r, w, o):
    mean, _, v, _, _ = _moments(g, r)
    each = g("Add", g("Mul", mean, mean), g("Sub", g("Sub", g("Exp", v), 1.0), v))
    return {"kl": Value(g("ReduceMean", g("Mul", each, 0.5), keepdims=0), w["kl"])}


def _gaussian_kl_backward(g, r, w, o):
    mean, logvar, v, axis, planes = _moments(g, r)
    each = g("Div", o["dkl"], g("Cast", g("Size", mean), to=FLOAT))
    dv = g("Mul", g("Sub", g("Exp", v), 1.0), g("Mul", each, 0.5))
    return {"dmoments": Value(_joined(g, g("Mul", mean, each), dv, v, logvar, axis), w["dmoments"], planes)}


WRITE = {
    "mse_loss.forward": _forward(_square),
    "mse_loss.backward": _backward(_square, lambda g, error: g("Mul", error, 2.0)),
    "l1_loss.forward": _forward(_size),
    "l1_loss.backward": _backward(_size, lambda g, error: g("Sign", error)),
    "gaussian_sample.forward": _gaussian_sample_forward,
    "gaussian_sample.backward": _gaussian_sample_backward,
    "gaussian_kl.forward": _gaussian_kl_forward,
    "gaussian_kl.backward": _gaussian_kl_backward,
}
