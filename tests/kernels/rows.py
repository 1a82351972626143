"""What kernels are compared at: one row an op.

A row says at which sizes the op is drawn, at which it is always compared (each for a branch that some kernel
has), how its inputs are made of them, and how far from the truth a kernel may be.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from tests.checks import EPS, EPS32
from tests.kernels import winograd
from tinydiff import ops


class Row(NamedTuple):
    inputs: Callable  # (rng, **sizes) -> the inputs, the options
    sizes: st.SearchStrategy  # {name: size or option of inputs}
    always: list  # of such
    times: float = 4  # see ``assert_as_good``
    times_bf16: float = 1.25  # the same of results in bfloat16: the one rounding of a float32 result
    rivals: int = 8  # runs of the reference at inputs moved by a rounding
    entering: Callable = lambda truth, inputs, dy, cache: [0.0] * len(truth)  # per output, see ``assert_as_good``
    chance: Callable = lambda inputs, options, dy, dtypes: [0.0] * len(dtypes)  # per output, see ``assert_as_good``
    deviations: Callable = lambda version, inputs, options, dy, dtypes: [0.0] * len(dtypes)  # likewise


NANS = 16


def one_by_one(terms, squares):
    """How far from the truth a sum is by chance that is added one after another in float32, of ``terms`` products whose
    squares add up to ``squares``: two standard deviations; of several sums, the largest.

    An addition rounds the partial sum s to a neighbour, by at most u |s| with u = 2^-24; if by anything up to that alike,
    with the variance (u s)^2 / 3. After k products of either sign s^2 is on average k / terms of all squares, so all
    roundings together have the variance u^2 / 3 squares (1 + 2 + ... + terms) / terms, about u^2 / 6 terms squares. (A
    sum in several rows, as NumPy's BLAS has it, errs less, and says nothing about this one.)

    The partial sums of one sum are large or small together, so that the chance of a large error falls more slowly than a
    Gaussian's: of 600,000 sums of 1000 products 1 in 200 were off by more than three deviations, 4 in 100,000 by more
    than six, and one more deviation was always five times as rare. So 12 deviations, which a kernel may err that may err
    six times this, have a chance of 3e-9.
    """
    return 2 * EPS32 / 2 * float(np.sqrt(np.max(terms * squares) / 6))


def rounded_once(squares):
    """The same of a sum of products each of which is rounded to bfloat16 once: their errors have nothing to do with each
    other, and the variance u^2 / 3 squares with u = 2^-9."""
    return 2 * EPS["bfloat16"] / 2 * float(np.sqrt(np.max(squares) / 3))


def of_products(op):
    """``Row.chance`` of an op whose outputs are sums of products of two inputs, or of dy and an input.

    Of ones the op makes the number of terms of each sum, of squares the sum of their squares.
    """

    def chance(inputs, options, dy, dtypes):
        def made(of):
            y, cache = op.forward(*(None if x is None else of(x) for x in inputs), **options)
            return [y, *op.backward(of(dy), cache)]

        columns = zip(made(np.ones_like), made(np.square))
        return [None if terms is None else one_by_one(terms, squares) for terms, squares in columns]

    return chance


def between_nans(values, start=1, dtype=np.float32):
    """A copy of this dtype, ``start`` values beyond an aligned address, with NaNs around it that nobody may read."""
    buffer = np.full(values.size + NANS + 16, np.nan, dtype)
    start += -buffer.ctypes.data % 16 // buffer.itemsize
    array = buffer[start : start + values.size].reshape(values.shape)
    array[...] = values
    return array


def floats(rng, *shape):
    """Standard normals, so placed."""
    return between_nans(rng.standard_normal(shape), int(rng.integers(1, NANS)))


def linear(rng, leading, C, O, b=True):
    return [floats(rng, *leading, C), floats(rng, C, O), floats(rng, O) if b else None], {}


def conv2d(rng, N, H, W, C, O, R=3, S=3, stride=1, padding=1, b=True, add=None):
    x, w = floats(rng, N, H, W, C), floats(rng, R, S, C, O)
    _, y_shape = ops.conv2d.check(x, w, None, None, stride, padding)
    shape = {None: None, "time shift": (N, 1, 1, O), "residual": y_shape}[add]
    inputs = [x, w, floats(rng, O) if b else None, floats(rng, *shape) if add else None]
    return inputs, {"stride": stride, "padding": padding}


def conv2d_deviations(version, inputs, options, dy, dtypes):
    """Where it is computed in bfloat16 by Winograd."""
    if str(dtypes[0]) != "bfloat16" or version not in winograd.MATRICES:
        return [0.0] * len(dtypes)
    padding = options["padding"]
    before = padding[0] if isinstance(padding, tuple) else padding
    return [*winograd.deviations(version, *inputs[:2], dy, before), 0.0, 0.0]


def filter_fits(sizes):
    padding = sizes["padding"]
    total = sum(padding) if isinstance(padding, tuple) else 2 * padding
    return sizes["H"] + total >= sizes["R"] and sizes["W"] + total >= sizes["S"]


def group_norm(rng, N, H, W, groups, width, silu, film=False, mean=0):
    C = groups * width
    x = floats(rng, N, H, W, C)
    x += mean
    scale_and_shift = [floats(rng, N, C), floats(rng, N, C)] if film else [None, None]
    return [x, floats(rng, C), floats(rng, C), *scale_and_shift], {"groups": groups, "silu": silu}


def group_norm_entering(truth, inputs, dy, cache):
    """dx cancels in a group of one value (all of it) or of two (to within eps)."""
    _, gamma, _, scale, _ = inputs
    slope = np.abs(gamma).max() * (1 if scale is None else np.abs(1 + scale).max())
    return [0, cache.rstd.max() * slope * np.abs(dy).max(), 0, 0, 0, 0]


def layer_norm(rng, leading, C, mean=0):
    x = floats(rng, *leading, C)
    x += mean
    return [x, floats(rng, C), floats(rng, C)], {}


def layer_norm_entering(truth, inputs, dy, cache):
    """dx cancels in a token of one channel (all of it) or of two (to within eps)."""
    return [0, cache.rstd.max() * np.abs(inputs[1]).max() * np.abs(dy).max(), 0, 0]


def layer_norm_chance(inputs, options, dy, dtypes):
    """Of the sums over tokens."""
    x = inputs[0].reshape(-1, inputs[0].shape[-1])
    dy = dy.reshape(x.shape)
    xhat = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    sums = (one_by_one(len(x), (each**2).sum(axis=0)) for each in (dy * xhat, dy))
    return [0.0, 0.0, *sums]


def gelu(rng, shape, scale=1, form="exact"):
    (x,), _ = silu(rng, shape, scale)
    return [x], {"form": form}


def gelu_entering(truth, inputs, dy, cache):
    """Far on the left float32 ends before the exact form does."""
    return [1e-30, 1e-24]


def geglu(rng, leading, C):
    return [floats(rng, *leading, 2 * C)], {}


def silu(rng, shape, scale=1):
    x = floats(rng, *shape)
    x *= scale
    return [x], {}


def dropout(rng, N, shape, rate, has_slot=False):
    slot = rng.integers(0, 2**32, N) if has_slot else None
    options = {"rate": rate, "layer": int(rng.integers(2**24)), "seed": int(rng.integers(2**63))}
    return [floats(rng, N, *shape), rng.integers(0, 2**32, 1), slot], options


def attention(rng, N, L, M, A, D, scale=1, padded=False, causal=False):
    M = L if causal else M
    q, k, v = floats(rng, N, L, A, D), floats(rng, N, M, A, D), floats(rng, N, M, A, D)
    q *= scale
    return [q, k, v, rng.integers(1, M + 1, N) if padded else None], {"causal": causal}


def attention_entering(truth, inputs, dy, cache):
    """dq and dk cancel where a row of the softmax is 1 at one key and 0 elsewhere, as it is with one key."""
    q, k, v = (np.abs(x) for x in inputs[:3])
    ds = np.einsum("nlad,nmad->nalm", np.abs(dy), v).max() / np.sqrt(q.shape[-1])
    return [0, ds * k.max(), ds * q.max(), 0, 0]


def attention_chance(inputs, options, dy, dtypes):
    """Of the last sums: y over keys of p v, dq over keys of ds k, dk over queries of ds q, dv over queries of p dy; in
    bfloat16 p and ds are rounded, and so is y = p v before ds = p (dp - dy y) takes it."""
    q, k, v, length = inputs
    scale = q.shape[-1] ** -0.5
    s = ops.attention.scores(q, k, length, options["causal"])
    p = np.exp(s - s.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    dp = np.einsum("nlad,nmad->nalm", dy, v)
    ds = p * (dp - np.sum(p * dp, axis=-1, keepdims=True)) * scale
    # in u^2 / 3, the variance of dy y, and of what comes of it where ds is summed
    y_squares = np.einsum("nalm,nmad->nlad", p**2, v**2) + np.einsum("nalm,nmad->nlad", p, v) ** 2
    dot = np.einsum("nlad,nlad->nal", dy**2, y_squares) * scale**2
    of_dq = np.einsum("nal,nlad->nlad", dot, np.einsum("nalm,nmad->nlad", p, k) ** 2)
    of_dk = np.einsum("nal,nalm,nlad->nmad", dot, p**2, q**2)
    L, M = p.shape[2:]
    over_keys, over_queries = (M, "nalm,nmad->nlad"), (L, "nalm,nlad->nmad")
    sums = (*over_keys, p, v), (*over_keys, ds, k), (*over_queries, ds, q), (*over_queries, p, dy)
    chances = []
    for (terms, letters, weights, values), of_y, dtype in zip(sums, (0, of_dq, of_dk, 0), dtypes):
        squares = np.einsum(letters, weights**2, values**2)
        chances.append(rounded_once(squares + of_y) if str(dtype) == "bfloat16" else one_by_one(terms, squares))
    return [*chances, 0.0]


def upsample2x(rng, N, H, W, C):
    return [floats(rng, N, H, W, C)], {}


def concat(rng, N, H, W, C, B):
    return [floats(rng, N, H, W, C), floats(rng, N, H, W, B)], {}


def class_embedding(rng, K, E, N, dtype=np.int64):
    return [floats(rng, K, E), rng.integers(0, K, N).astype(dtype)], {}


def timestep_embedding(rng, N, half):
    step = floats(rng, N)
    step[...] = rng.choice([rng.uniform(0, 1000, N), rng.integers(0, 1000, N)])
    return [step], {"width": 2 * half}


def loss(rng, shape, weighted=True):
    prediction, target, weight = floats(rng, *shape), floats(rng, *shape), floats(rng, shape[0])
    return [prediction, target, np.abs(weight, out=weight) if weighted else None], {}


def moments(rng, shape, Z, scale=1):
    made = floats(rng, *shape, 2 * Z)
    made[..., Z:] *= scale
    return made


def gaussian_sample(rng, shape, Z, scale=1):
    return [moments(rng, shape, Z, scale), floats(rng, *shape, Z)], {}


def gaussian_kl(rng, shape, Z, scale=1):
    return [moments(rng, shape, Z, scale)], {}


def global_norm(rng, P):
    return [floats(rng, P)], {}


def sizes(**strategies):
    return st.fixed_dictionaries(strategies)


def size(largest):
    return st.integers(1, largest)


# around the widths of vectors and of the tiles made of them, as well as the small ones
width = st.one_of(st.integers(1, 9), st.sampled_from([15, 16, 17, 20, 31, 32, 33, 48, 63, 64, 65]))
# as in an activation: one pixel, a row, a column, small images
images = dict(N=size(3), H=size(9), W=size(9))
shapes = st.lists(st.integers(1, 7), min_size=1, max_size=4)
gaussians = sizes(shape=shapes, Z=width, scale=st.sampled_from([1, 1, 30]))  # of 30 some are cut off
some_gaussians = [dict(shape=[1], Z=1), dict(shape=[4, 16, 16], Z=3), dict(shape=[2, 7], Z=61, scale=30)]

ROWS = {
    "linear": Row(
        linear,
        sizes(leading=st.lists(st.integers(1, 6), max_size=3), C=width, O=width, b=st.booleans()),
        [
            dict(leading=[], C=1, O=1),
            dict(leading=[64], C=128, O=512),
            dict(leading=[4, 49], C=256, O=256),
            dict(leading=[3, 37], C=33, O=130, b=False),
            dict(leading=[1000], C=5, O=3),
            # of so few rows in bfloat16, one more is too many, the matrix is not packed
            dict(leading=[24], C=33, O=64),
            dict(leading=[25], C=40, O=64),
            dict(leading=[3], C=1000, O=7),
        ],
        times=6,  # a kernel adds products in one row, NumPy's BLAS in several
        chance=of_products(ops.linear),
    ),
    "conv2d": Row(
        conv2d,
        sizes(
            **images,
            C=width,
            O=width,
            R=st.sampled_from([3, 3, 1, 2, 4]),
            S=st.sampled_from([3, 3, 1, 2, 4]),
            stride=st.sampled_from([1, 1, 2, 3]),
            padding=st.one_of(st.integers(0, 3), st.tuples(st.integers(0, 2), st.integers(0, 2))),
            b=st.booleans(),
            add=st.sampled_from([None, "time shift", "residual"]),
        ).filter(filter_fits),
        [
            # 3x3, stride 1, padding 1: Winograd where there are channels enough
            dict(N=2, H=28, W=28, C=16, O=32, add="time shift"),
            dict(N=1, H=7, W=7, C=64, O=48, add="residual"),
            dict(N=3, H=9, W=5, C=33, O=17),
            dict(N=2, H=14, W=14, C=96, O=64, add="residual"),
            dict(N=1, H=4, W=4, C=128, O=130, b=False),
            dict(N=5, H=13, W=13, C=20, O=20, add="time shift"),
            dict(N=2, H=1, W=1, C=32, O=32),
            dict(N=2, H=28, W=28, C=1, O=32),  # conv_in
            dict(N=2, H=28, W=28, C=32, O=1),  # conv_out
            # the taps of few outputs side by side
            dict(N=2, H=9, W=11, C=48, O=3, padding=(0, 1), add="residual"),
            dict(N=3, H=6, W=5, C=18, O=2, R=2, S=4, padding=2, add="time shift"),
            dict(N=2, H=9, W=8, C=32, O=1, stride=2),
            dict(N=2, H=11, W=10, C=24, O=16, padding=0),
            dict(N=2, H=11, W=10, C=24, O=16, padding=2),
            dict(N=2, H=14, W=14, C=192, O=64, R=1, S=1, padding=0),
            dict(N=2, H=14, W=14, C=48, O=96, R=1, S=1, padding=0, b=False, add="residual"),
            dict(N=2, H=28, W=28, C=32, O=32, stride=2, padding=(0, 1)),
            dict(N=2, H=28, W=28, C=32, O=32, stride=2),
            dict(N=1, H=6, W=6, C=2, O=2, stride=2, padding=(0, 1)),
            dict(N=3, H=7, W=5, C=5, O=7, stride=2),
            # few pixels of an even and an odd number of channels
            dict(N=1, H=4, W=6, C=20, O=16, R=2, S=2, padding=(0, 1)),
            dict(N=1, H=3, W=3, C=7, O=48),
            # pixels that no tap reaches; filter rows, filter columns that never meet the image
            dict(N=1, H=2, W=2, C=3, O=1, R=1, S=2, stride=2, padding=0),
            dict(N=1, H=1, W=5, C=1, O=2, R=2, S=3, stride=2, padding=3, b=False),
            dict(N=1, H=5, W=1, C=1, O=2, R=3, S=2, stride=3, padding=3, b=False),
        ],
        times=12,  # Winograd's F(4x4, 3x3) errs up to about 8 times as much as adding the products one by one
        chance=of_products(ops.conv2d),
        deviations=conv2d_deviations,
    ),
    "group_norm": Row(
        group_norm,
        sizes(
            **images,
            groups=size(5),
            width=width,
            silu=st.booleans(),
            film=st.booleans(),
            mean=st.sampled_from([0, 0, 30, 1000]),
        ),
        [
            dict(N=1, H=1, W=1, groups=3, width=1, silu=False),  # groups of one value
            dict(N=1, H=1, W=2, groups=2, width=1, silu=True),  # and of two
            dict(N=2, H=7, W=7, groups=1, width=1, silu=True),
            dict(N=1, H=28, W=28, groups=32, width=1, silu=True),
            dict(N=2, H=28, W=28, groups=32, width=2, silu=False, mean=1000),
            dict(N=3, H=14, W=14, groups=32, width=4, silu=True),
            dict(N=2, H=7, W=7, groups=32, width=8, silu=True, mean=30),
            dict(N=2, H=5, W=7, groups=4, width=12, silu=False),
            dict(N=5, H=14, W=14, groups=8, width=8, silu=True, film=True),
            dict(N=1, H=7, W=7, groups=8, width=16, silu=True, film=True),
            dict(N=1, H=96, W=96, groups=4, width=8, silu=True),  # large, alone
            dict(N=2, H=1, W=1, groups=3, width=5, silu=False, film=True),
            dict(N=1, H=1, W=2, groups=1, width=20_000, silu=True),
        ],
        entering=group_norm_entering,
    ),
    "layer_norm": Row(
        layer_norm,
        sizes(leading=st.lists(st.integers(1, 6), max_size=3), C=width, mean=st.sampled_from([0, 0, 30])),
        [
            dict(leading=[], C=1),
            dict(leading=[3], C=2),
            dict(leading=[2, 77], C=768),
            dict(leading=[1000], C=5),
            dict(leading=[40, 33], C=40, mean=30),
            dict(leading=[1], C=5000),
        ],
        entering=layer_norm_entering,
        chance=layer_norm_chance,
    ),
    "gelu": Row(
        gelu,
        sizes(shape=shapes, scale=st.sampled_from([1, 3, 30]), form=st.sampled_from(ops.gelu.FORMS)),
        [dict(shape=[100_003], scale=5, form=form) for form in ops.gelu.FORMS]
        + [dict(shape=[100], scale=1e4, form=form) for form in ops.gelu.FORMS],
        entering=gelu_entering,
    ),
    "geglu": Row(
        geglu,
        sizes(leading=st.lists(st.integers(1, 6), max_size=3), C=width),
        [dict(leading=[], C=1), dict(leading=[3, 77], C=1280), dict(leading=[10_000], C=3)],
    ),
    "silu": Row(
        silu,
        sizes(shape=shapes, scale=st.sampled_from([1, 3, 30])),
        [dict(shape=[1]), dict(shape=[100_003], scale=5), dict(shape=[100], scale=1e4)],
    ),
    "dropout": Row(
        dropout,
        sizes(
            N=size(4),
            shape=st.one_of(shapes, st.lists(size(300), max_size=1)),
            rate=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
            has_slot=st.booleans(),
        ),
        [
            dict(N=1, shape=[], rate=0.5),
            # around the values that 16 blocks decide, and those that one task does
            *(dict(N=2, shape=[M], rate=0.3, has_slot=M % 2 == 0) for M in (15, 16, 17, 127, 128, 129, 8192, 8200)),
            dict(N=3, shape=[28, 28, 32], rate=0.1),
        ],
        times=2,
    ),
    "attention": Row(
        attention,
        sizes(
            N=size(2),
            L=size(18),
            M=size(18),
            A=size(3),
            D=width,
            scale=st.sampled_from([1, 1, 10]),
            padded=st.booleans(),
            causal=st.booleans(),
        ),
        [
            dict(N=1, L=1, M=1, A=1, D=1),
            dict(N=2, L=1, M=1, A=2, D=5),
            dict(N=2, L=49, M=49, A=2, D=64),
            dict(N=1, L=7, M=100, A=1, D=40),
            dict(N=1, L=5, M=9, A=1, D=8, scale=1000),  # exponentials that would overflow
            dict(N=3, L=67, M=5, A=3, D=13),
            dict(N=1, L=2, M=4100, A=1, D=3),  # rows of which 4096 values wait in shared memory
            dict(N=1, L=4100, M=2, A=1, D=2),
            dict(N=1, L=3, M=4, A=2, D=600),  # heads of which 512 values are summed at once
            dict(N=3, L=5, M=77, A=2, D=40, padded=True),
            dict(N=2, L=77, M=77, A=2, D=64, causal=True),
            dict(N=3, L=130, M=130, A=1, D=24, padded=True, causal=True),
            dict(N=2, L=2, M=4200, A=1, D=3, padded=True),
        ],
        times=6,  # as linear
        times_bf16=3,  # of its own, the probabilities and their gradients are rounded too
        entering=attention_entering,
        chance=attention_chance,
    ),
    "upsample2x": Row(
        upsample2x,
        sizes(**images, C=width),
        [dict(N=1, H=1, W=1, C=1), dict(N=4, H=14, W=14, C=128), dict(N=3, H=7, W=9, C=61)],
    ),
    "concat": Row(
        concat,
        sizes(**images, C=width, B=width),
        [dict(N=1, H=1, W=1, C=1, B=1), dict(N=4, H=28, W=28, C=64, B=32), dict(N=3, H=7, W=9, C=61, B=3)],
        times=0,
    ),
    "class_embedding": Row(
        class_embedding,
        sizes(K=size(12), E=width, N=size(20), dtype=st.sampled_from([np.int32, np.int64])),
        [dict(K=1, E=1, N=1), dict(K=11, E=512, N=128, dtype=np.int32), dict(K=1001, E=37, N=9)],
    ),
    "timestep_embedding": Row(
        timestep_embedding,
        sizes(N=size(9), half=width),
        [dict(N=1, half=1), dict(N=256, half=64)],
        rivals=0,  # a step is exact: what moving it does is not what a kernel may do
    ),
    "mse_loss": Row(
        loss,
        sizes(shape=shapes, weighted=st.booleans()),
        [dict(shape=[1]), dict(shape=[64, 28, 28, 1]), dict(shape=[3, 10_001], weighted=False)],
    ),
    "l1_loss": Row(
        loss,
        sizes(shape=shapes, weighted=st.booleans()),
        [dict(shape=[1]), dict(shape=[64, 28, 28, 1]), dict(shape=[3, 10_001], weighted=False)],
    ),
    "gaussian_sample": Row(gaussian_sample, gaussians, [*some_gaussians, dict(shape=[3, 100_003], Z=1, scale=30)]),
    "gaussian_kl": Row(gaussian_kl, gaussians, [*some_gaussians, dict(shape=[3, 100_003], Z=1)]),
    "global_norm": Row(global_norm, sizes(P=size(300)), [dict(P=1), dict(P=1_000_003)]),
}
WITHOUT_A_ROW = ("philox", "draw_batch", "corrupt", "adamw")  # of numbers they draw, or in place: tests of their own
