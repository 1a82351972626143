"""Every op with a gradient, worked by hand at a size where every product can be written down.

An example is given numbers, and returns the lines to print and the results they arrive at, computed here by the sums as
written, not by the op; the tests hold both to each other. Given numbers of a ``trace.Tape`` it returns lines with marks
in their places, which a page of the site fills with others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinydiff.gradcheck.trace import Traced
from tinydiff.ops import philox


class Worked(NamedTuple):
    """One example: what goes in, the arithmetic line by line, and what comes out."""

    inputs: dict  # {name: array}
    options: dict
    dy: np.ndarray
    forward: list[str]
    backward: list[str]
    results: dict  # {"y": array, "d<input>": array, ...} as the lines have them


class Example(NamedTuple):
    """An op at given numbers, of the op's shapes; float32 holds them exactly."""

    inputs: dict[str, Any]
    dy: np.ndarray
    work: Callable  # (*inputs, dy) -> forward, backward, results; the options are its own
    options: dict = {}

    def __call__(self, inputs=None, dy=None):
        """The example as ``Worked``, at its own numbers or others of the same shapes."""
        inputs, dy = self.inputs if inputs is None else inputs, self.dy if dy is None else dy
        return Worked(inputs, self.options, dy, *self.work(*inputs.values(), dy, **self.options))


def linear(x, w, b, dy):
    (M, C), O = x.shape, len(b)
    y, dx, dw, db = _zeros(x, M, O), _zeros(x, M, C), _zeros(x, C, O), _zeros(x, O)
    forward = ["every y[m,o] takes a row of x and a column of w, and b[o]:"]
    for m, o in np.ndindex(M, O):
        y[m, o], text = _sum([(x[m, c], w[c, o]) for c in range(C)], [b[o]])
        forward.append(f"  y[{m},{o}]  = {text}")
    backward = ["x[m,c] went into every y of its row, each time with a weight:"]
    for m, c in np.ndindex(M, C):
        dx[m, c], text = _sum([(dy[m, o], w[c, o]) for o in range(O)])
        backward.append(f"  dx[{m},{c}] = {text}")
    backward.append("w[c,o] went into y[m,o] of every row m, each time with an x:")
    for c, o in np.ndindex(C, O):
        dw[c, o], text = _sum([(x[m, c], dy[m, o]) for m in range(M)])
        backward.append(f"  dw[{c},{o}] = {text}")
    backward.append("b[o] was added to y[m,o] of every row m:")
    for o in range(O):
        db[o], text = _sum([], dy[:, o])
        backward.append(f"  db[{o}]   = {text}")
    return forward, backward, {"y": y, "dx": dx, "dw": dw, "db": db}


def conv2d(x, w, b, add, dy):
    x, w, add, dy = x[0, :, :, 0], w[:, :, 0, 0], add[0, 0, 0, 0], dy[0, :, :, 0]
    y, dx, dw = _zeros(x, 2, 2), _zeros(x, 3, 3), _zeros(x, 2, 2)
    forward = ["a filter of 2 x 2 fits on an image of 3 x 3 at four places; then come b and add:"]
    for h, v in np.ndindex(2, 2):
        y[h, v], text = _sum([(x[h + r, v + s], w[r, s]) for r, s in np.ndindex(2, 2)], [b[0], add])
        forward.append(f"  y[{h},{v}]  = {text}")
    backward = ["a weight met the image at four places, dw[r,s] = sum of x[h+r, w+s] dy[h,w] over them:"]
    for r, s in np.ndindex(2, 2):
        dw[r, s], text = _sum([(x[h + r, v + s], dy[h, v]) for h, v in np.ndindex(2, 2)])
        backward.append(f"  dw[{r},{s}] = {text}")
    backward.append("a pixel was met by every weight that reached it, dx[i,j] = sum of dy[i-r, j-s] w[r,s] over them:")
    for i, j in np.ndindex(3, 3):
        reached = [(r, s) for r, s in np.ndindex(2, 2) if 0 <= i - r < 2 and 0 <= j - s < 2]
        dx[i, j], text = _sum([(dy[i - r, j - s], w[r, s]) for r, s in reached])
        backward.append(f"  dx[{i},{j}] = {text}")
    db, text = _sum([], dy.ravel())
    backward += ["b was added at all four places, and so was add:", f"  db = dadd = {text}"]
    results = {"y": y[None, :, :, None], "dx": dx[None, :, :, None], "dw": dw[:, :, None, None]}
    return forward, backward, results | {"db": np.array([db]), "dadd": np.array(db).reshape(1, 1, 1, 1)}


