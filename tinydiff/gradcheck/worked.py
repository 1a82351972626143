"""Every op with a gradient, worked by hand at a size where every product can be written down.

An example returns the lines to print and the results they arrive at, computed here by the sums as written, not by the
op; the tests hold both to each other.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Worked(NamedTuple):
    """One example: what goes in, the arithmetic line by line, and what comes out."""

    inputs: dict  # {name: array}
    options: dict
    dy: np.ndarray
    forward: list[str]
    backward: list[str]
    results: dict  # {"y": array, "d<input>": array, ...} as the lines have them


def linear():
    x = np.array([[1.0, 2.0], [3.0, -1.0]])
    w = np.array([[1.0, 0.0, 2.0], [-1.0, 1.0, 3.0]])
    b = np.array([0.5, 0.0, -1.0])
    dy = np.array([[1.0, -1.0, 2.0], [0.0, 2.0, 1.0]])
    M, C, O = 2, 2, 3
    y, dx, dw, db = np.zeros((M, O)), np.zeros((M, C)), np.zeros((C, O)), np.zeros(O)
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
    return Worked({"x": x, "w": w, "b": b}, {}, dy, forward, backward, {"y": y, "dx": dx, "dw": dw, "db": db})


def conv2d():
    x = np.array([[1.0, 2.0, 0.0], [3.0, 1.0, -1.0], [0.0, 2.0, 1.0]])
    w = np.array([[1.0, -1.0], [2.0, 3.0]])
    b = np.array([0.5])
    dy = np.array([[1.0, 2.0], [-1.0, 3.0]])
    y, dx, dw = np.zeros((2, 2)), np.zeros((3, 3)), np.zeros((2, 2))
    forward = ["a filter of 2 x 2 fits on an image of 3 x 3 at four places:"]
    for h, v in np.ndindex(2, 2):
        y[h, v], text = _sum([(x[h + r, v + s], w[r, s]) for r, s in np.ndindex(2, 2)], b)
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
    backward += ["b was added at all four places:", f"  db      = {text}"]
    results = {"y": y[None, :, :, None], "dx": dx[None, :, :, None], "dw": dw[:, :, None, None], "db": np.array([db])}
    inputs = {"x": x[None, :, :, None], "w": w[:, :, None, None], "b": b}
    return Worked(inputs, {}, dy[None, :, :, None], forward, backward, results)


def group_norm():
    x, gamma, beta, eps = np.array([1.0, 3.0, 5.0, 11.0]), 2.0, 1.0, 1.0
    dy = np.array([1.0, 0.0, -1.0, 2.0])
    mean, mean_text = _sum([], x)
    mean /= 4
    deviation = x - mean
    var, var_text = _sum(list(zip(deviation, deviation)))
    var /= 4
    rstd = 1 / np.sqrt(var + eps)
    xhat = deviation * rstd
    y = gamma * xhat + beta
    forward = [
        "one group of M = 4 pixels of one channel; eps = 1 to see it, gamma = 2, beta = 1",
        f"  mean = ({mean_text}) / 4 = {_n(mean)}",
        f"  x - mean = {_row(deviation)}",
        f"  var  = ({var_text}) / 4 = {_n(var)}",
        f"  rstd = 1 / sqrt({_n(var)} + 1) = {_n(rstd)}",
        f"  xhat = {_row(xhat)}",
        f"  y    = 2 xhat + 1 = {_row(y)}",
    ]
    dgamma, dgamma_text = _sum(list(zip(dy, xhat)))
    dbeta, dbeta_text = _sum([], dy)
    dxhat = dy * gamma
    through_mean, mean_text = _sum([], dxhat)
    through_mean /= 4
    through_var, var_text = _sum(list(zip(dxhat, xhat)))
    through_var /= 4
    dx = rstd * (dxhat - through_mean - xhat * through_var)
    backward = [
        f"  dgamma = {dgamma_text}",
        f"  dbeta  = {dbeta_text}",
        f"  dxhat  = 2 dy = {_row(dxhat)}",
        f"  through_mean = ({mean_text}) / 4 = {_n(through_mean)}",
        f"  through_var  = ({var_text}) / 4 = {_n(through_var)}",
        "dx = rstd (dxhat - through_mean - xhat through_var):",
    ]
    for i in range(4):
        direct, by_mean, by_var = _p(dxhat[i]), _p(through_mean), f"{_p(xhat[i])}·{_p(through_var)}"
        backward.append(f"  dx[{i}] = {_n(rstd)} ({direct} - {by_mean} - {by_var}) = {_n(dx[i])}")
    backward.append(f"they sum to {_n(abs(dx.sum()).round(12))}: moving all pixels together changes nothing")
    inputs = {"x": x.reshape(1, 2, 2, 1), "gamma": np.array([gamma]), "beta": np.array([beta])}
    inputs |= {"scale": None, "shift": None}
    results = {"y": y.reshape(1, 2, 2, 1), "dx": dx.reshape(1, 2, 2, 1)}
    results |= {"dgamma": np.array([dgamma]), "dbeta": np.array([dbeta])}
    return Worked(inputs, {"groups": 1, "eps": eps}, dy.reshape(1, 2, 2, 1), forward, backward, results)


def silu():
    x, dy = np.array([-2.0, 0.0, 1.0]), np.array([1.0, 2.0, -1.0])
    s = 1 / (1 + np.exp(-x))
    y, dx = x * s, dy * (s + x * s * (1 - s))
    forward, backward = [], ["the product rule: x moves y = x s by itself, times s, and through s, times x s (1 - s):"]
    for i in range(3):
        forward.append(
            f"  s[{i}] = 1 / (1 + exp({_n(-x[i])})) = {_n(s[i])},   y[{i}] = {_p(x[i])}·{_p(s[i])} = {_n(y[i])}"
        )
        through = f"{_p(x[i])}·{_p(s[i])}·{_p(1 - s[i])}"
        backward.append(f"  dx[{i}] = {_p(dy[i])}·({_n(s[i])} + {through}) = {_n(dx[i])}")
    return Worked({"x": x}, {}, dy, forward, backward, {"y": y, "dx": dx})


def attention():
    q, k, v = np.array([1.0, -1.0]), np.array([1.0, 2.0]), np.array([3.0, -1.0])
    dy = np.array([1.0, 2.0])
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
    shaped = {"q": q, "k": k, "v": v, "y": y, "dq": dq, "dk": dk, "dv": dv, "dy": dy}
    shaped = {name: array.reshape(1, 2, 1, 1) for name, array in shaped.items()}
    inputs = {name: shaped[name] for name in "qkv"}
    results = {name: shaped[name] for name in ("y", "dq", "dk", "dv")}
    return Worked(inputs, {}, shaped["dy"], forward, backward, results)


def upsample2x():
    x = np.array([[5.0, -2.0]])
    dy = np.array([[1.0, 2.0, 0.0, -1.0], [3.0, 4.0, 1.0, 2.0]])
    y, dx = np.zeros((2, 4)), np.zeros((1, 2))
    for h, v in np.ndindex(2, 4):
        y[h, v] = x[h // 2, v // 2]
    forward = ["one row of two pixels becomes two rows of four:", f"  {_row(y[0])}", f"  {_row(y[1])}"]
    backward = ["a pixel was copied four times and takes four gradients back:"]
    for j in range(2):
        dx[0, j], text = _sum([], dy[:, 2 * j : 2 * j + 2].ravel())
        backward.append(f"  dx[0,{j}] = {text}")
    results = {"y": y[None, :, :, None], "dx": dx[None, :, :, None]}
    return Worked({"x": x[None, :, :, None]}, {}, dy[None, :, :, None], forward, backward, results)


def concat():
    a, b, dy = np.array([1.0, 2.0]), np.array([7.0]), np.array([0.5, -1.0, 3.0])
    forward = [f"one pixel, two channels of a and one of b:  y = {_row([*a, *b])}"]
    backward = [f"each takes its own part of dy = {_row(dy)} back:  da = {_row(dy[:2])},  db = {_row(dy[2:])}"]
    pixel = lambda *channels: np.array(channels).reshape(1, 1, 1, -1)
    results = {"y": pixel(*a, *b), "da": pixel(*dy[:2]), "db": pixel(*dy[2:])}
    return Worked({"a": pixel(*a), "b": pixel(*b)}, {}, pixel(*dy), forward, backward, results)


def class_embedding():
    table = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    labels = np.array([2, 0, 2])
    dy = np.array([[1.0, -1.0], [0.5, 2.0], [3.0, 0.0]])
    y, dtable = np.zeros((3, 2)), np.zeros((3, 2))
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
    return Worked({"table": table, "labels": labels}, {}, dy, forward, backward, {"y": y, "dtable": dtable})


def mse_loss():
    p, y, weight = np.array([[1.0, 2.0], [0.0, 3.0]]), np.array([[0.0, 4.0], [1.0, 3.0]]), np.array([1.0, 0.5])
    error = p - y
    squares = [_sum(list(zip(error[n], error[n]))) for n in range(2)]
    loss = (weight[0] * squares[0][0] + weight[1] * squares[1][0]) / 4
    forward = ["two samples of two values, the second at half weight; N M = 4"]
    forward += [f"  sample {n}: p - y = {_row(error[n])},   squares: {squares[n][1]}" for n in range(2)]
    forward.append(
        f"  loss = ({_p(weight[0])}·{_n(squares[0][0])} + {_p(weight[1])}·{_n(squares[1][0])}) / 4 = {_n(loss)}"
    )
    dprediction, dweight = np.zeros((2, 2)), np.zeros(2)
    backward = ["dp = 2 weight (p - y) / 4, and dy is its negative:"]
    for n, m in np.ndindex(2, 2):
        dprediction[n, m] = 2 * weight[n] * error[n, m] / 4
        backward.append(f"  dp[{n},{m}] = 2·{_p(weight[n])}·{_p(error[n, m])} / 4 = {_n(dprediction[n, m])}")
    for n in range(2):
        dweight[n] = squares[n][0] / 4
        backward.append(f"  dweight[{n}] = {_n(squares[n][0])} / 4 = {_n(dweight[n])}")
    results = {"y": np.array(loss), "dprediction": dprediction, "dtarget": -dprediction, "dweight": dweight}
    inputs = {"prediction": p, "target": y, "weight": weight}
    return Worked(inputs, {}, np.array(1.0), forward, backward, results)


EXAMPLES = {
    "linear": linear,
    "conv2d": conv2d,
    "group_norm": group_norm,
    "silu": silu,
    "attention": attention,
    "upsample2x": upsample2x,
    "concat": concat,
    "class_embedding": class_embedding,
    "mse_loss": mse_loss,
}


def _sum(products, terms=()):
    """The sum of products (a, b) and of terms, and the text that shows every one of them."""
    shown = [f"{_p(a)}·{_p(b)}" for a, b in products] + [_p(term) for term in terms]
    total = sum(a * b for a, b in products) + sum(terms)
    if len(shown) == 1 and not products:
        return float(total), shown[0]
    return float(total), f"{' + '.join(shown)} = {_n(total)}"


def _n(value):
    """A number in at most four digits."""
    return f"{float(value) + 0.0:.4g}"


def _p(value):
    """A number as it stands in a product: a negative one in parentheses."""
    return f"({_n(value)})" if value < 0 else _n(value)


def _row(values):
    return f"[{', '.join(_n(value) for value in values)}]"
