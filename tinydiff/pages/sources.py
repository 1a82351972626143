"""The sources of every op: NumPy, C++ and CUDA, each with the files it leans on for its core."""

from __future__ import annotations

import re
from pathlib import Path

import tinydiff
from tinydiff.backends.launchers import sources
from tinydiff.ops import OPS

LANGUAGES = ("python", "cpp", "cuda")
# C++ files that do the work of ops beside their own, without what those include, as the site has few bytes to spare; CUDA
# files say so by including others.
LEANS_ON = {
    "linear": ("conv2d.cpp", "conv2d_gradient.cpp", "gemm.cpp"),
    "conv2d": ("conv2d_gradient.cpp", "gemm.cpp", "winograd.cpp"),
    "attention": ("gemm.cpp",),
    "dropout": ("philox.h",),
    "corrupt": ("philox.cpp",),
    "draw_batch": ("philox.cpp",),
    "gelu": ("gelu.h",),
    "geglu": ("gelu.h",),
    "mse_loss": ("loss.h",),
    "l1_loss": ("loss.h",),
    "gaussian_sample": ("gaussian.h",),
    "gaussian_kl": ("gaussian.h",),
}
INCLUDED = re.compile(r'^#include "(\w+\.cuh)"', re.MULTILINE)
NO_WORK = ("common.cuh", "ptx.cuh", "tensor_cores.cuh")  # of any one op: what all are written in


def files(op):
    """{language: paths from the repository's root}, the op's own first."""
    own = f"{op}.cu"
    return {
        "python": [f"tinydiff/ops/{op}.py"],
        "cpp": [f"csrc/cpu/{name}" for name in (f"{op}.cpp", *LEANS_ON.get(op, ()))],
        "cuda": [f"csrc/cuda/{name}" for name in (own, *_included(own))],
    }


def texts():
    """{path: text} of all of them, those alike beside one another, as gzip looks back no further than 32 kB."""
    paths = {path for op in OPS for of_language in files(op).values() for path in of_language}
    found = {path: _read(path) for path in sorted(paths)}
    return dict(sorted(found.items(), key=lambda item: (item[0].rpartition(".")[2], len(item[1]))))


def _read(path):
    *folders, name = path.split("/")
    folder = Path(tinydiff.__file__).parent / "ops" if folders[0] == "tinydiff" else sources(folders[1])
    return (folder / name).read_text(encoding="utf-8")


def _included(name):
    """What a CUDA file includes, and what those files do."""
    found = []
    for each in INCLUDED.findall(_read(f"csrc/cuda/{name}")):
        found += [each, *_included(each)] if each not in NO_WORK else []
    return list(dict.fromkeys(found))
