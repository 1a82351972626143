"""The ops of a transformer's blocks, worked by hand as in ``worked``."""

from __future__ import annotations

import numpy as np

from tinydiff.gradcheck.worked_example import Example, added, array, listed, num, part
from tinydiff.ops import gelu as gelu_op


def layer_norm(x, gamma, beta, dy, *, eps):
    x, dy = x[0], dy[0]
    total, mean_text = added([], x)
    mean = total / 3
    deviation = x - mean
    squares, var_text = added(list(zip(deviation, deviation)))
    var = squares / 3
    rstd = 1 / np.sqrt(var + eps)
    xhat = deviation * rstd
    y = gamma * xhat + beta
    forward = [
        f"one token of C = 3 channels; eps = {num(eps)} to see it",
        f"  mean = ({mean_text}) / 3 = {num(mean)}",
        f"  x - mean = {listed(deviation)}",
        f"  var  = ({var_text}) / 3 = {num(var)}",
        f"  rstd = 1 / sqrt({num(var)} + {num(eps)}) = {num(rstd)}",
        f"  xhat = {listed(xhat)}",
        f"  y    = gamma xhat + beta = {listed(y)}",
    ]
    dgamma, dbeta, dxhat = dy * xhat, dy, dy * gamma
    mean_total, mean_text = added([], dxhat)
    var_total, var_text = added(list(zip(dxhat, xhat)))
    through_mean, through_var = mean_total / 3, var_total / 3
    dx = rstd * (dxhat - through_mean - xhat * through_var)
    backward = [
        "every channel has its own gamma and beta, and there is one token to sum over:",
        f"  dgamma = dy xhat = {listed(dgamma)}",
        f"  dbeta  = dy = {listed(dbeta)}",
        f"  dxhat  = dy gamma = {listed(dxhat)}",
        f"  through_mean = ({mean_text}) / 3 = {num(through_mean)}",
        f"  through_var  = ({var_text}) / 3 = {num(through_var)}",
        "dx = rstd (dxhat - through_mean - xhat through_var):",
    ]
    for c in range(3):
        direct, by_mean, by_var = part(dxhat[c]), part(through_mean), f"{part(xhat[c])}·{part(through_var)}"
        backward.append(f"  dx[{c}] = {num(rstd)} ({direct} - {by_mean} - {by_var}) = {num(dx[c])}")
    return forward, backward, {"y": y[None], "dx": dx[None], "dgamma": dgamma, "dbeta": dbeta}


def attention(q, k, v, length, dy):
    q, k, v, dy = (each.ravel() for each in (q, k, v, dy))
    s = np.outer(q, k)
    p = np.exp(s) / np.exp(s).sum(axis=1, keepdims=True)
    y = p @ v
    forward = ["two queries, two keys, head width D = 1, so that sqrt(D) = 1; every line for one query l"]
    for row in range(2):
        scores = f"s[{row}] = [{part(q[row])}·{part(k[0])}, {part(q[row])}·{part(k[1])}] = {listed(s[row])}"
        mixed = f"{part(p[row, 0])}·{part(v[0])} + {part(p[row, 1])}·{part(v[1])}"
        forward.append(f"  {scores},   p[{row}] = softmax = {listed(p[row])},   y[{row}] = {mixed} = {num(y[row])}")
    dv = p.T @ dy
    dp = np.outer(dy, v)
    row_dot = dy * y
    ds = p * (dp - row_dot[:, None])
    dq, dk = ds @ k, ds.T @ q
    backward = ["y = p v, reversed:"]
    for m in range(2):
        _, text = added([(p[row, m], dy[row]) for row in range(2)])
        backward.append(f"  dv[{m}] = {text}")
    backward += [
        f"  dp = dy v^T = {listed(dp[0])}, {listed(dp[1])}",
        "p = softmax(s), reversed, ds = p (dp - row_dot):",
    ]
    for row in range(2):
        backward.append(f"  row_dot[{row}] = dy y = {part(dy[row])}·{part(y[row])} = {num(row_dot[row])}")
        each = [f"{part(p[row, m])}·({num(dp[row, m])} - {part(row_dot[row])})" for m in range(2)]
        backward.append(f"  ds[{row}] = [{each[0]}, {each[1]}] = {listed(ds[row])}")
    backward.append("a row of ds sums to 0: adding one number to all scores of a query changes nothing")
    backward.append("s = q k^T, reversed:")
    for row in range(2):
        _, text = added([(ds[row, m], k[m]) for m in range(2)])
        backward.append(f"  dq[{row}] = {text}")
    for m in range(2):
        _, text = added([(ds[row, m], q[row]) for row in range(2)])
        backward.append(f"  dk[{m}] = {text}")
    return forward, backward, {n: a.reshape(1, 2, 1, 1) for n, a in dict(y=y, dq=dq, dk=dk, dv=dv).items()}


def gelu(x, dy):
    P, phi = gelu_op.share(x, "exact"), np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    y, dx = x * P, dy * (P + x * phi)
    forward = ["P = Phi(x), the share of a unit normal that lies below x:"]
    backward = [
        "the product rule: x moves y = x P by itself, times P, and through P, times x phi(x), the normal's density:"
    ]
    for i in range(3):
        forward.append(f"  P[{i}] = Phi({num(x[i])}) = {num(P[i])},   y[{i}] = {part(x[i])}·{part(P[i])} = {num(y[i])}")
        through = f"{part(x[i])}·{part(phi[i])}"
        backward.append(f"  dx[{i}] = {part(dy[i])}·({num(P[i])} + {through}) = {num(dx[i])}")
    return forward, backward, {"y": y, "dx": dx}


def geglu(x, dy):
    a, g, dy = x[0, :2], x[0, 2:], dy[0]
    P, phi = gelu_op.share(g, "exact"), np.exp(-g * g / 2) / np.sqrt(2 * np.pi)
    gate, slope = g * P, P + g * phi
    y, da, dg = a * gate, dy * gate, dy * a * slope
    forward = [f"of the four channels two are a = {listed(a)} and two the gate g = {listed(g)}:"]
    backward = [f"each factor moves y by the other, and g through gelu's slope, {listed(slope)}:"]
    for c in range(2):
        forward.append(
            f"  gelu(g[{c}]) = {part(g[c])}·{part(P[c])} = {num(gate[c])},   y[{c}] = {part(a[c])}·{part(gate[c])} = {num(y[c])}"
        )
        backward.append(
            f"  da[{c}] = {part(dy[c])}·{part(gate[c])} = {num(da[c])},   dg[{c}] = {part(dy[c])}·{part(a[c])}·{part(slope[c])} = {num(dg[c])}"
        )
    return forward, backward, {"y": y[None], "dx": np.concatenate([da, dg])[None]}


EXAMPLES = {
    "layer_norm": Example(
        {"x": array([1, 2, 6]), "gamma": array(2, 1, -1), "beta": array(0, 1, 0.5)},
        array([1, -1, 2]),
        layer_norm,
        {"eps": 1.0},
    ),
    "attention": Example(
        {
            "q": array(1, -1, shape=(1, 2, 1, 1)),
            "k": array(1, 2, shape=(1, 2, 1, 1)),
            "v": array(3, -1, shape=(1, 2, 1, 1)),
            "length": None,
        },
        array(1, 2, shape=(1, 2, 1, 1)),
        attention,
    ),
    "gelu": Example({"x": array(-1, 0, 2)}, array(1, 2, -1), gelu),
    "geglu": Example({"x": array([3, -1, 1, -2])}, array([1, 2]), geglu),
}
