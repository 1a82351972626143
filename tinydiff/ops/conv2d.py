"""conv2d: two-dimensional cross-correlation, channels last.

Letters: N batch, H W input, H' W' output, C channels in, O channels out, R S filter rows and columns,
p padding before, ``stride`` 1 or 2 (any positive integer here).

Forward
    y[n,h',w',o] = b[o] + add[n,h',w',o] + sum_{r,s,c} x[n, h' stride + r - p, w' stride + s - p, c] w[r,s,c,o]

with `x = 0` outside the image. ``add`` rides along: a time shift `(N,1,1,O)` or a residual `(N,H',W',O)`.

As one matrix product. The textbook im2col copies every input value `R S` times to the left operand. Here the
two filter axes are split between the operands, so nothing is copied more than `max(R, S)` times: the filter
columns `s` go into the left matrix, the filter rows `r` into the right one,

    columns[n,h,w', (s,c)] = x[n, h, w' stride + s - p, c]                      gather over `s`
    z[n,h,w', (r,o)]       = columns @ w    the product, with `w` as a `((s,c), (r,o))` matrix
    y[n,h',w',o]           = b + add + sum_r z[n, h' stride + r - p, w', r, o]  gather over `r`

Backward. Each line reversed is the adjoint of the line above it, from the bottom up:
    `y` sums `z` over `r`          ->  dz[n, h' stride + r - p, w', r, o] = dy[n,h',w',o]   and 0 where no `h'` fits
    z = columns @ w                ->  dw = columns^T dz,   dcolumns = dz w^T
    `columns` gathers `x` over `s` ->  dx[n, h, w' stride + s - p, c] += dcolumns[n,h,w', (s,c)]
    `b`, `add` are plain sums      ->  db = sum_{n,h',w'} dy,   dadd = dy   (summed over pixels for a time shift; for a
                                       residual it is `dy` itself, not a copy, and so read-only)

The columns are recomputed in the backward, not cached: they are `S` times the size of `x`.

Cost: `2 N H' W' R S C O` FLOPs forward (times stride for the rows no output uses), twice that backward.
Source: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016, for the index sets.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tinydiff.ops import contract


class Cache(NamedTuple):
    x: np.ndarray  # (N, H, W, C), the input itself: no copy
    w: np.ndarray  # (R, S, C, O)
    stride: int
    padding: tuple[int, int]
    y_shape: tuple[int, ...]  # (N, H', W', O)
    has_b: bool
    add_shape: tuple[int, ...] | None


def forward(x, w, b=None, add=None, *, stride=1, padding=0):
    """x (N,H,W,C), w (R,S,C,O), b (O) or None, add (N,1,1,O) or (N,H',W',O) or None -> y (N,H',W',O), cache.

    ``padding`` is zeros on every side, or ``(before, after)`` for both axes (a stride-2 convolution padded
    ``(0, 1)`` is what some published U-Nets use). Raises ``ValueError`` for shapes or dtypes that do not
    fit, a stride below 1, a negative padding, or a filter larger than the padded image.
    """
    padding, y_shape = check(x, w, b, add, stride, padding)
    N, H_out, W_out, O = y_shape
    R = w.shape[0]

    columns = _columns(x, w.shape[1], W_out, stride, padding)
    z = (columns @ _as_matrix(w)).reshape(N, x.shape[1], W_out, R, O)

    if R == 1 and stride == 1 and padding == (0, 0):
        y = z.reshape(y_shape)  # one filter row that fits everywhere: the sum over r has one term
        if add is not None:
            y += add
    else:
        y = np.zeros(y_shape, x.dtype)
        if add is not None:
            y += add
        for r in range(R):
            rows_out, rows_in = _row_pairs(r, x.shape[1], H_out, stride, padding)
            y[:, rows_out] += z[:, rows_in, :, r]
    if b is not None:
        y += b
    add_shape = None if add is None else tuple(add.shape)
    return y, Cache(x, w, stride, padding, y_shape, b is not None, add_shape)


def backward(dy, cache, into=(None, None)):
    """dy (N,H',W',O) -> dx (N,H,W,C), dw (R,S,C,O), db (O) or None, dadd (as add) or None.

    The dadd of a residual is a read-only view of dy. dw and db are written ``into`` arrays given for them.
    """
    x, w, stride, padding, y_shape, has_b, add_shape = cache
    contract.expect("conv2d", "dy", dy, y_shape, x.dtype)
    N, H, W, C = x.shape
    R, S, _, O = w.shape
    _, H_out, W_out, _ = y_shape
    dy_MO = dy.reshape(-1, O)

    db = np.einsum("mo->o", dy_MO) if has_b else None
    dadd = None
    if add_shape == y_shape:
        dadd = dy.view()
        dadd.flags.writeable = False
    elif add_shape is not None:
        dadd = np.einsum("nhwo->no", dy).reshape(add_shape)

    # y = sum over r of z, reversed
    if R == 1 and stride == 1 and padding == (0, 0):
        dz = dy_MO
    else:
        dz = np.zeros((N, H, W_out, R, O), x.dtype)
        for r in range(R):
            rows_out, rows_in = _row_pairs(r, H, H_out, stride, padding)
            dz[:, rows_in, :, r] = dy[:, rows_out]
        dz = dz.reshape(-1, R * O)

    # z = columns @ w, reversed
    columns = _columns(x, S, W_out, stride, padding)
    dw = (columns.T @ dz).reshape(S, C, R, O).transpose(2, 0, 1, 3)
    dcolumns = dz @ _as_matrix(w).T

    # columns gathered over s, reversed
    if S == 1 and stride == 1 and padding == (0, 0):
        dx = dcolumns.reshape(x.shape)
    else:
        dcolumns = dcolumns.reshape(N, H, W_out, S, C)
        dx_padded = np.zeros((N, H, W + sum(padding), C), x.dtype)
        for s in range(S):
            dx_padded[:, :, s : s + stride * W_out : stride][:, :, :W_out] += dcolumns[:, :, :, s]
        dx = np.ascontiguousarray(dx_padded[:, :, padding[0] : padding[0] + W])
    dw = contract.place("conv2d", "dw", np.ascontiguousarray(dw), into[0])
    return dx, dw, contract.place("conv2d", "db", db, into[1]), dadd


def check(x, w, b, add, stride, padding):
    """Check the arguments of ``forward``; return the padding as (before, after) and the output's shape."""
    sizes = contract.bind("conv2d", x=(x, "N H W C"), w=(w, "R S C O"), b=(b, "O"))
    if not isinstance(stride, int) or stride < 1:
        raise ValueError(f"conv2d: stride must be an integer of at least 1, got {stride!r}")
    before, after = padding if isinstance(padding, tuple) and len(padding) == 2 else (padding, padding)
    if not all(isinstance(p, int) and p >= 0 for p in (before, after)):
        raise ValueError(f"conv2d: padding must be an integer of at least 0 or two of them, got {padding!r}")
    H_out = (sizes["H"] + before + after - sizes["R"]) // stride + 1
    W_out = (sizes["W"] + before + after - sizes["S"]) // stride + 1
    if H_out < 1 or W_out < 1:
        raise ValueError(
            f"conv2d: w of {sizes['R']}x{sizes['S']} is larger than x of {sizes['H']}x{sizes['W']} "
            f"padded by {(before, after)}"
        )
    y_shape = (sizes["N"], H_out, W_out, sizes["O"])
    if add is not None:
        time_shift = (sizes["N"], 1, 1, sizes["O"])
        is_time_shift = tuple(getattr(add, "shape", ())) == time_shift
        contract.expect("conv2d", "add", add, time_shift if is_time_shift else y_shape, x.dtype)
    return (before, after), y_shape


def _columns(x, S, W_out, stride, padding):
    """x (N,H,W,C) -> (N H W', S C): for each output column the S input columns under the filter."""
    N, H, W, C = x.shape
    if padding != (0, 0):
        padded = np.zeros((N, H, W + sum(padding), C), x.dtype)
        padded[:, :, padding[0] : padding[0] + W] = x
        x = padded
    windows = sliding_window_view(x, S, axis=2)[:, :, ::stride]  # (N, H, W', C, S), a view
    return windows.transpose(0, 1, 2, 4, 3).reshape(N * H * W_out, S * C)


def _as_matrix(w):
    """w (R,S,C,O) -> ((S C), (R O))."""
    R, S, C, O = w.shape
    return w.transpose(1, 2, 0, 3).reshape(S * C, R * O)


def _row_pairs(r, H, H_out, stride, padding):
    """Slices of the output rows h' and the input rows h' stride + r - p that lie inside the image."""
    offset = r - padding[0]
    first = max(0, -(offset // stride))  # smallest h' with h' stride + offset >= 0
    last = min(H_out - 1, (H - 1 - offset) // stride)
    if last < first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + offset
    return slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride)
