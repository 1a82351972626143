"""Builds csrc/cpu: the kernels once for each instruction set, the rest once; and csrc/emulator with csrc/cuda in it.

csrc/cuda also goes into the package as text, to be compiled for the GPU where there is one; csrc/cpu too, to be read on
a page of the site. Without a working C++
compiler the package installs all the same, without the cpu and emulator backends; ``tinydiff info`` then says how to
get them. CC, CXX, CXXFLAGS and LDFLAGS are obeyed as usual; CXXFLAGS come last, so that they win.
"""

import itertools
import os
import platform
import runpy
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError

SOURCES = Path("csrc/cpu")
EMULATOR, CUDA = Path("csrc/emulator"), Path("csrc/cuda")
KERNEL_NAMES = Path("tinydiff/backends/kernel_names.py")  # which the emulator finds kernels by
ONCE = ("bindings.cpp", "bindings_program.cpp", "bindings_training.cpp", "bindings_transformer.cpp")
ONCE += ("memory.cpp", "parallel.cpp", "program.cpp")
FLAGS = ["-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden", "-Wno-psabi"]
FLAGS += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]  # GCC says so of its own intrinsics
EMULATOR_FLAGS = ["-std=c++17", "-O2", "-fno-math-errno", "-fvisibility=hidden", f"-I{EMULATOR}", f"-I{CUDA}"]
X86, ARM = ("x86_64", "amd64"), ("aarch64", "arm64")


class InstructionSet(NamedTuple):
    """Kernels are compiled for each that the machine's kind may have."""

    width: int  # floats a vector
    flags: list  # of the compiler
    machines: tuple = X86  # of which some processors have it; none named: all have
    program: str = ""  # of instructions that compilers in use lack: without them the set is left out


AVX512 = ["-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"]
AVX512_BF16 = [*AVX512, "-mavx512bf16", "-mavx512vnni"]
INSTRUCTION_SETS = {
    "baseline": InstructionSet(4, [], ()),  # SSE2 on x86-64 and NEON on 64-bit Arm
    "avx2": InstructionSet(8, ["-mavx2", "-mfma"]),
    "avx512": InstructionSet(16, AVX512),
    "avx512_bf16": InstructionSet(
        16,
        AVX512_BF16,
        program="#include <immintrin.h>\n__m512 f(__m512 a, __m512bh b) { return _mm512_dpbf16_ps(a, b, b); }\n",
    ),
    "amx": InstructionSet(  # tiles; tested on a stand-in (csrc/cpu/tiles.cpp), never run on a machine that has them
        16,
        [*AVX512_BF16, "-mamx-tile", "-mamx-bf16"],
        program="#include <immintrin.h>\nvoid f() { _tile_dpbf16ps(0, 1, 2); }\n",
    ),
    "neon_bf16": InstructionSet(  # tested under QEMU
        4,
        ["-march=armv8.2-a+bf16"],
        ARM,
        program="#include <arm_neon.h>\nfloat32x4_t f(float32x4_t a, bfloat16x8_t b) { return vbfdotq_f32(a, b, b); }\n",
    ),
}


class BuildKernels(build_ext):
    """Compile in parallel, then link each extension into one module."""

    def build_extension(self, ext):
        jobs = self.emulator_jobs() if ext.name.endswith("_emulator") else self.cpu_jobs()

        def compile_one(job):
            name, flags, source = job
            return self.compiler.compile(
                [source],
                output_dir=str(Path(self.build_temp) / name),
                include_dirs=ext.include_dirs,
                extra_postargs=[*flags, *shlex.split(os.environ.get("CXXFLAGS", ""))],
            )

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = [path for paths in pool.map(compile_one, jobs) for path in paths]
        target = self.get_ext_fullpath(ext.name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        self.compiler.link_shared_object(
            objects, target, target_lang="c++", extra_postargs=["-pthread"], build_temp=self.build_temp
        )

    def cpu_jobs(self):
        """(name, flags, source): each kernel file with the flags of each instruction set, the others once, told which
        sets there are."""
        machine = platform.machine().lower()
        sets = {name: each for name, each in INSTRUCTION_SETS.items() if not each.machines or machine in each.machines}
        sets = {name: each for name, each in sets.items() if self.compiler_has(name, each)}
        kernels = [str(path) for path in sorted(SOURCES.glob("*.cpp")) if path.name not in ONCE]
        work = [("once", [f"-DTINYDIFF_WITH_{name.upper()}" for name in sets], [str(SOURCES / name) for name in ONCE])]
        for name, each in sets.items():
            work.append((name, [f"-DTINYDIFF_ISA={name}", f"-DTINYDIFF_W={each.width}", *each.flags], kernels))
        return [(name, [*FLAGS, *flags], source) for name, flags, sources in work for source in sources]

    def compiler_has(self, name, instruction_set):
        """Whether it makes the set's program, if there is one."""
        if not instruction_set.program:
            return True
        folder = Path(self.build_temp) / "has"
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / f"{name}.cpp"
        source.write_text(instruction_set.program)
        try:
            self.compiler.compile(
                [str(source)], output_dir=str(folder), extra_postargs=[*FLAGS, *instruction_set.flags]
            )
        except CompileError:
            print(f"the compiler lacks the instructions of {name}: the kernels are built without that set")
            return False
        return True

    def emulator_jobs(self):
        """(name, flags, source): the emulator, and in each precision each .cu file inside a C++ file that is written
        here."""
        wrapping = runpy.run_path(str(EMULATOR / "wrap.py"))
        written = Path(self.build_temp) / "wrapped"
        written.mkdir(parents=True, exist_ok=True)
        sources = sorted(EMULATOR.glob("*.cpp"))
        for path, precision in itertools.product(sorted(CUDA.glob("*.cu")), wrapping["PRECISIONS"]):
            source = written / f"{path.stem}_{precision}.cpp"
            source.write_text(wrapping["wrap"](path, precision))
            sources.append(source)
        return [("emulator", EMULATOR_FLAGS, str(source)) for source in sources]


class CopySources(build_py):
    """The package's Python and, in tinydiff/csrc_cuda and tinydiff/csrc_cpu, the sources of the kernels."""

    def run(self):
        super().run()
        if not self.editable_mode:  # there they are found in the checkout
            for sources in (CUDA, SOURCES):
                folder = Path(self.build_lib) / "tinydiff" / f"csrc_{sources.name}"
                folder.mkdir(parents=True, exist_ok=True)
                for path in sources.iterdir():
                    self.copy_file(str(path), str(folder / path.name))


def listed(*paths):
    """Every source is listed, headers too, so that a source distribution holds all and a change rebuilds all."""
    return sorted(str(path) for path in paths)


cpu = Pybind11Extension(
    "tinydiff.backends._cpu",
    listed(*SOURCES.glob("*.cpp")),
    depends=listed(*SOURCES.glob("*.h")),
    optional=True,
)
emulator = Pybind11Extension(
    "tinydiff.backends._emulator",
    listed(*EMULATOR.glob("*.cpp")),
    depends=listed(*EMULATOR.glob("*.h"), *EMULATOR.glob("*.py"), *CUDA.iterdir(), KERNEL_NAMES),
    optional=True,
)
setup(ext_modules=[cpu, emulator], cmdclass={"build_ext": BuildKernels, "build_py": CopySources})
