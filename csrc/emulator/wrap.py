"""A .cu file as C++ for the emulator: the file as it is, between the words it needs and a list of its kernels.

In bfloat16 the file stands in a namespace of its own, so that one program can hold it in both precisions, and its
kernels are registered as ``<name>_bf16``.
"""

import runpy
from pathlib import Path

NAMES = runpy.run_path(str(Path(__file__).parents[2] / "tinydiff" / "backends" / "kernel_names.py"))
PRECISIONS, kernels = NAMES["PRECISIONS"], NAMES["kernels"]


def wrap(path, precision="fp32"):
    """The text of a C++ file that compiles the .cu file and registers its kernels."""
    path = Path(path).resolve()
    names = kernels(path.read_text(), precision)
    before, after, suffix = [], [], ""
    if precision == "bf16":
        # extern "C" knows no namespace, so there the kernels get other names
        before = ["#define TINYDIFF_BF16", *(f"#define {name} {name}_bf16" for name in names), "namespace bf16 {"]
        after, suffix = ["}  // namespace bf16", "using namespace bf16;"], "_bf16"
    lines = ['#include "cuda.h"', '#include "kernel_table.h"', *before, f'#include "{path.as_posix()}"', *after]
    lines.append("namespace {")
    for name in names:
        lines.append(f'[[maybe_unused]] const bool has_{name} = tinydiff::emulator::add("{name}{suffix}", {name});')
    return "\n".join([*lines, "}  // namespace", ""])
