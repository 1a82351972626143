"""Builds tinydiff/site/engine.wasm: the kernels and the interpreter of csrc/cpu, for WebAssembly with SIMD.

    python csrc/wasm/build.py [--relaxed] [FOLDER]

engine.wasm works on one thread; engine_threads.wasm on as many as share its memory, which browsers allow a page that is
cross-origin isolated. Every value has the bits that the instruction set "baseline" of csrc/cpu gives.
engine_relaxed.wasm, built only with --relaxed, has not: it takes multiply-adds that round once where the machine has
them. In Chromium 156 an evaluation then takes 0.85 of the time, in node 20 1.5 times as long. It goes in the place of
engine.wasm; nothing chooses it by itself.

It takes the ``ziglang`` of PyPI in the one version of which the bytes are shipped; a test builds again and compares.
"""

import argparse
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
CPU, OWN, SITE = Path("csrc/cpu"), Path("csrc/wasm"), Path("tinydiff/site")
COMPILER = "0.17.1"
NATIVE = ("bindings", "memory.cpp", "parallel.cpp")  # how names begin that are not for it
TARGET = ["-target", "wasm32-wasi"]
FLAGS = ["-std=c++17", "-O3", "-msimd128", "-fno-exceptions", "-fno-rtti", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-DTINYDIFF_ISA=baseline", "-DTINYDIFF_W=4", f"-I{CPU}", f"-I{OWN}"]
STACK = 128 << 10  # bytes; JavaScript gives as much to every thread that helps
LINK = ["-mexec-model=reactor", "-s", "-Wl,--no-entry", "-Wl,-z", f"-Wl,stack-size={STACK}"]
SHARE = ["-Wl,--import-memory", "-Wl,--shared-memory", "-Wl,--max-memory=2147483648"]
SHARE += ["-Wl,--export=__stack_pointer", "-Wl,--export=__wasm_init_tls", "-Wl,--export=__tls_size"]
# name: what is compiled besides, flags of the compiler, of the linker
VARIANTS = {
    "engine.wasm": ("one_thread.cpp", [], []),
    "engine_threads.wasm": ("workers.cpp", ["-matomics", "-mbulk-memory", "-DTINYDIFF_THREADS"], SHARE),
    "engine_relaxed.wasm": ("one_thread.cpp", ["-mrelaxed-simd", "-ffp-contract=fast"], []),
}
SHIPPED = ("engine.wasm", "engine_threads.wasm")


def build(name, to):
    """Write one of ``VARIANTS``."""
    threads, flags, link = VARIANTS[name]
    sources = [path for path in sorted((ROOT / CPU).glob("*.cpp")) if not path.name.startswith(NATIVE)]
    sources += [ROOT / OWN / each for each in ("engine.cpp", "memory.cpp", threads)]
    with tempfile.TemporaryDirectory() as folder:

        def compile_one(source):
            to = str(Path(folder, source.name).with_suffix(".o"))
            zig("c++", *FLAGS, *flags, "-c", str(source.relative_to(ROOT)), "-o", to)
            return to

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_one, sources))
        machine = [flag for flag in flags if flag.startswith("-m")]
        zig(
            "cc", "-O3", *machine, *LINK, *link, *objects, "-o", str(Path(to).resolve())
        )  # not c++: none of its library
    Path(to).chmod(0o644)  # the linker takes it for a program of this machine


def zig(command, *arguments):
    """Run the compiler, in the root of the checkout, so that no path of this machine is in what it makes."""
    subprocess.run([sys.executable, "-m", "ziglang", command, *TARGET, *arguments], cwd=ROOT, check=True)


def compiler():
    """The version of ziglang that is installed, or None."""
    try:
        return importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError:
        return None


def main():
    parser = argparse.ArgumentParser(description="Build the engine for browsers.")
    parser.add_argument("folder", nargs="?", default=ROOT / SITE, help=f"default {SITE}")
    parser.add_argument("--relaxed", action="store_true", help="engine_relaxed.wasm alone")
    args = parser.parse_args()
    if compiler() != COMPILER:
        sys.exit(f"this takes ziglang {COMPILER}, found {compiler()}: pip install ziglang=={COMPILER}")
    for name in ("engine_relaxed.wasm",) if args.relaxed else SHIPPED:
        build(name, Path(args.folder) / name)
        print(f"{name}: {os.path.getsize(Path(args.folder) / name):,} bytes")


if __name__ == "__main__":
    main()
