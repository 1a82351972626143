"""Every op with a gradient, worked by hand at a size where every product can be written down.

An example is given numbers, and returns the lines to print and the results they arrive at, computed here by the sums as
written, not by the op; the tests hold both to each other. Given numbers of a ``trace.Tape`` it returns lines with marks
in their places, which a page of the site fills with others.
"""

from __future__ import annotations

import numpy as np

from tinydiff.gradcheck import worked_transformer
from tinydiff.gradcheck.worked_example import Example, added, array, integers, listed, nought, num, part, zeros
from tinydiff.ops import OPS, philox


def linear(x, w, b, dy):
    (M, C), O = x.shape, len(b)
    y, dx, dw, db = zeros(x, M, O), zeros(x, M, C), zeros(x, C, O), zeros(x, O)
    forward = ["every y[m,o] takes a row of x and a column of w, and b[o]:"]
    for m, o in np.ndindex(M, O):
        y[m, o], text = added([(x[m, c], w[c, o]) for c in range(C)], [b[o]])
        forward.append(f"  y[{m},{o}]  = {text}")
    backward = ["x[m,c] went into every y of its row, each time with a weight:"]
    for m, c in np.ndindex(M, C):
        dx[m, c], text = added([(dy[m, o], w[c, o]) for o in range(O)])
        backward.append(f"  dx[{m},{c}] = {text}")
    backward.append("w[c,o] went into y[m,o] of every row m, each time with an x:")
    for c, o in np.ndindex(C, O):
        dw[c, o], text = added([(x[m, c], dy[m, o]) for m in range(M)])
        backward.append(f"  dw[{c},{o}] = {text}")
    backward.append("b[o] was added to y[m,o] of every row m:")
    for o in range(O):
        db[o], text = added([], dy[:, o])
        backward.append(f"  db[{o}]   = {text}")
    return forward, backward, {"y": y, "dx": dx, "dw": dw, "db": db}


def conv2d(x, w, b, add, dy):
    x, w, add, dy = x[0, :, :, 0], w[:, :, 0, 0], add[0, 0, 0, 0], dy[0, :, :, 0]
    y, dx, dw = zeros(x, 2, 2), zeros(x, 3, 3), zeros(x, 2, 2)
    forward = ["a filter of 2 x 2 fits on an image of 3 x 3 at four places; then come b and add:"]
    for h, v in np.ndindex(2, 2):
        y[h, v], text = added([(x[h + r, v + s], w[r, s]) for r, s in np.ndindex(2, 2)], [b[0], add])
        forward.append(f"  y[{h},{v}]  = {text}")
    backward = ["a weight met the image at four places, dw[r,s] = sum of x[h+r, w+s] dy[h,w] over them:"]
    for r, s in np.ndindex(2, 2):
        dw[r, s], text = added([(x[h + r, v + s], dy[h, v]) for h, v in np.ndindex(2, 2)])
        backward.append(f"  dw[{r},{s}] = {text}")
    backward.append("a pixel was met by every weight that reached it, dx[i,j] = sum of dy[i-r, j-s] w[r,s] over them:")
    for i, j in np.ndindex(3, 3):
        reached = [(r, s) for r, s in np.ndindex(2, 2) if 0 <= i - r < 2 and 0 <= j - s < 2]
        dx[i, j], text = added([(dy[i - r, j - s], w[r, s]) for r, s in reached])
        backward.append(f"  dx[{i},{j}] = {text}")
    db, text = added([], dy.ravel())
    backward += ["b was added at all four places, and so was add:", f"  db = dadd = {text}"]
    results = {"y": y[None, :, :, None], "dx": dx[None, :, :, None], "dw": dw[:, :, None, None]}
    return forward, backward, results | {"db": np.array([db]), "dadd": np.array(db).reshape(1, 1, 1, 1)}


