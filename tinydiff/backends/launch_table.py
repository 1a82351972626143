"""How each kernel of ``csrc/cuda`` is launched, and which of its versions.

``TABLE[op][verb][version]`` says how ``<op>_<verb>_<version>`` is launched: a function of the sizes that its op
passes, giving ``(grid, block, shared_bytes)``. Versions stand simplest first; the last is the default. All versions
of a verb take the same arguments.
"""

from __future__ import annotations

THREADS = 256
WARP = 32
FLOAT = 4  # bytes


def ceil_div(a, b):
    return -(-a // b)


def per_thread(values=1):
    """Threads enough for ``count`` values, so many a thread."""

    def geometry(count):
        return (ceil_div(count, THREADS * values), 1, 1), (THREADS, 1, 1), 0

    return geometry


TABLE = {
    "silu": {
        "forward": {"v1_naive": per_thread(), "v2_vectors": per_thread(4)},
        "backward": {"v1_naive": per_thread(), "v2_vectors": per_thread(4)},
    },
}

_chosen = {}


def versions(op):
    """All versions of an op's kernels, each once, simplest first."""
    return sorted({version for by_version in TABLE[op].values() for version in by_version})


def use_version(op, version=None):
    """Run this version of an op, where a verb has it (elsewhere, and with None, the default).

    Raises ``ValueError`` for a version that no kernel of the op has.
    """
    if version is not None and version not in versions(op):
        raise ValueError(f"the version of {op} must be one of {', '.join(versions(op))}, got {version!r}")
    _chosen[op] = version


def kernel(op, verb, **sizes):
    """(name, grid, block, shared_bytes) of the version in use."""
    by_version = TABLE[op][verb]
    version = _chosen.get(op)
    if version not in by_version:
        version = list(by_version)[-1]
    return (f"{op}_{verb}_{version}", *by_version[version](**sizes))
