"""A .cu file as C++ for the emulator: the file as it is, between the words it needs and a list of its kernels."""

import runpy
from pathlib import Path

kernels = runpy.run_path(str(Path(__file__).parents[2] / "tinydiff" / "backends" / "kernel_names.py"))["kernels"]


def wrap(path):
    """The text of a C++ file that compiles the .cu file and registers its kernels."""
    path = Path(path).resolve()
    lines = ['#include "cuda.h"', '#include "kernel_table.h"', f'#include "{path.as_posix()}"', "namespace {"]
    for name in kernels(path.read_text()):
        lines.append(f'[[maybe_unused]] const bool has_{name} = tinydiff::emulator::add("{name}", {name});')
    return "\n".join([*lines, "}  // namespace", ""])