def group_norm(x, gamma, beta, scale, shift, dy, *, groups, eps):
    x, dy, gamma, beta, scale, shift = x.ravel(), dy.ravel(), gamma[0], beta[0], scale[0, 0], shift[0, 0]
    total, mean_text = _sum([], x)
    mean = total / 4
    deviation = x - mean
    squares, var_text = _sum(list(zip(deviation, deviation)))
    var = squares / 4
    rstd = 1 / np.sqrt(var + eps)
    xhat = deviation * rstd
    h = gamma * xhat + beta
    y = h * (1 + scale) + shift
    forward = [
        f"one group of M = 4 pixels of one channel, with scale and shift; eps = {_n(eps)} to see it",
        f"  mean = ({mean_text}) / 4 = {_n(mean)}",
        f"  x - mean = {_row(deviation)}",
        f"  var  = ({var_text}) / 4 = {_n(var)}",
        f"  rstd = 1 / sqrt({_n(var)} + {_n(eps)}) = {_n(rstd)}",
        f"  xhat = {_row(xhat)}",
        f"  h    = gamma xhat + beta = {_p(gamma)} xhat + {_p(beta)} = {_row(h)}",
        f"  y    = h (1 + scale) + shift = {_p(1 + scale)} h + {_p(shift)} = {_row(y)}",
    ]
    dscale, dscale_text = _sum(list(zip(dy, h)))
    dshift, dshift_text = _sum([], dy)
    dh = dy * (1 + scale)
    dgamma, dgamma_text = _sum(list(zip(dh, xhat)))
    dbeta, dbeta_text = _sum([], dh)
    dxhat = dh * gamma
    mean_total, mean_text = _sum([], dxhat)
    var_total, var_text = _sum(list(zip(dxhat, xhat)))
    through_mean, through_var = mean_total / 4, var_total / 4
    dx = rstd * (dxhat - through_mean - xhat * through_var)
    backward = [
        "u = y here, so du = dy; the scale and the shift are the channel's, and gather over its pixels:",
        f"  dscale = {dscale_text}",
        f"  dshift = {dshift_text}",
        f"  dh     = {_p(1 + scale)} dy = {_row(dh)}",
        f"  dgamma = {dgamma_text}",
        f"  dbeta  = {dbeta_text}",
        f"  dxhat  = {_p(gamma)} dh = {_row(dxhat)}",
        f"  through_mean = ({mean_text}) / 4 = {_n(through_mean)}",
        f"  through_var  = ({var_text}) / 4 = {_n(through_var)}",
        "dx = rstd (dxhat - through_mean - xhat through_var):",
    ]
    for i in range(4):
        direct, by_mean, by_var = _p(dxhat[i]), _p(through_mean), f"{_p(xhat[i])}·{_p(through_var)}"
        backward.append(f"  dx[{i}] = {_n(rstd)} ({direct} - {by_mean} - {by_var}) = {_n(dx[i])}")
    backward.append(f"they sum to {_nought(sum(dx))}: moving all pixels together changes nothing")
    results = {"y": y.reshape(1, 2, 2, 1), "dx": dx.reshape(1, 2, 2, 1)}
    results |= {"dgamma": np.array([dgamma]), "dbeta": np.array([dbeta])}
    return forward, backward, results | {"dscale": np.array([[dscale]]), "dshift": np.array([[dshift]])}


