"""How far from the truth a 3x3 convolution in bfloat16 is whose tiles and filters are rounded once as points.

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


class Matrices(NamedTuple):
    of_input: np.ndarray  # B^T (n, n)
    of_filter: np.ndarray  # G (n, 3)
    of_output: np.ndarray  # A^T (m, n)


a, b = 0.5**0.5, 2**0.5
MATRICES = {
    "winograd_2": Matrices(
        np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]]),
        np.array([[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]]),
        np.array([[1, 1, 1, 0], [0, 1, -1, 1]]),
    ),
    "winograd_4": Matrices(
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
    ),
}


def deviations(version, x, w, dy, before):
    """Of y, dx and dw the standard deviation of every element's error, for x (N,H,W,C), w (3,3,C,O), dy and the padding
    above and to the left."""
    turned = w[::-1, ::-1].swapaxes(2, 3)  # dx is dy correlated with it
    y = _correlation(version, x, w, before, dy.shape[1:3])
    return y, _correlation(version, dy, turned, 2 - before, x.shape[1:3]), _weight_gradient(version, x, dy, before)


def _correlation(version, x, w, before, shape):
    of_input, of_filter, of_output = MATRICES[version]
    tiles = _points(of_input, _tiles(x, before, shape, len(of_output), len(of_input)))
    filters = _points(of_filter, w.transpose(2, 3, 0, 1))
    products = _variances("nhwcpq,copq->nhwopq", tiles, filters)
    variances = np.einsum("ip,nhwopq,jq->nhiwjo", of_output**2, products, of_output**2, optimize=True)
    N, h, m, w, _, O = variances.shape
    return np.sqrt(variances.reshape(N, h * m, w * m, O)[:, : shape[0], : shape[1]])


def _weight_gradient(version, x, dy, before):
    of_input, of_filter, of_output = MATRICES[version]
    m, shape = len(of_output), dy.shape[1:3]
    tiles = _points(of_input, _tiles(x, before, shape, m, len(of_input)))
    upstream = _points(of_output.T, _tiles(dy, 0, shape, m, m))
    products = _variances("nhwcpq,nhwopq->copq", tiles, upstream)
    return np.sqrt(np.einsum("pr,copq,qs->rsco", of_filter**2, products, of_filter**2, optimize=True))


def _tiles(x, before, shape, m, extent):
    """x under every tile of m outputs, (N, tiles down, tiles across, C, extent, extent), zeros outside."""
    counts = [-(-size // m) for size in shape]
    ends = [(count - 1) * m + extent for count in counts]
    padded = np.zeros((len(x), *(max(end, before + size) for end, size in zip(ends, x.shape[1:3])), x.shape[3]))
    padded[:, before : before + x.shape[1], before : before + x.shape[2]] = x
    return sliding_window_view(padded[:, : ends[0], : ends[1]], (extent, extent), axis=(1, 2))[:, ::m, ::m]


def _points(transform, tiles):
    return np.einsum("pi,...ij,qj->...pq", transform, tiles, transform, optimize=True)


def _variances(letters, p, q):
    """Of sums of products of rounded factors."""
    moved = [(points.astype(bfloat16()) - points) ** 2 for points in (p, q)]
    return sum(np.einsum(letters, *both, optimize=True) for both in ((moved[0], q**2), (p**2, moved[1])))
