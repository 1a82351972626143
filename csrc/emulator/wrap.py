"""A .cu file as C++ for the emulator: the file as it is, between the words it needs and a list of its kernels.

In bfloat16 the file stands in a namespace of its own, so that one program can hold it in both precisions, and its
kernels are registered as ``<name>_bf16``.
"""

import re
from pathlib import Path

PRECISIONS = ("fp32", "bf16")
KERNEL = re.compile(r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(')
BF16_ALONE = re.compile(r"^#ifdef TINYDIFF_BF16\n.*?^#(?:else|endif)", re.MULTILINE | re.DOTALL)


def kernels(path, precision="fp32"):
    """The names of the kernels that a .cu file has in this precision, in its order."""
    text = Path(path).read_text()
    return KERNEL.findall(text if precision == "bf16" else BF16_ALONE.sub("", text))


def wrap(path, precision="fp32"):
    """The text of a C++ file that compiles the .cu file and registers its kernels."""
    path = Path(path).resolve()
    names = kernels(path, precision)
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