def group_norm(x, gamma, beta, scale, shift, dy, *, groups, eps):
    x, dy, gamma, beta, scale, shift = x.ravel(), dy.ravel(), gamma[0], beta[0], scale[0, 0], shift[0, 0]
    total, mean_text = added([], x)
    mean = total / 4
    deviation = x - mean
    squares, var_text = added(list(zip(deviation, deviation)))
    var = squares / 4
    rstd = 1 / np.sqrt(var + eps)
    xhat = deviation * rstd
    h = gamma * xhat + beta
    y = h * (1 + scale) + shift
    forward = [
        f"one group of M = 4 pixels of one channel, with scale and shift; eps = {num(eps)} to see it",
        f"  mean = ({mean_text}) / 4 = {num(mean)}",
        f"  x - mean = {listed(deviation)}",
        f"  var  = ({var_text}) / 4 = {num(var)}",
        f"  rstd = 1 / sqrt({num(var)} + {num(eps)}) = {num(rstd)}",
        f"  xhat = {listed(xhat)}",
        f"  h    = gamma xhat + beta = {part(gamma)} xhat + {part(beta)} = {listed(h)}",
        f"  y    = h (1 + scale) + shift = {part(1 + scale)} h + {part(shift)} = {listed(y)}",
    ]
    dscale, dscale_text = added(list(zip(dy, h)))
    dshift, dshift_text = added([], dy)
    dh = dy * (1 + scale)
    dgamma, dgamma_text = added(list(zip(dh, xhat)))
    dbeta, dbeta_text = added([], dh)
    dxhat = dh * gamma
    mean_total, mean_text = added([], dxhat)
    var_total, var_text = added(list(zip(dxhat, xhat)))
    through_mean, through_var = mean_total / 4, var_total / 4
    dx = rstd * (dxhat - through_mean - xhat * through_var)
    backward = [
        "u = y here, so du = dy; the scale and the shift are the channel's, and gather over its pixels:",
        f"  dscale = {dscale_text}",
        f"  dshift = {dshift_text}",
        f"  dh     = {part(1 + scale)} dy = {listed(dh)}",
        f"  dgamma = {dgamma_text}",
        f"  dbeta  = {dbeta_text}",
        f"  dxhat  = {part(gamma)} dh = {listed(dxhat)}",
        f"  through_mean = ({mean_text}) / 4 = {num(through_mean)}",
        f"  through_var  = ({var_text}) / 4 = {num(through_var)}",
        "dx = rstd (dxhat - through_mean - xhat through_var):",
    ]
    for i in range(4):
        direct, by_mean, by_var = part(dxhat[i]), part(through_mean), f"{part(xhat[i])}·{part(through_var)}"
        backward.append(f"  dx[{i}] = {num(rstd)} ({direct} - {by_mean} - {by_var}) = {num(dx[i])}")
    backward.append(f"they sum to {nought(sum(dx))}: moving all pixels together changes nothing")
    results = {"y": y.reshape(1, 2, 2, 1), "dx": dx.reshape(1, 2, 2, 1)}
    results |= {"dgamma": np.array([dgamma]), "dbeta": np.array([dbeta])}
    return forward, backward, results | {"dscale": np.array([[dscale]]), "dshift": np.array([[dshift]])}


def silu(x, dy):
    s = 1 / (1 + np.exp(-x))
    y, dx = x * s, dy * (s + x * s * (1 - s))
    forward, backward = [], ["the product rule: x moves y = x s by itself, times s, and through s, times x s (1 - s):"]
    for i in range(3):
        forward.append(
            f"  s[{i}] = 1 / (1 + exp({num(-x[i])})) = {num(s[i])},   y[{i}] = {part(x[i])}·{part(s[i])} = {num(y[i])}"
        )
        through = f"{part(x[i])}·{part(s[i])}·{part(1 - s[i])}"
        backward.append(f"  dx[{i}] = {part(dy[i])}·({num(s[i])} + {through}) = {num(dx[i])}")
    return forward, backward, {"y": y, "dx": dx}


