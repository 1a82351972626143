"""How far from the truth a 3x3 convolution is where activations are bfloat16, whose tiles and filters are rounded once as
points: of the convolution itself and of dx to 16-bit integers that share a scale, of the weight gradient to bfloat16.

The matrices are those of csrc/cpu/winograd.h: y = A^T [(G w G^T) * (B^T x B)] A and dw = G^T [(B^T x B) * (A dy A^T)] G,
of each tile and pair of channels. How far a point p moves by being rounded is known; that the errors of points point
either way, whichever the others do, is all that is left to chance. So a product of points p and q has the variance
error(p)^2 q^2 + p^2 error(q)^2, and an element of y or dw that of all its products, each times the square of its factor
in A or G. Sums and transforms are float32 and add next to nothing.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tinydiff.precision import bfloat16

LENGTH = 32767  # of a row of integers (csrc/cpu/fixed_point.h)


class Matrices(NamedTuple):
    of_input: np.ndarray  # B^T (n, n)
    of_filter: np.ndarray  # G (n, 3)
    of_output: np.ndarray  # A^T (m, n)


a, b = 0.5**0.5, 2**0.5
TWO = Matrices(
    np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]]),
    np.array([[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]]),
    np.array([[1, 1, 1, 0], [0, 1, -1, 1]]),
)
FOUR = Matrices(
    np.array(
        [
            [1, 0, -5 / 2, 0, 1, 0],
            [0, -2 * a, -2, a, 1, 0],
            [0, 2 * a, -2, -a, 1, 0],
            [0, -b / 2, -1 / 2, b, 1, 0],
            [0, b / 2, -1 / 2, -b, 1, 0],
            [0, 1, 0, -5 / 2, 0, 1],
        ]
    ),
    np.array(
        [
            [1, 0, 0],
            [-2 / 3, -2 / 3 * a, -1 / 3],
            [-2 / 3, 2 / 3 * a, -1 / 3],
            [1 / 6, 1 / 6 * b, 1 / 3],
            [1 / 6, -1 / 6 * b, 1 / 3],
            [0, 0, 1],
        ]
    ),
    np.array(
        [[1, 1, 1, 1, 1, 0], [0, a, -a, b, -b, 0], [0, 1 / 2, 1 / 2, 2, 2, 0], [0, a / 2, -a / 2, 2 * b, -2 * b, 1]]
    ),
)
THREE_OF_FOUR = Matrices(  # the points of FOUR but -b
    np.array(
        [
            [1, -a, -2, b, 0],
            [0, -3 * a, -3 / 2, 3 * a, 0],
            [0, a, -3 / 2, a, 0],
            [0, -b, 0, 2 * b, 0],
            [0, a, -1 / 2, -b, 1],
        ]
    ),
    FOUR.of_filter[[0, 1, 2, 3, 5]],
    np.array([[1, 1, 1, 1, 0], [0, a, -a, b, 0], [0, 1 / 2, 1 / 2, 2, 1]]),
)
# of a version: its tiles, and those that are one output shorter
MATRICES = {"winograd_2": (TWO, None), "winograd_4": (FOUR, THREE_OF_FOUR)}


def deviations(version, x, w, dy, before):
    """Of y, dx and dw the standard deviation of every element's error, for x (N,H,W,C), w (3,3,C,O), dy and the padding
    above and to the left."""
    turned = w[::-1, ::-1].swapaxes(2, 3)  # dx is dy correlated with it
    y = _correlation(version, x, w, before, dy.shape[1:3])
    return y, _correlation(version, dy, turned, 2 - before, x.shape[1:3]), _weight_gradient(x, dy, before)


def _correlation(version, x, w, before, shape):
    variances = np.zeros((len(x), *shape, w.shape[3]))
    down, across = (_cut(size, *MATRICES[version]) for size in shape)
    ends = [cut[-1][0] + len(cut[-1][1].of_input) for cut in (down, across)]
    padded = _padded(x, before, ends)
    for h, rows in down:
        for k, columns in across:
            tile = padded[:, h : h + len(rows.of_input), k : k + len(columns.of_input)]
            tiles = np.einsum("pi,nijc,qj->ncpq", rows.of_input, tile, columns.of_input, optimize=True)
            filters = np.einsum("pi,ijco,qj->copq", rows.of_filter, w, columns.of_filter, optimize=True)
            products = _variances("ncpq,copq->nopq", tiles, filters, _to_integers(tiles, 1), _to_integers(filters, 0))
            made = np.einsum("ip,nopq,jq->nijo", rows.of_output**2, products, columns.of_output**2, optimize=True)
            there = variances[:, h : h + made.shape[1], k : k + made.shape[2]]
            there += made[:, : there.shape[1], : there.shape[2]]
    return np.sqrt(variances)


def _weight_gradient(x, dy, before):
    of_input, of_filter, of_output = TWO
    counts = [-(-size // 2) for size in dy.shape[1:3]]
    tiles = _points(of_input, _tiles(_padded(x, before, [2 * count + 2 for count in counts]), counts, 4))
    upstream = _points(of_output.T, _tiles(_padded(dy, 0, [2 * count for count in counts]), counts, 2))
    products = _variances("nhwcpq,nhwopq->copq", tiles, upstream, _to_bfloat16(tiles), _to_bfloat16(upstream))
    return np.sqrt(np.einsum("pr,copq,qs->rsco", of_filter**2, products, of_filter**2, optimize=True))


def _cut(size, full, shorter):
    """[(where a tile of outputs begins, its ``Matrices``), ...]: as many full ones as make do, the rest one shorter."""
    m = len(full.of_output)
    count = -(-size // m)
    few = min(count, count * m - size) if shorter else 0
    kinds = [full] * (count - few) + [shorter] * few
    starts = np.cumsum([0, *(len(kind.of_output) for kind in kinds)])
    return list(zip(starts, kinds))


def _padded(x, before, ends):
    """x with zeros around it, ``before`` of them first, to these ends at least."""
    padded = np.zeros((len(x), *(max(end, before + size) for end, size in zip(ends, x.shape[1:3])), x.shape[3]))
    padded[:, before : before + x.shape[1], before : before + x.shape[2]] = x
    return padded


def _tiles(padded, counts, extent):
    """What lies under every tile of 2 outputs, (N, tiles down, tiles across, C, extent, extent)."""
    ends = [2 * (count - 1) + extent for count in counts]
    return sliding_window_view(padded[:, : ends[0], : ends[1]], (extent, extent), axis=(1, 2))[:, ::2, ::2]


def _points(transform, tiles):
    return np.einsum("pi,...ij,qj->...pq", transform, tiles, transform, optimize=True)


def _to_bfloat16(points):
    return points.astype(bfloat16()).astype(np.float64)


def _to_integers(points, axis):
    """Of rows along an axis, each with a scale of its own."""
    unit = np.sqrt(np.sum(points**2, axis=axis, keepdims=True)) / LENGTH
    return np.rint(points / np.where(unit > 0, unit, 1)) * unit


def _variances(letters, p, q, rounded_p, rounded_q):
    """Of sums of products of rounded factors."""
    both = ((rounded_p - p) ** 2, q**2), (p**2, (rounded_q - q) ** 2)
    return sum(np.einsum(letters, *each, optimize=True) for each in both)
