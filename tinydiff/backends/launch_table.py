"""How each kernel of ``csrc/cuda`` is launched, and which of its versions.

``TABLE[op][verb][version]`` says how ``<op>_<verb>_<version>`` is launched: a function of the sizes that its op
passes, giving ``(grid, block, shared_bytes)``, or None where the version cannot do these sizes. Versions stand simplest
first; the last that can is the default, and the first always can. All versions of a verb take the same arguments.

Nothing here depends on the device: the order of every sum follows from the shapes alone.
"""

from __future__ import annotations

THREADS = 256
WARP = 32
FLOAT = 4  # bytes
PER_WARP = THREADS // WARP * FLOAT  # bytes of a float for each warp
TILE, TILE_K = 64, 16  # as in gemm.cuh
ATTENTION_THREADS = 64
HERE, PASSING, PASS_THREADS = 16, 32, 128  # as in attention.cu
STRETCH = 4096  # values a block adds up where everything becomes one number
BLOCKS = 264  # two for each multiprocessor of a large GPU
SHARED_BYTES = 48 * 1024  # of a block, without asking for more


def ceil_div(a, b):
    return -(-a // b)


def per_thread(values=1, shared_bytes=0, blocks=None):
    """Threads enough for ``count`` values, so many a thread; at most so many ``blocks``, which then go round again."""

    def geometry(count):
        enough = ceil_div(count, THREADS * values)
        return (enough if blocks is None else min(enough, blocks), 1, 1), (THREADS, 1, 1), shared_bytes

    return geometry


def one_block(**_):
    """One block, with a float for each warp."""
    return (1, 1, 1), (THREADS, 1, 1), PER_WARP


def stretches(parts, N=1):
    """One block a stretch (of each sample), with a float for each warp."""
    return (parts, N, 1), (THREADS, 1, 1), PER_WARP


def column_sums(O, parts):
    return (ceil_div(O, WARP), parts, 1), (THREADS, 1, 1), FLOAT * THREADS


def parts_per_thread(rows, columns, parts):
    """Threads enough for the values of each part."""
    return (ceil_div(rows * columns, THREADS), parts, 1), (THREADS, 1, 1), 0


def values_per_thread(rows, columns):
    return per_thread()(rows * columns)


def tiles(rows, columns, parts=1):
    """One block a tile of the product (of each part); see gemm.cuh."""
    return (ceil_div(rows, TILE), ceil_div(columns, TILE), parts), (THREADS, 1, 1), 2 * TILE_K * (TILE + 4) * FLOAT


def group_threads(values):
    """(block, bytes of a float for each warp) for groups of so many values: at least four a thread."""
    threads = min(THREADS, WARP * ceil_div(values, 4 * WARP))
    return (threads, 1, 1), padded(threads // WARP)


def one_reading(N, G, values):
    """One block a group, which waits in shared memory; where that is too small, not at all."""
    block, per_warp = group_threads(values)
    shared_bytes = per_warp + padded(values)
    return ((N * G, 1, 1), block, shared_bytes) if shared_bytes <= SHARED_BYTES else None


def three_readings(N, G, values):
    block, per_warp = group_threads(values)
    return (N * G, 1, 1), block, per_warp


def two_readings(N, G, values, width):
    block, per_warp = group_threads(values)
    return (N * G, 1, 1), block, 2 * padded(block[0]) + 2 * padded(width) + per_warp


def attention_rows(N, A, L, M, **_):
    """One block a query, with a float for each key and each warp."""
    return (L, A, N), (ATTENTION_THREADS, 1, 1), padded(M) + padded(ATTENTION_THREADS // WARP)


def attention_columns(N, A, L, M, **_):
    """One block a key, with two floats for each query."""
    return (M, A, N), (ATTENTION_THREADS, 1, 1), 2 * padded(L)


def one_pass(tokens, *, here, padded_tiles, tiles=0, matrices, per_token=0):
    """One block HERE of the queries ("L") or keys ("M"), which others pass; see attention.cu for what it holds.

    That is so many arrays of tokens that stay, of tiles that pass with and without padding, of (HERE, PASSING)
    matrices, and of floats for each token. None where a head is too wide for it.
    """

    def geometry(N, A, L, M, D):
        arrays = here * padded(HERE * D) + padded_tiles * padded(PASSING * (D + 1)) + tiles * padded(PASSING * D)
        shared_bytes = arrays + matrices * padded(HERE * (PASSING + 1)) + per_token * padded(HERE)
        grid = ceil_div({"L": L, "M": M}[tokens], HERE), A, N
        return (grid, (PASS_THREADS, 1, 1), shared_bytes) if shared_bytes <= SHARED_BYTES else None

    return geometry


def padded(floats):
    """Bytes that an array of floats takes of shared memory."""
    return ceil_div(FLOAT * floats, 16) * 16


# {op: {verb: {version: geometry}}}
TABLE = {
    "linear": {
        "forward": {"v1_naive": values_per_thread, "v2_tile": tiles},
        "input_gradient": {"v1_naive": values_per_thread, "v2_tile": tiles},
        "weight_gradient": {"v1_naive": parts_per_thread, "v2_tile": tiles},
        "column_sums": {"v1_naive": column_sums},
        "merge": {"v1_naive": per_thread()},
    },
    "conv2d": {
        "forward": {"v1_naive": values_per_thread, "v2_implicit_gemm": tiles},
        "input_gradient": {"v1_naive": values_per_thread, "v2_implicit_gemm": tiles},
        "weight_gradient": {"v1_naive": parts_per_thread, "v2_implicit_gemm": tiles},
        "column_sums": {"v1_naive": column_sums},
        "merge": {"v1_naive": per_thread()},
    },
    "group_norm": {
        "forward": {"v1_three_readings": three_readings, "v2_one_reading": one_reading},
        "backward": {"v1_two_readings": two_readings},
        "parameter_gradients": {"v1_naive": per_thread()},
    },
    "silu": {
        "forward": {"v1_naive": per_thread(), "v2_vectors": per_thread(4)},
        "backward": {"v1_naive": per_thread(), "v2_vectors": per_thread(4)},
    },
    "attention": {
        "forward": {
            "v1_naive": attention_rows,
            "v2_one_pass": one_pass("L", here=2, padded_tiles=1, tiles=1, matrices=1, per_token=3),
        },
        "row_dot": {"v1_naive": per_thread()},
        "query_gradient": {
            "v1_naive": attention_rows,
            "v2_one_pass": one_pass("L", here=3, padded_tiles=2, matrices=1),
        },
        "key_gradient": {
            "v1_naive": attention_columns,
            "v2_one_pass": one_pass("M", here=4, padded_tiles=2, matrices=2),
        },
    },
    "upsample2x": {"forward": {"v1_naive": per_thread()}, "backward": {"v1_naive": per_thread()}},
    "concat": {"forward": {"v1_naive": per_thread()}, "backward": {"v1_naive": per_thread()}},
    "class_embedding": {"forward": {"v1_naive": per_thread()}, "backward": {"v1_naive": per_thread()}},
    "timestep_embedding": {"forward": {"v1_naive": per_thread()}},
    "mse_loss": {
        "squares": {"v1_one_pass": stretches, "v2_vectors": stretches},
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


def versions(op):
    """The versions of an op's kernels by number, simplest first: "v1", "v2", ..."""
    return sorted({number(version) for by_version in TABLE[op].values() for version in by_version})


def number(version):
    """v2_tile -> v2."""
    return version.partition("_")[0]


def use_version(op, version=None):
    """Run this version of an op ("v1", "v2", ...), where a verb has it; elsewhere, and with None, the default.

    Raises ``ValueError`` for a version that no kernel of the op has.
    """
    if version is not None and version not in versions(op):
        raise ValueError(f"the version of {op} must be one of {', '.join(versions(op))}, got {version!r}")
    _chosen[op] = version


def kernel(op, verb, **sizes):
    """(name, grid, block, shared_bytes) of the version in use."""
    by_version = TABLE[op][verb]
    default_first = list(reversed(by_version))
    for version in sorted(default_first, key=lambda version: number(version) != _chosen.get(op)):
        geometry = by_version[version](**sizes)
        if geometry is not None:
            return f"{op}_{verb}_{version}", *geometry
    raise AssertionError(f"no version of {op} {verb} can do {sizes}")


def split(rows, tiles=1, least=256):
    """(parts, stretch) that cut a sum over rows: blocks enough to keep a GPU busy, yet no part shorter than least."""
    parts = min(ceil_div(rows, least), max(1, BLOCKS // tiles))
    stretch = ceil_div(ceil_div(rows, parts), TILE_K) * TILE_K
    return ceil_div(rows, stretch), stretch