def dropout(x, number, slot, dy, *, rate, layer, seed):
    M, threshold = x.shape[1], round(65536 * rate)
    scale = 1 / (1 - threshold / 65536)
    counter = np.arange(M), number[0], slot[0], philox.PURPOSES["dropout"] + 256 * layer
    half = philox.philox4x32(counter, (seed, 0))[0].astype(int) % 65536
    keep = (half >= threshold).astype(int)
    y, dx = zeros(x, 1, M), zeros(x, 1, M)
    forward = [
        f"one sample; rate {rate:g} is a threshold of {threshold} in 65536, and scale {scale:.4g}",
        "  half = the lower half of the first of four words that philox makes of",
        f"         (block m, number {number[0]}, slot {slot[0]}, purpose {counter[3]}) under the seed {seed}:",
        f"  half = {integers(half)}",
        f"  keep = {integers(keep)}",
    ]
    backward = ["a value that was dropped moved nothing; the others moved y by scale as much as they were moved:"]
    for m in range(M):
        factor = float(keep[m]) * scale
        y[0, m], dx[0, m] = factor * x[0, m], factor * dy[0, m]
        forward.append(f"  y[{m}]  = {part(x[0, m])}·{keep[m]}·{num(scale)} = {num(y[0, m])}")
        backward.append(f"  dx[{m}] = {part(dy[0, m])}·{keep[m]}·{num(scale)} = {num(dx[0, m])}")
    return forward, backward, {"y": y, "dx": dx}