def silu(x, dy):
    s = 1 / (1 + np.exp(-x))
    y, dx = x * s, dy * (s + x * s * (1 - s))
    forward, backward = [], ["the product rule: x moves y = x s by itself, times s, and through s, times x s (1 - s):"]
    for i in range(3):
        forward.append(
            f"  s[{i}] = 1 / (1 + exp({_n(-x[i])})) = {_n(s[i])},   y[{i}] = {_p(x[i])}·{_p(s[i])} = {_n(y[i])}"
        )
        through = f"{_p(x[i])}·{_p(s[i])}·{_p(1 - s[i])}"
        backward.append(f"  dx[{i}] = {_p(dy[i])}·({_n(s[i])} + {through}) = {_n(dx[i])}")
    return forward, backward, {"y": y, "dx": dx}


def dropout(x, number, slot, dy, *, rate, layer, seed):
    M, threshold = x.shape[1], round(65536 * rate)
    scale = 1 / (1 - threshold / 65536)
    counter = np.arange(M), number[0], slot[0], philox.PURPOSES["dropout"] + 256 * layer
    half = philox.philox4x32(counter, (seed, 0))[0].astype(int) % 65536
    keep = (half >= threshold).astype(int)
    y, dx = _zeros(x, 1, M), _zeros(x, 1, M)
    forward = [
        f"one sample; rate {rate:g} is a threshold of {threshold} in 65536, and scale {scale:.4g}",
        "  half = the lower half of the first of four words that philox makes of",
        f"         (block m, number {number[0]}, slot {slot[0]}, purpose {counter[3]}) under the seed {seed}:",
        f"  half = {_integers(half)}",
        f"  keep = {_integers(keep)}",
    ]
    backward = ["a value that was dropped moved nothing; the others moved y by scale as much as they were moved:"]
    for m in range(M):
        factor = float(keep[m]) * scale
        y[0, m], dx[0, m] = factor * x[0, m], factor * dy[0, m]
        forward.append(f"  y[{m}]  = {_p(x[0, m])}·{keep[m]}·{_n(scale)} = {_n(y[0, m])}")
        backward.append(f"  dx[{m}] = {_p(dy[0, m])}·{keep[m]}·{_n(scale)} = {_n(dx[0, m])}")
    return forward, backward, {"y": y, "dx": dx}


def attention(q, k, v, dy):
    q, k, v, dy = (each.ravel() for each in (q, k, v, dy))
    s = np.outer(q, k)
    p = np.exp(s) / np.exp(s).sum(axis=1, keepdims=True)
    y = p @ v
    forward = ["two queries, two keys, head width D = 1, so that sqrt(D) = 1; every line for one query l"]
    for row in range(2):
        scores = f"s[{row}] = [{_p(q[row])}·{_p(k[0])}, {_p(q[row])}·{_p(k[1])}] = {_row(s[row])}"
        mixed = f"{_p(p[row, 0])}·{_p(v[0])} + {_p(p[row, 1])}·{_p(v[1])}"
        forward.append(f"  {scores},   p[{row}] = softmax = {_row(p[row])},   y[{row}] = {mixed} = {_n(y[row])}")
    dv = p.T @ dy
    dp = np.outer(dy, v)
    row_dot = dy * y
    ds = p * (dp - row_dot[:, None])
    dq, dk = ds @ k, ds.T @ q
    backward = ["y = p v, reversed:"]
    for m in range(2):
        _, text = _sum([(p[row, m], dy[row]) for row in range(2)])
        backward.append(f"  dv[{m}] = {text}")
    backward += [f"  dp = dy v^T = {_row(dp[0])}, {_row(dp[1])}", "p = softmax(s), reversed, ds = p (dp - row_dot):"]
    for row in range(2):
        backward.append(f"  row_dot[{row}] = dy y = {_p(dy[row])}·{_p(y[row])} = {_n(row_dot[row])}")
        each = [f"{_p(p[row, m])}·({_n(dp[row, m])} - {_p(row_dot[row])})" for m in range(2)]
        backward.append(f"  ds[{row}] = [{each[0]}, {each[1]}] = {_row(ds[row])}")
    backward.append("a row of ds sums to 0: adding one number to all scores of a query changes nothing")
    backward.append("s = q k^T, reversed:")
    for row in range(2):
        _, text = _sum([(ds[row, m], k[m]) for m in range(2)])
        backward.append(f"  dq[{row}] = {text}")
    for m in range(2):
        _, text = _sum([(ds[row, m], q[row]) for row in range(2)])
        backward.append(f"  dk[{m}] = {text}")
    return forward, backward, {n: a.reshape(1, 2, 1, 1) for n, a in dict(y=y, dq=dq, dk=dk, dv=dv).items()}


