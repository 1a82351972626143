"""How each kernel of ``csrc/cuda`` is launched, and which of its versions.

``TABLE[op][verb][version]`` says how ``<op>_<verb>_<version>`` is launched: a function of the sizes that its op
passes, giving ``(grid, block, shared_bytes)``, or None where the version cannot do these sizes. Versions stand simplest
first; the last that can, within what every GPU from sm_80 on launches, is the default, and the first always can: its
shared memory has a limit whatever the sizes, and its blocks lie along x. In bfloat16, of the versions on tensor cores
that one is the default that should be fastest at these sizes. All versions of a verb take the same arguments.

Nothing here depends on the device: the order of every sum follows from the shapes alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

THREADS = 256
WARP = 32
FLOAT = 4  # bytes
PER_WARP = THREADS // WARP * FLOAT  # bytes of a float for each warp
SIDE, TILE_K = 16, 16  # as in gemm.cuh
STEP, STAGES = 32, 4  # as in tensor_cores.cuh
BF16 = 2  # bytes
ATTENTION_THREADS = 64
WAITING, HERE, PASSING, PASS_THREADS = 4096, 16, 32, 128  # as in attention_rows.cuh
COLUMNS, HEAD_THREADS = 64, 128  # as in attention_tiles.cuh
STRETCH = 4096  # values a block adds up where everything becomes one number
BLOCKS = 264  # two for each multiprocessor of a large GPU
SHARED_BYTES = 48 * 1024  # of a block, without asking for more
LARGE_SHARED_BYTES = 99 * 1024  # the most that every GPU from sm_80 on gives a block that asks
MOST_THREADS, GRID_X, GRID_YZ = 1024, 2**31 - 1, 65535  # of a block; blocks along x, along y and z


def ceil_div(a, b):
    return -(-a // b)


def per_thread(values=1, shared_bytes=0, blocks=None):
    """Threads enough for ``count`` values, so many a thread; at most so many ``blocks``, which then go round again."""

    def geometry(count, **_):
        enough = ceil_div(count, THREADS * values)
        return (enough if blocks is None else min(enough, blocks), 1, 1), (THREADS, 1, 1), shared_bytes

    return geometry


def per_vector(bytes, **_):
    """Threads enough for arrays of so many bytes, 16 a thread."""
    return per_thread(16)(bytes)


def one_block(**_):
    """One block, with a float for each warp."""
    return (1, 1, 1), (THREADS, 1, 1), PER_WARP


def stretches(parts, N=1):
    """One block a stretch (of each sample), with a float for each warp."""
    return (parts * N, 1, 1), (THREADS, 1, 1), PER_WARP


def column_sums(O, parts):
    return (ceil_div(O, WARP) * parts, 1, 1), (THREADS, 1, 1), FLOAT * THREADS


def parts_per_thread(rows, columns, parts):
    """Threads enough for the values of each part."""
    return (ceil_div(rows * columns, THREADS), parts, 1), (THREADS, 1, 1), 0


def values_per_thread(rows, columns):
    return per_thread()(rows * columns)


def tiles(size):
    """One block a tile of the product (of each part), ``size`` rows and columns; see gemm.cuh."""
    pitch = size + max(2, size // SIDE)

    def geometry(rows, columns, parts=1):
        grid = ceil_div(rows, size), ceil_div(columns, size), parts
        return grid, (SIDE * SIDE, 1, 1), 2 * TILE_K * pitch * FLOAT

    return geometry


class TensorCores(NamedTuple):
    """One block a tile of the product (of each part), in bfloat16 alone; see tensor_cores.cuh.

    ``speed`` is what a multiprocessor makes of such tiles beside the largest: an expectation, from how often each value
    in shared memory is used.
    """

    tile: tuple[int, int]
    threads: int
    speed: float

    def __call__(self, rows, columns, parts=1):
        grid = ceil_div(rows, self.tile[0]), ceil_div(columns, self.tile[1]), parts
        return grid, (self.threads, 1, 1), sum(self.tile) * STEP * BF16 * STAGES

    def cost(self, rows, columns, parts=1):
        """How long it takes, in an arbitrary unit: the blocks share the multiprocessors as well as they divide."""
        (*grid, parts), _, _ = self(rows, columns, parts)
        return ceil_div(grid[0] * grid[1] * parts, BLOCKS // 2) * self.tile[0] * self.tile[1] / self.speed


TENSOR_CORES = {
    "v4_tensor_cores": TensorCores((64, 64), 128, 0.6),
    "v5_tall_tiles": TensorCores((128, 64), 128, 0.8),
    "v6_square_tiles": TensorCores((128, 128), 256, 1.0),
}
# rows and columns of the largest tile of a product in each precision
LARGEST_TILE = {"fp32": 64, "bf16": max(max(version.tile) for version in TENSOR_CORES.values())}


def group_threads(values):
    """(block, bytes of a float for each warp) for groups of so many values: at least four a thread."""
    threads = min(THREADS, WARP * ceil_div(values, 4 * WARP))
    return (threads, 1, 1), padded(threads // WARP)


def one_reading(N, G, values, **_):
    """One block a group, which waits in shared memory; where that is too small, not at all."""
    block, per_warp = group_threads(values)
    shared_bytes = per_warp + padded(values)
    return ((N * G, 1, 1), block, shared_bytes) if shared_bytes <= SHARED_BYTES else None


def three_readings(N, G, values, **_):
    block, per_warp = group_threads(values)
    return (N * G, 1, 1), block, per_warp


def two_readings(N, G, values, **_):
    block, per_warp = group_threads(values)
    return (N * G, 1, 1), block, 2 * padded(block[0]) + per_warp


def bundles(N, G, values, width, itemsize, arrays, floats):
    """One block a bundle of groups: whole pieces of 16 bytes, and if it can be 64 bytes, of every pixel.

    So many ``arrays`` of it wait in shared memory, beside ``floats`` for each channel. None where channels are not whole
    pieces, or too many to wait.
    """
    # of a pixel; 32 groups of one bfloat16 are 64 bytes, and 8 at most make whole pieces
    bytes_of = {groups: groups * width * itemsize for groups in range(1, min(G, 32) + 1) if G % groups == 0}
    whole = [groups for groups, size in bytes_of.items() if size % 16 == 0]
    if not whole:
        return None
    pixels = values // width
    for groups in reversed([groups for groups in whole if bytes_of[groups] <= 64] or whole[:1]):
        span, lanes = groups * width, bytes_of[groups] // 16
        threads = max(min(THREADS, WARP * ceil_div(pixels * lanes, 2 * WARP)), WARP * ceil_div(lanes, WARP))
        shared_bytes = arrays * pixels * bytes_of[groups] + padded(threads // lanes * (span + 1))
        shared_bytes += floats * padded(span) + 2 * padded(groups)
        if threads <= MOST_THREADS and shared_bytes <= LARGE_SHARED_BYTES:
            return (G // groups, N, 1), (threads, 1, 1), shared_bytes
    return None


def bundles_forward(**sizes):
    return bundles(**sizes, arrays=1, floats=1)


def bundles_backward(**sizes):
    return bundles(**sizes, arrays=2, floats=2)


def attention_rows(N, A, L, M, **_):
    """One block a query, with a float for each key that waits and each warp."""
    shared_bytes = padded(min(M, WAITING)) + padded(ATTENTION_THREADS // WARP)
    return (L * A * N, 1, 1), (ATTENTION_THREADS, 1, 1), shared_bytes


def attention_columns(N, A, L, M, **_):
    """One block a key, with two floats for each query that waits."""
    return (M * A * N, 1, 1), (ATTENTION_THREADS, 1, 1), 2 * padded(min(L, WAITING))


def one_pass(tokens, *, here, padded_tiles, tiles=0, matrices, per_token=0):
    """One block HERE of the queries ("L") or keys ("M"), which others pass; see attention.cu for what it holds.

    That is so many arrays of tokens that stay, of tiles that pass with and without padding, of (HERE, PASSING)
    matrices, and of floats for each token. None where a head is too wide for it.
    """

    def geometry(N, A, L, M, D):
        arrays = here * padded(HERE * D) + padded_tiles * padded(PASSING * (D + 1)) + tiles * padded(PASSING * D)
        shared_bytes = arrays + matrices * padded(HERE * (PASSING + 1)) + per_token * padded(HERE)
        grid = ceil_div({"L": L, "M": M}[tokens], HERE) * A * N, 1, 1
        return (grid, (PASS_THREADS, 1, 1), shared_bytes) if shared_bytes <= SHARED_BYTES else None

    return geometry


class AttentionOnTensorCores(NamedTuple):
    """One block 64 of the queries ("L") or keys ("M"), which others pass in tiles of 64; in bfloat16 alone. So many
    ``tiles`` of heads filled up with zeros wait in shared memory. None where a head is too wide for it."""

    tokens: str
    tiles: int

    def __call__(self, N, A, L, M, D):
        if D > 64:
            return None
        width = 32 if D <= 32 else 64
        grid = ceil_div({"L": L, "M": M}[self.tokens], COLUMNS) * A * N, 1, 1
        return grid, (HEAD_THREADS, 1, 1), self.tiles * COLUMNS * width * BF16


def padded(floats):
    """Bytes that an array of floats takes of shared memory."""
    return ceil_div(FLOAT * floats, 16) * 16


LINEAR_TILES = {"v2_shared_tile": tiles(16), "v3_register_tile": tiles(64)}
CONV2D_TILES = {"v2_shared_tile": tiles(16), "v3_implicit_gemm": tiles(64)}
LOSS = {
    "sums": {"v1_one_pass": stretches, "v2_vectors": stretches},
    "forward": {"v1_two_stages": one_block},
    "backward": {"v1_naive": per_thread()},
}

# {op: {verb: {version: geometry}}}
TABLE = {
    "linear": {
        "forward": {"v1_naive": values_per_thread, **LINEAR_TILES, **TENSOR_CORES},
        "input_gradient": {"v1_naive": values_per_thread, **LINEAR_TILES, **TENSOR_CORES},
        "weight_gradient": {"v1_naive": parts_per_thread, **LINEAR_TILES, **TENSOR_CORES},
        "column_sums": {"v1_naive": column_sums},
        "merge": {"v1_naive": per_thread()},
    },
    "conv2d": {
        "forward": {"v1_naive": values_per_thread, **CONV2D_TILES, **TENSOR_CORES},
        "input_gradient": {"v1_naive": values_per_thread, **CONV2D_TILES, **TENSOR_CORES},
        "weight_gradient": {"v1_naive": parts_per_thread, **CONV2D_TILES, **TENSOR_CORES},
        "column_sums": {"v1_naive": column_sums},
        "merge": {"v1_naive": per_thread()},
    },
    "group_norm": {
        "forward": {"v1_three_readings": three_readings, "v2_one_reading": one_reading, "v3_vectors": bundles_forward},
        "backward": {"v1_two_readings": two_readings, "v2_vectors": bundles_backward},
        "parameter_gradients": {"v1_naive": per_thread()},
    },
    "layer_norm": {
        "forward": {"v1_warp": per_thread()},
        "backward": {"v1_warp": per_thread()},
        "parameter_gradients": {"v1_naive": parts_per_thread},
        "merge": {"v1_naive": per_thread()},
    },
    "silu": {
        "forward": {"v1_naive": per_thread(), "v2_vectors": per_vector},
        "backward": {"v1_naive": per_thread(), "v2_vectors": per_vector},
    },
    "gelu": {
        "forward": {"v1_naive": per_thread(), "v2_vectors": per_vector},
        "backward": {"v1_naive": per_thread(), "v2_vectors": per_vector},
    },
    "geglu": {"forward": {"v1_naive": per_thread()}, "backward": {"v1_naive": per_thread()}},
    "dropout": {"forward": {"v1_eight": per_thread()}},
    "attention": {
        "forward": {
            "v1_naive": attention_rows,
            "v2_one_pass": one_pass("L", here=2, padded_tiles=1, tiles=1, matrices=1, per_token=3),
            "v3_tensor_cores": AttentionOnTensorCores("L", tiles=3),
        },
        "row_dot": {"v1_naive": per_thread()},
        "query_gradient": {
            "v1_naive": attention_rows,
            "v2_one_pass": one_pass("L", here=3, padded_tiles=2, matrices=1),
            "v3_tensor_cores": AttentionOnTensorCores("L", tiles=4),
        },
        "key_gradient": {
            "v1_naive": attention_columns,
            "v2_one_pass": one_pass("M", here=4, padded_tiles=2, matrices=2),
            "v3_tensor_cores": AttentionOnTensorCores("M", tiles=4),
        },
    },
    "upsample2x": {"forward": {"v1_naive": per_thread()}, "backward": {"v1_naive": per_thread()}},
    "concat": {"forward": {"v1_naive": per_thread()}, "backward": {"v1_naive": per_thread()}},
    "class_embedding": {"forward": {"v1_naive": per_thread()}, "backward": {"v1_naive": per_thread()}},
    "timestep_embedding": {"forward": {"v1_naive": per_thread()}},
    "mse_loss": LOSS,
    "l1_loss": LOSS,
    "gaussian_sample": {"forward": {"v1_naive": per_thread()}, "backward": {"v1_naive": per_thread()}},
    "gaussian_kl": {
        "sums": {"v1_one_pass": stretches},
        "forward": {"v1_two_stages": one_block},
        "backward": {"v1_naive": per_thread()},
    },
    "philox": {kind: {"v1_naive": per_thread()} for kind in ("bits", "uniform", "normal")},
    "draw_batch": {"forward": {"v1_naive": per_thread()}},
    "corrupt": {verb: {"v1_four": per_thread()} for verb in ("bytes", "floats")},
    "global_norm": {
        "squares": {"v1_two_stages": stretches, "v2_vectors": stretches},
        "forward": {"v1_two_stages": one_block},
    },
    "adamw": {
        "forward": {
            "v1_naive": per_thread(shared_bytes=16),
            "v2_vectors": per_thread(4, shared_bytes=16, blocks=2 * BLOCKS),  # as many as run at once
        }
    },
}

_chosen = {}


def versions(op, precision="bf16"):
    """The versions of an op's kernels by number, simplest first: "v1", "v2", ..."""
    return sorted({number(version) for verb in TABLE[op] for version in latest_first(op, verb, precision)})