def upsample2x(x, dy):
    x, dy = x[0, :, :, 0], dy[0, :, :, 0]
    y, dx = zeros(x, 2, 4), zeros(x, 1, 2)
    for h, v in np.ndindex(2, 4):
        y[h, v] = x[h // 2, v // 2]
    forward = ["one row of two pixels becomes two rows of four:", f"  {listed(y[0])}", f"  {listed(y[1])}"]
    backward = ["a pixel was copied four times and takes four gradients back:"]
    for j in range(2):
        dx[0, j], text = added([], dy[:, 2 * j : 2 * j + 2].ravel())
        backward.append(f"  dx[0,{j}] = {text}")
    return forward, backward, {"y": y[None, :, :, None], "dx": dx[None, :, :, None]}


def concat(a, b, dy):
    a, b, dy = a.ravel(), b.ravel(), dy.ravel()
    forward = [f"one pixel, two channels of a and one of b:  y = {listed([*a, *b])}"]
    backward = [f"each takes its own part of dy = {listed(dy)} back:  da = {listed(dy[:2])},  db = {listed(dy[2:])}"]
    pixel = lambda *channels: np.array(channels).reshape(1, 1, 1, -1)
    return forward, backward, {"y": pixel(*a, *b), "da": pixel(*dy[:2]), "db": pixel(*dy[2:])}


def class_embedding(table, labels, dy):
    y, dtable = zeros(table, 3, 2), zeros(table, 3, 2)
    forward = ["three samples look up the rows 2, 0 and 2 of a table of three:"]
    for n, label in enumerate(labels):
        y[n] = table[label]
        forward.append(f"  y[{n}] = table[{label}] = {listed(y[n])}")
    backward = ["a row gathers from every sample that looked it up; row 1 from none:"]
    for k in range(3):
        looked_up = [n for n in range(3) if labels[n] == k]
        for n in looked_up:
            dtable[k] += dy[n]
        text = " + ".join(f"dy[{n}]" for n in looked_up) or "nothing"
        backward.append(f"  dtable[{k}] = {text} = {listed(dtable[k])}")
    return forward, backward, {"y": y, "dtable": dtable}


def mse_loss(p, y, weight, dloss):
    error = p - y
    squares = [added(list(zip(row, row))) for row in error]
    slope = lambda n, m: (2 * error[n, m], f"2·{part(error[n, m])}")
    return _loss(error, weight, dloss, squares, "squares", slope, "2 weight (p - y)")


def l1_loss(p, y, weight, dloss):
    error = p - y
    sizes, sign = [added([], row) for row in np.abs(error)], np.sign(error)
    slope = lambda n, m: (sign[n, m], part(sign[n, m]))
    return _loss(error, weight, dloss, sizes, "sizes", slope, "weight sign(p - y)")


def _loss(error, weight, dloss, sums, of, slope, rule):
    """A loss that is a mean of something ``of`` each error; ``slope(n, m)`` is its derivative and the text of that."""
    dloss = dloss[()]
    loss = (weight[0] * sums[0][0] + weight[1] * sums[1][0]) / 4
    forward = ["two samples of two values, each sample with its weight; N M = 4"]
    forward += [f"  sample {n}: p - y = {listed(error[n])},   {of}: {sums[n][1]}" for n in range(2)]
    forward.append(
        f"  loss = ({part(weight[0])}·{num(sums[0][0])} + {part(weight[1])}·{num(sums[1][0])}) / 4 = {num(loss)}"
    )
    dprediction, dweight = zeros(error, 2, 2), zeros(error, 2)
    backward = [f"dp = dloss {rule} / 4, and dy is its negative:"]
    for n, m in np.ndindex(2, 2):
        there, text = slope(n, m)
        dprediction[n, m] = dloss * weight[n] * there / 4
        backward.append(f"  dp[{n},{m}] = {part(dloss)}·{part(weight[n])}·{text} / 4 = {num(dprediction[n, m])}")
    for n in range(2):
        dweight[n] = dloss * sums[n][0] / 4
        backward.append(f"  dweight[{n}] = {part(dloss)}·{num(sums[n][0])} / 4 = {num(dweight[n])}")
    results = {"y": np.array(loss), "dprediction": dprediction, "dtarget": -dprediction, "dweight": dweight}
    return forward, backward, results


def gaussian_sample(moments, eps, dy):
    (mean, logvar), eps, dy = moments.reshape(2, 2), eps.ravel(), dy.ravel()
    std = np.exp(logvar / 2)
    y, dstd, deps = mean + std * eps, dy * eps, dy * std
    dlogvar = dstd * std / 2
    forward = [f"two values: mean = {listed(mean)}, logvar = {listed(logvar)}; within the bounds, so v = logvar"]
    backward = ["y = mean + std eps, reversed; moving the mean moves y as much:", f"  dmean = dy = {listed(dy)}"]
    for i in range(2):
        sample = f"y[{i}] = {part(mean[i])} + {part(std[i])}·{part(eps[i])} = {num(y[i])}"
        forward.append(f"  std[{i}] = exp({num(logvar[i])} / 2) = {num(std[i])},   {sample}")
        through = f"deps[{i}] = {part(dy[i])}·{part(std[i])} = {num(deps[i])}"
        backward.append(f"  dstd[{i}] = {part(dy[i])}·{part(eps[i])} = {num(dstd[i])},   {through}")
    backward.append("std = exp(v / 2), reversed, and v = logvar:")
    for i in range(2):
        backward.append(f"  dlogvar[{i}] = {part(dstd[i])}·{part(std[i])} / 2 = {num(dlogvar[i])}")
    results = {"y": y[None], "dmoments": np.concatenate([dy, dlogvar])[None], "deps": deps[None]}
    return forward, backward, results


def gaussian_kl(moments, dkl):
    (mean, logvar), dkl = moments.reshape(2, 2), dkl[()]
    each = mean * mean + (np.exp(logvar) - 1 - logvar)
    kl = (each[0] + each[1]) / 4
    dmean, dlogvar = 2 * dkl * mean / 4, dkl * (np.exp(logvar) - 1) / 4
    forward = [f"two values: mean = {listed(mean)}, logvar = {listed(logvar)}; within the bounds, so v = logvar"]
    backward = ["two values, so 2 K = 4:"]
    for i in range(2):
        terms = f"{part(mean[i])}·{part(mean[i])} + exp({num(logvar[i])}) - 1 - {part(logvar[i])}"
        forward.append(f"  value {i}: mean^2 + exp(v) - 1 - v = {terms} = {num(each[i])}")
        backward.append(f"  dmean[{i}]   = {part(dkl)}·2·{part(mean[i])} / 4 = {num(dmean[i])}")
        backward.append(f"  dlogvar[{i}] = {part(dkl)}·(exp({num(logvar[i])}) - 1) / 4 = {num(dlogvar[i])}")
    forward.append(f"  kl = ({num(each[0])} + {num(each[1])}) / 4 = {num(kl)}")
    return forward, backward, {"y": np.array(kl), "dmoments": np.concatenate([dmean, dlogvar])[None]}


_OF_ALL = {
    "linear": Example(
        {"x": array([1, 2], [3, -1]), "w": array([1, 0, 2], [-1, 1, 3]), "b": array(0.5, 0, -1)},
        array([1, -1, 2], [0, 2, 1]),
        linear,
    ),
    "conv2d": Example(
        {
            "x": array(1, 2, 0, 3, 1, -1, 0, 2, 1, shape=(1, 3, 3, 1)),
            "w": array(1, -1, 2, 3, shape=(2, 2, 1, 1)),
            "b": array(0.5),
            "add": array(2, shape=(1, 1, 1, 1)),
        },
        array(1, 2, -1, 3, shape=(1, 2, 2, 1)),
        conv2d,
    ),
    "group_norm": Example(
        {
            "x": array(1, 3, 5, 11, shape=(1, 2, 2, 1)),
            "gamma": array(2),
            "beta": array(1),
            "scale": array([0.5]),
            "shift": array([-1]),
        },
        array(1, 0, -1, 2, shape=(1, 2, 2, 1)),
        group_norm,
        {"groups": 1, "eps": 1.0},
    ),
    "silu": Example({"x": array(-2, 0, 1)}, array(1, 2, -1), silu),
    "dropout": Example(
        {"x": array([3, -1, 2, 0.5, -4, 1]), "number": np.array([1]), "slot": np.array([0])},
        array([1, 2, -1, 3, 0.5, -2]),
        dropout,
        {"rate": 0.5, "layer": 0, "seed": 0},
    ),
    "upsample2x": Example(
        {"x": array(5, -2, shape=(1, 1, 2, 1))}, array(1, 2, 0, -1, 3, 4, 1, 2, shape=(1, 2, 4, 1)), upsample2x
    ),
    "concat": Example(
        {"a": array(1, 2, shape=(1, 1, 1, 2)), "b": array(7, shape=(1, 1, 1, 1))},
        array(0.5, -1, 3, shape=(1, 1, 1, 3)),
        concat,
    ),
    "class_embedding": Example(
        {"table": array([1, 2], [3, 4], [5, 6]), "labels": np.array([2, 0, 2])},
        array([1, -1], [0.5, 2], [3, 0]),
        class_embedding,
    ),
    "mse_loss": Example(
        {"prediction": array([1, 2], [0, 3]), "target": array([0, 4], [1, 3]), "weight": array(1, 0.5)},
        np.array(1.0),
        mse_loss,
    ),
    "l1_loss": Example(
        {"prediction": array([1, 2], [0, 3]), "target": array([0, 4], [1, 3]), "weight": array(1, 0.5)},
        np.array(1.0),
        l1_loss,
    ),
    "gaussian_sample": Example(
        {"moments": array([1, -2, 0.5, -1]), "eps": array([2, -0.5])}, array([1, 3]), gaussian_sample
    ),
    "gaussian_kl": Example({"moments": array([1, -2, 0.5, -1])}, np.array(1.0), gaussian_kl),
    **worked_transformer.EXAMPLES,
}
EXAMPLES = {op: _OF_ALL[op] for op in OPS if op in _OF_ALL}
