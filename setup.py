"""Builds csrc/cpu: the kernels once for each instruction set, the rest once, in parallel.

Without a working C++ compiler the package installs all the same, without the cpu backend; ``tinydiff info`` then
says how to get it. CC, CXX, CXXFLAGS and LDFLAGS are obeyed as usual; CXXFLAGS come last, so that they win.
"""

import os
import platform
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("csrc/cpu")
ONCE = ("bindings.cpp", "memory.cpp", "parallel.cpp")
FLAGS = ["-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden", "-Wno-psabi"]
# name: floats a vector, flags; the baseline is SSE2 on x86-64 and NEON on 64-bit Arm
INSTRUCTION_SETS = {
    "baseline": (4, []),
    "avx2": (8, ["-mavx2", "-mfma"]),
    "avx512": (16, ["-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"]),
}


class BuildKernels(build_ext):
    """Compile each kernel file with the flags of each instruction set, then link all into one module."""

    def build_extension(self, ext):
        x86 = platform.machine().lower() in ("x86_64", "amd64")
        kernels = [str(path) for path in sorted(SOURCES.glob("*.cpp")) if path.name not in ONCE]
        work = [("once", [], [str(SOURCES / name) for name in ONCE])]
        for name, (width, flags) in INSTRUCTION_SETS.items():
            if name == "baseline" or x86:
                work.append((name, [f"-DTINYDIFF_ISA={name}", f"-DTINYDIFF_W={width}", *flags], kernels))

        def compile_one(job):
            name, flags, source = job
            return self.compiler.compile(
                [source],
                output_dir=str(Path(self.build_temp) / name),
                include_dirs=ext.include_dirs,
                extra_postargs=[*FLAGS, *flags, *shlex.split(os.environ.get("CXXFLAGS", ""))],
            )

        jobs = [(name, flags, source) for name, flags, sources in work for source in sources]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = [path for paths in pool.map(compile_one, jobs) for path in paths]
        target = self.get_ext_fullpath(ext.name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        self.compiler.link_shared_object(
            objects, target, target_lang="c++", extra_postargs=["-pthread"], build_temp=self.build_temp
        )


# every source is listed, headers too, so that a source distribution holds all and a change rebuilds all
sources = [str(path) for path in sorted(SOURCES.glob("*.cpp"))]
headers = [str(path) for path in sorted(SOURCES.glob("*.h"))]
extension = Pybind11Extension("tinydiff.backends._cpu", sources, depends=headers, optional=True)
setup(ext_modules=[extension], cmdclass={"build_ext": BuildKernels})