def upsample2x(x, dy):
    x, dy = x[0, :, :, 0], dy[0, :, :, 0]
    y, dx = _zeros(x, 2, 4), _zeros(x, 1, 2)
    for h, v in np.ndindex(2, 4):
        y[h, v] = x[h // 2, v // 2]
    forward = ["one row of two pixels becomes two rows of four:", f"  {_row(y[0])}", f"  {_row(y[1])}"]
    backward = ["a pixel was copied four times and takes four gradients back:"]
    for j in range(2):
        dx[0, j], text = _sum([], dy[:, 2 * j : 2 * j + 2].ravel())
        backward.append(f"  dx[0,{j}] = {text}")
    return forward, backward, {"y": y[None, :, :, None], "dx": dx[None, :, :, None]}


def concat(a, b, dy):
    a, b, dy = a.ravel(), b.ravel(), dy.ravel()
    forward = [f"one pixel, two channels of a and one of b:  y = {_row([*a, *b])}"]
    backward = [f"each takes its own part of dy = {_row(dy)} back:  da = {_row(dy[:2])},  db = {_row(dy[2:])}"]
    pixel = lambda *channels: np.array(channels).reshape(1, 1, 1, -1)
    return forward, backward, {"y": pixel(*a, *b), "da": pixel(*dy[:2]), "db": pixel(*dy[2:])}


def class_embedding(table, labels, dy):
    y, dtable = _zeros(table, 3, 2), _zeros(table, 3, 2)
    forward = ["three samples look up the rows 2, 0 and 2 of a table of three:"]
    for n, label in enumerate(labels):
        y[n] = table[label]
        forward.append(f"  y[{n}] = table[{label}] = {_row(y[n])}")
    backward = ["a row gathers from every sample that looked it up; row 1 from none:"]
    for k in range(3):
        looked_up = [n for n in range(3) if labels[n] == k]
        for n in looked_up:
            dtable[k] += dy[n]
        text = " + ".join(f"dy[{n}]" for n in looked_up) or "nothing"
        backward.append(f"  dtable[{k}] = {text} = {_row(dtable[k])}")
    return forward, backward, {"y": y, "dtable": dtable}


def mse_loss(p, y, weight, dloss):
    error = p - y
    squares = [_sum(list(zip(row, row))) for row in error]
    slope = lambda n, m: (2 * error[n, m], f"2·{_p(error[n, m])}")
    return _loss(error, weight, dloss, squares, "squares", slope, "2 weight (p - y)")


def l1_loss(p, y, weight, dloss):
    error = p - y
    sizes, sign = [_sum([], row) for row in np.abs(error)], np.sign(error)
    slope = lambda n, m: (sign[n, m], _p(sign[n, m]))
    return _loss(error, weight, dloss, sizes, "sizes", slope, "weight sign(p - y)")


def _loss(error, weight, dloss, sums, of, slope, rule):
    """A loss that is a mean of something ``of`` each error; ``slope(n, m)`` is its derivative and the text of that."""
    dloss = dloss[()]
    loss = (weight[0] * sums[0][0] + weight[1] * sums[1][0]) / 4
    forward = ["two samples of two values, each sample with its weight; N M = 4"]
    forward += [f"  sample {n}: p - y = {_row(error[n])},   {of}: {sums[n][1]}" for n in range(2)]
    forward.append(f"  loss = ({_p(weight[0])}·{_n(sums[0][0])} + {_p(weight[1])}·{_n(sums[1][0])}) / 4 = {_n(loss)}")
    dprediction, dweight = _zeros(error, 2, 2), _zeros(error, 2)
    backward = [f"dp = dloss {rule} / 4, and dy is its negative:"]
    for n, m in np.ndindex(2, 2):
        there, text = slope(n, m)
        dprediction[n, m] = dloss * weight[n] * there / 4
        backward.append(f"  dp[{n},{m}] = {_p(dloss)}·{_p(weight[n])}·{text} / 4 = {_n(dprediction[n, m])}")
    for n in range(2):
        dweight[n] = dloss * sums[n][0] / 4
        backward.append(f"  dweight[{n}] = {_p(dloss)}·{_n(sums[n][0])} / 4 = {_n(dweight[n])}")
    results = {"y": np.array(loss), "dprediction": dprediction, "dtarget": -dprediction, "dweight": dweight}
    return forward, backward, results


def gaussian_sample(moments, eps, dy):
    (mean, logvar), eps, dy = moments.reshape(2, 2), eps.ravel(), dy.ravel()
    std = np.exp(logvar / 2)
    y, dstd, deps = mean + std * eps, dy * eps, dy * std
    dlogvar = dstd * std / 2
    forward = [f"two values: mean = {_row(mean)}, logvar = {_row(logvar)}; within the bounds, so v = logvar"]
    backward = ["y = mean + std eps, reversed; moving the mean moves y as much:", f"  dmean = dy = {_row(dy)}"]
    for i in range(2):
        sample = f"y[{i}] = {_p(mean[i])} + {_p(std[i])}·{_p(eps[i])} = {_n(y[i])}"
        forward.append(f"  std[{i}] = exp({_n(logvar[i])} / 2) = {_n(std[i])},   {sample}")
        through = f"deps[{i}] = {_p(dy[i])}·{_p(std[i])} = {_n(deps[i])}"
        backward.append(f"  dstd[{i}] = {_p(dy[i])}·{_p(eps[i])} = {_n(dstd[i])},   {through}")
    backward.append("std = exp(v / 2), reversed, and v = logvar:")
    for i in range(2):
        backward.append(f"  dlogvar[{i}] = {_p(dstd[i])}·{_p(std[i])} / 2 = {_n(dlogvar[i])}")
    results = {"y": y[None], "dmoments": np.concatenate([dy, dlogvar])[None], "deps": deps[None]}
    return forward, backward, results


def gaussian_kl(moments, dkl):
    (mean, logvar), dkl = moments.reshape(2, 2), dkl[()]
    each = mean * mean + (np.exp(logvar) - 1 - logvar)
    kl = (each[0] + each[1]) / 4
    dmean, dlogvar = 2 * dkl * mean / 4, dkl * (np.exp(logvar) - 1) / 4
    forward = [f"two values: mean = {_row(mean)}, logvar = {_row(logvar)}; within the bounds, so v = logvar"]
    backward = ["two values, so 2 K = 4:"]
    for i in range(2):
        terms = f"{_p(mean[i])}·{_p(mean[i])} + exp({_n(logvar[i])}) - 1 - {_p(logvar[i])}"
        forward.append(f"  value {i}: mean^2 + exp(v) - 1 - v = {terms} = {_n(each[i])}")
        backward.append(f"  dmean[{i}]   = {_p(dkl)}·2·{_p(mean[i])} / 4 = {_n(dmean[i])}")
        backward.append(f"  dlogvar[{i}] = {_p(dkl)}·(exp({_n(logvar[i])}) - 1) / 4 = {_n(dlogvar[i])}")
    forward.append(f"  kl = ({_n(each[0])} + {_n(each[1])}) / 4 = {_n(kl)}")
    return forward, backward, {"y": np.array(kl), "dmoments": np.concatenate([dmean, dlogvar])[None]}


def _array(*values, shape=None):
    return np.array(values, np.float64).reshape(shape or np.shape(values))


EXAMPLES = {
    "linear": Example(
        {"x": _array([1, 2], [3, -1]), "w": _array([1, 0, 2], [-1, 1, 3]), "b": _array(0.5, 0, -1)},
        _array([1, -1, 2], [0, 2, 1]),
        linear,
    ),
    "conv2d": Example(
        {
            "x": _array(1, 2, 0, 3, 1, -1, 0, 2, 1, shape=(1, 3, 3, 1)),
            "w": _array(1, -1, 2, 3, shape=(2, 2, 1, 1)),
            "b": _array(0.5),
            "add": _array(2, shape=(1, 1, 1, 1)),
        },
        _array(1, 2, -1, 3, shape=(1, 2, 2, 1)),
        conv2d,
    ),
    "group_norm": Example(
        {
            "x": _array(1, 3, 5, 11, shape=(1, 2, 2, 1)),
            "gamma": _array(2),
            "beta": _array(1),
            "scale": _array([0.5]),
            "shift": _array([-1]),
        },
        _array(1, 0, -1, 2, shape=(1, 2, 2, 1)),
        group_norm,
        {"groups": 1, "eps": 1.0},
    ),
    "silu": Example({"x": _array(-2, 0, 1)}, _array(1, 2, -1), silu),
    "dropout": Example(
        {"x": _array([3, -1, 2, 0.5, -4, 1]), "number": np.array([1]), "slot": np.array([0])},
        _array([1, 2, -1, 3, 0.5, -2]),
        dropout,
        {"rate": 0.5, "layer": 0, "seed": 0},
    ),
    "attention": Example(
        {
            "q": _array(1, -1, shape=(1, 2, 1, 1)),
            "k": _array(1, 2, shape=(1, 2, 1, 1)),
            "v": _array(3, -1, shape=(1, 2, 1, 1)),
        },
        _array(1, 2, shape=(1, 2, 1, 1)),
        attention,
    ),
    "upsample2x": Example(
        {"x": _array(5, -2, shape=(1, 1, 2, 1))}, _array(1, 2, 0, -1, 3, 4, 1, 2, shape=(1, 2, 4, 1)), upsample2x
    ),
    "concat": Example(
        {"a": _array(1, 2, shape=(1, 1, 1, 2)), "b": _array(7, shape=(1, 1, 1, 1))},
        _array(0.5, -1, 3, shape=(1, 1, 1, 3)),
        concat,
    ),
    "class_embedding": Example(
        {"table": _array([1, 2], [3, 4], [5, 6]), "labels": np.array([2, 0, 2])},
        _array([1, -1], [0.5, 2], [3, 0]),
        class_embedding,
    ),
    "mse_loss": Example(
        {"prediction": _array([1, 2], [0, 3]), "target": _array([0, 4], [1, 3]), "weight": _array(1, 0.5)},
        np.array(1.0),
        mse_loss,
    ),
    "l1_loss": Example(
        {"prediction": _array([1, 2], [0, 3]), "target": _array([0, 4], [1, 3]), "weight": _array(1, 0.5)},
        np.array(1.0),
        l1_loss,
    ),
    "gaussian_sample": Example(
        {"moments": _array([1, -2, 0.5, -1]), "eps": _array([2, -0.5])}, _array([1, 3]), gaussian_sample
    ),
    "gaussian_kl": Example({"moments": _array([1, -2, 0.5, -1])}, np.array(1.0), gaussian_kl),
}


def _zeros(like, *shape):
    return np.zeros(shape, like.dtype)


def _sum(products, terms=()):
    """The sum of products (a, b) and of terms, and the text that shows every one of them."""
    shown = [f"{_p(a)}·{_p(b)}" for a, b in products] + [_p(term) for term in terms]
    total = sum(a * b for a, b in products) + sum(terms)
    if len(shown) == 1 and not products:
        return total, shown[0]
    return total, f"{' + '.join(shown)} = {_n(total)}"


def _n(value):
    """A number in at most four digits."""
    return f"{value + 0.0:.4g}"


def _p(value):
    """A number as it stands in a product: a negative one in parentheses."""
    if isinstance(value, Traced):
        return format(value, "(.4g)")
    return f"({_n(value)})" if value < 0 else _n(value)


def _nought(value):
    """A number that is 0 but for rounding."""
    return format(value, "0") if isinstance(value, Traced) else _n(abs(round(value, 12)))


def _integers(values):
    return f"[{', '.join(map(str, values))}]"


def _row(values):
    return f"[{', '.join(_n(value) for value in values)}]"