def number(version):
    """v2_shared_tile -> v2."""
    return version.partition("_")[0]


def use_version(op, version=None):
    """Run this version of an op ("v1", "v2", ...), where a verb has it; elsewhere, and with None, the default.

    Raises ``ValueError`` for a version that no kernel of the op has.
    """
    if version is not None and version not in versions(op):
        raise ValueError(f"the version of {op} must be one of {', '.join(versions(op))}, got {version!r}")
    _chosen[op] = version


def latest_first(op, verb, precision):
    """The versions there are in this precision."""
    by_version = TABLE[op][verb]
    bf16_alone = TensorCores, AttentionOnTensorCores
    return [v for v in reversed(by_version) if precision == "bf16" or not isinstance(by_version[v], bf16_alone)]


def can_launch(grid, block, shared_bytes):
    """Whether every GPU from sm_80 on launches this."""
    blocks_fit = 1 <= min(grid) and grid[0] <= GRID_X and max(grid[1:]) <= GRID_YZ
    return blocks_fit and math.prod(block) <= MOST_THREADS and shared_bytes <= LARGE_SHARED_BYTES


def kernel(op, verb, precision="fp32", **sizes):
    """(name, grid, block, shared_bytes) of the version in use. Raises ``ValueError`` for sizes beyond all of them."""
    by_version = TABLE[op][verb]

    def preference(version):
        geometry = by_version[version]
        on_tensor_cores = isinstance(geometry, TensorCores)
        return number(version) != _chosen.get(op), not on_tensor_cores, geometry.cost(**sizes) if on_tensor_cores else 0

    for version in sorted(latest_first(op, verb, precision), key=preference):
        geometry = by_version[version](**sizes)
        if geometry is not None and can_launch(*geometry):
            return f"{op}_{verb}_{version}", *geometry
    given = ", ".join(f"{name} = {size}" for name, size in sizes.items())
    raise ValueError(f"{op}: the sizes must be such that a GPU has blocks enough, {GRID_X} at most, got {given}")


def split(rows, tiles=1, least=256):
    """(parts, stretch) that cut a sum over rows: blocks enough to keep a GPU busy, yet no part shorter than least."""
    parts = min(ceil_div(rows, least), max(1, BLOCKS // tiles))
    stretch = ceil_div(ceil_div(rows, parts), TILE_K) * TILE_K
    return ceil_div(rows, stretch), stretch
