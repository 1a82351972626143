"""A .cu file as C++ for the emulator: the file as it is, between the words it needs and a list of its kernels."""

import re
from pathlib import Path

KERNEL = re.compile(r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(')


def kernels(path):
    """The names of the kernels in a .cu file, in its order."""
    return KERNEL.findall(Path(path).read_text())


def wrap(path):
    """The text of a C++ file that compiles the .cu file and registers its kernels."""
    path = Path(path).resolve()
    lines = ['#include "cuda.h"', '#include "kernel_table.h"', f'#include "{path.as_posix()}"', "namespace {"]
    for name in kernels(path):
        lines.append(f'[[maybe_unused]] const bool has_{name} = tinydiff::emulator::add("{name}", {name});')
    return "\n".join([*lines, "}  // namespace", ""])
