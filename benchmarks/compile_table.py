"""What every CUDA kernel takes of a GPU, without one: registers, shared memory and spills as the compiler counts them.

    python benchmarks/compile_table.py [--arch sm_80 sm_90a] [--compiler nvcc|nvrtc]

Compiles csrc/cuda with nvcc, or with the NVRTC that CuPy brings, prints a table, and fails if a kernel does not compile
or the default version of one spills registers.
"""

import argparse
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tinydiff.backends import kernel_names, launch_table, launchers

ARCHITECTURES = ("sm_80", "sm_90a")


class Usage(NamedTuple):
    kernel: str
    precision: str
    arch: str
    registers: int
    shared_bytes: int  # fixed ones; what a launch adds is in the launch table
    stack_bytes: int
    spilled_bytes: int


def compilers():
    """The compilers that are here, in the order of preference."""
    found = ["nvcc"] if shutil.which("nvcc") else []
    try:
        from cupy_backends.cuda.libs import nvrtc

        nvrtc.getVersion()
        found.append("nvrtc")
    except (ImportError, RuntimeError):
        pass
    return found


def compile_with_nvcc(path, arch, precision="fp32"):
    """What ptxas says of a .cu file."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "kernels.cubin"
        options = [f"-arch={arch}", "-Xptxas", "-v", *launchers.compile_options(precision)]
        command = ["nvcc", "-cubin", *options, "-o", target, path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{path.name} does not compile for {arch}:\n{done.stderr}")
    return done.stderr


def compile_with_nvrtc(path, arch, precision="fp32"):
    """What ptxas says of a .cu file."""
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(path.read_text(), path.name, (), ())
    options = (*launchers.compile_options(precision), f"--gpu-architecture={arch}", "--ptxas-options=-v")
    try:
        nvrtc.compileProgram(program, options)
    except nvrtc.NVRTCError:
        raise SystemExit(f"{path.name} does not compile for {arch}:\n{nvrtc.getProgramLog(program)}") from None
    return nvrtc.getProgramLog(program)


COMPILE = {"nvcc": compile_with_nvcc, "nvrtc": compile_with_nvrtc}
ENTRY = re.compile(
    r"Compiling entry function '(?P<kernel>\w+)' for .*\n"
    r"(?:.*Function properties.*\n)?"
    r".*?(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads\n"
    r".*Used (?P<registers>\d+) registers(?P<rest>.*)"
)


def usage(said, arch, precision="fp32"):
    """Every kernel of what ptxas said."""
    for found in ENTRY.finditer(said):
        shared = re.search(r"(\d+) bytes smem", found["rest"])
        spilled = int(found["stores"]) + int(found["loads"])
        counts = int(found["registers"]), int(shared[1]) if shared else 0, int(found["stack"]), spilled
        yield Usage(found["kernel"], precision, arch, *counts)


def table(compiler, architectures=ARCHITECTURES):
    """A ``Usage`` for every kernel, precision and architecture."""
    paths = sorted(launchers.sources().glob("*.cu"))
    jobs = list(itertools.product(paths, architectures, kernel_names.PRECISIONS))
    with ThreadPoolExecutor() as pool:
        said = pool.map(lambda job: COMPILE[compiler](*job), jobs)
    return sorted(each for (_, *job), text in zip(jobs, said) for each in usage(text, *job))


def every_kernel(architectures=ARCHITECTURES):
    """(kernel, precision, architecture) of everything that must compile."""
    return {
        (kernel, precision, arch)
        for precision in kernel_names.PRECISIONS
        for kernel in launchers.kernel_files(precision)
        for arch in architectures
    }


def defaults():
    """The kernels that run if nobody chooses, at some sizes in some precision."""
    names = set()
    for op, verbs in launch_table.TABLE.items():
        for verb, versions in verbs.items():
            latest = {launch_table.latest_first(op, verb, precision)[0] for precision in kernel_names.PRECISIONS}
            latest |= versions.keys() & launch_table.TENSOR_CORES.keys()
            names |= {f"{op}_{verb}_{version}" for version in latest}
    return names


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", nargs="+", default=ARCHITECTURES)
    parser.add_argument("--compiler", choices=COMPILE, default=None)
    arguments = parser.parse_args()
    found = compilers()
    compiler = arguments.compiler or (found[0] if found else None)
    if compiler not in found:
        raise SystemExit(f"{compiler or 'nvcc or NVRTC'} is not here: install the CUDA toolkit, or tinydiff[cuda]")
    rows = table(compiler, arguments.arch)
    print("| kernel | precision | architecture | registers | shared bytes | stack bytes | spilled bytes |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    missing = every_kernel(arguments.arch) - {row[:3] for row in rows}
    spilling = [row.kernel for row in rows if row.spilled_bytes and row.kernel in defaults()]
    if missing or spilling:
        sys.exit(f"not compiled: {sorted(missing)}; default versions that spill: {spilling}")


if __name__ == "__main__":
    main()
