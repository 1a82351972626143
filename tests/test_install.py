"""Installing: a source distribution holds all it takes, and without a compiler the numpy backend is left."""

import os
import platform
import runpy
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = ("csrc", "tests", "tinydiff", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py")


def copy_to_build(to):
    """What is in the checkout, without what was built there; skips the test where tinydiff cannot be built."""
    to.mkdir(exist_ok=True)
    for module, least in (("setuptools", "77"), ("pybind11", "2.12")):
        pytest.importorskip(module, minversion=least)
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(ROOT / name, to)
    return to


@pytest.fixture
def build_kernels(monkeypatch, tmp_path):
    """(machine, flags that the compiler refuses) -> the jobs of the cpu extension, (name, flags, source)."""
    setuptools = pytest.importorskip("setuptools", minversion="77")
    pytest.importorskip("pybind11", minversion="2.12")
    from setuptools.errors import CompileError

    class Compiler:
        def __init__(self, refused):
            self.refused = refused

        def compile(self, sources, output_dir, extra_postargs):
            if set(self.refused) & set(extra_postargs):
                raise CompileError("unrecognized command-line option")

    def jobs(machine, *refused):
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.setattr(setuptools, "setup", lambda **_: None)
        monkeypatch.chdir(ROOT)
        command = runpy.run_path("setup.py")["BuildKernels"](setuptools.Distribution())
        command.compiler, command.build_temp = Compiler(refused), tmp_path
        return command.cpu_jobs()

    return jobs


def test_a_set_whose_instructions_the_compiler_lacks_is_left_out(build_kernels, capsys):
    def sets_and_told(made):
        sets = {name for name, _, _ in made} - {"once"}
        told = {
            flag.removeprefix("-DTINYDIFF_WITH_").lower() for name, flags, _ in made for flag in flags if "WITH" in flag
        }
        return sets, told

    every, told = sets_and_told(build_kernels("x86_64"))
    assert {"baseline", "avx2", "avx512", "avx512_bf16"} <= every == told
    assert capsys.readouterr().out == ""
    without, told = sets_and_told(build_kernels("AMD64", "-mavx512bf16"))
    assert without == told and "avx512_bf16" in every - without and {"baseline", "avx2", "avx512"} <= without
    assert (
        "the compiler lacks the instructions of avx512_bf16: the kernels are built without that set"
        in capsys.readouterr().out
    )
    elsewhere, told = sets_and_told(build_kernels("riscv64"))
    assert elsewhere == told == {"baseline"}


REFUSES = """#!/bin/sh
for each in "$@"; do
    if [ "$each" = -mavx512bf16 ]; then
        echo "error: unrecognized command-line option '-mavx512bf16'" >&2
        exit 1
    fi
done
exec {compiler} "$@"
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the compiler is wrapped in a shell script")
def test_without_the_instructions_of_bfloat16_all_else_is_built(tmp_path):
    """And what lacks is said: at the choice of an instruction set, and by info."""
    folder, wrapped = copy_to_build(tmp_path / "checkout"), {}
    for name, compiler in (("CC", "cc"), ("CXX", "c++")):
        compiler = os.environ.get(name, compiler)
        if shutil.which(compiler.split()[0]) is None:
            pytest.skip(f"{compiler} is not here")
        wrapped[name] = str(tmp_path / name)
        Path(wrapped[name]).write_text(REFUSES.format(compiler=compiler))
        Path(wrapped[name]).chmod(0o755)
    setup = folder / "setup.py"
    setup.write_text(setup.read_text().replace("ext_modules=[cpu, emulator]", "ext_modules=[cpu]"))
    said = python("setup.py", "build_ext", "--inplace", cwd=folder, CXXFLAGS="-O0", **wrapped)
    lacking = platform.machine().lower() in ("x86_64", "amd64")
    assert ("the compiler lacks the instructions of avx512_bf16" in said) == lacking

    program = """
import numpy as np
from tinydiff import backends
from tinydiff.backends import cpu
print(cpu.instruction_sets(), cpu.instruction_set())
print(cpu.lacking_instruction_sets())
backend = backends.get("cpu", "bf16")
x = np.ones((1, 8, 8, 16), backend.activations)
print(backend.conv2d.forward(x, np.ones((3, 3, 16, 16), x.dtype), padding=1)[0][0, 4, 4, 0])
try:
    cpu.use_instruction_set("avx512_bf16")
except ValueError as error:
    print(error)
"""
    known, lacks, y, refused = python("-c", program, cwd=folder, PYTHONPATH=str(folder)).splitlines()
    assert "avx512_bf16" not in known and y == "144"
    refused_too = """
import os
os.environ["TINYDIFF_INSTRUCTION_SET"] = "avx512_bf16"
from tinydiff import backends
try:
    backends.get("cpu")
except ValueError as error:
    print(error)
"""
    refused_too = python("-c", refused_too, cwd=folder, PYTHONPATH=str(folder))
    info = python("-m", "tinydiff", "info", cwd=folder, PYTHONPATH=str(folder))
    assert "on this machine, got 'avx512_bf16'" in refused and "on this machine, got 'avx512_bf16'" in refused_too
    why = (
        "the compiler that built tinydiff lacked its instructions; GCC 10 and Clang 9, or newer, have them: install "
        "tinydiff again with such a one"
    )
    if lacks == "{}":  # the machine has none of them either
        assert why not in refused and why not in refused_too and why not in info
    else:
        assert refused.endswith(f"got 'avx512_bf16': {why}") and refused_too.endswith(f"got 'avx512_bf16': {why}\n")
        assert f"; not for avx512_bf16: {why}; precisions fp32 and bf16\n" in info


def python(*arguments, cwd, **environment):
    """What a process of this interpreter printed; it must succeed."""
    command, environment = [sys.executable, *map(str, arguments)], {**os.environ, **environment}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source_distribution(tmp_path_factory):
    folder = copy_to_build(tmp_path_factory.mktemp("checkout"))
    python("setup.py", "-q", "sdist", cwd=folder)
    [archive] = folder.glob("dist/tinydiff-*.tar.gz")
    return archive


def test_a_source_distribution_holds_every_source(source_distribution):
    with tarfile.open(source_distribution) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    sources = [
        *ROOT.glob("csrc/**/*.cpp"),
        *ROOT.glob("csrc/**/*.h"),
        *ROOT.glob("csrc/**/*.cu*"),
        *ROOT.glob("csrc/emulator/*.py"),
        *ROOT.glob("tinydiff/**/*.py"),
        *ROOT.glob("csrc/wasm/*"),
        *ROOT.glob("tinydiff/**/*.safetensors"),
        *ROOT.glob("tinydiff/site/*"),
        *(path for path in ROOT.glob("tinydiff/pages/*") if path.is_file()),
        *map(ROOT.joinpath, NEEDED[3:]),
    ]
    assert len(sources) > 50
    assert {str(path.relative_to(ROOT)) for path in sources} <= held


@pytest.fixture(scope="module")
def without_a_compiler(source_distribution, tmp_path_factory):
    """The folder into which the distribution was installed where no compiler is to be found."""
    pytest.importorskip("pip")
    folder = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", folder]
    nothing = {"CC": "/nonexistent/cc", "CXX": "/nonexistent/c++", "PATH": "/nonexistent"}
    python("-m", "pip", "install", *options, source_distribution, cwd=folder, **nothing)
    return folder


def test_without_a_compiler_info_says_how_to_get_one(without_a_compiler):
    printed = python("-m", "tinydiff", "info", cwd=without_a_compiler)
    assert "\nbackend cpu: not available: needs its C++ kernels" in printed and "install GCC or Clang" in printed
    assert "\nbackend emulator: not available: needs its C++ part" in printed


def test_the_cuda_sources_are_installed(without_a_compiler):
    program = "from tinydiff.backends import launchers; print(launchers.sources(), len(launchers.kernel_files()))"
    folder, count = python("-c", program, cwd=without_a_compiler).split()
    assert folder == f"{without_a_compiler}/tinydiff/csrc_cuda" and int(count) > 40


def test_the_sources_that_the_site_shows_are_installed(without_a_compiler):
    program = "from tinydiff.pages import sources; print(*sources.texts(), sep='\\n')"
    shown = python("-c", program, cwd=without_a_compiler).split()
    assert {"tinydiff/ops/conv2d.py", "csrc/cpu/winograd.cpp", "csrc/cuda/conv2d.cu"} <= set(shown)


def test_the_classifiers_are_installed(without_a_compiler):
    program = "from tinydiff.metrics.classifier import CIFAR10, MNIST, load; "
    program += "print(*(load('numpy', kind).parameters.count for kind in (MNIST, CIFAR10)))"
    assert all(int(count) > 100_000 for count in python("-c", program, cwd=without_a_compiler).split())


def test_the_engine_for_pages_is_installed(without_a_compiler):
    installed = {path.name for path in (without_a_compiler / "tinydiff/site").iterdir()}
    assert {path.name for path in (ROOT / "tinydiff/site").iterdir()} <= installed
    assert {"engine.js", "engine.wasm"} <= installed


def test_the_site_is_made_where_it_is_installed(without_a_compiler):
    pytest.importorskip("latex2mathml")
    program = "from tinydiff.pages import build; files = build.contents(); print('index.html' in files, len(files))"
    found, count = python("-c", program, cwd=without_a_compiler).split()
    assert found == "True" and int(count) > 60


def test_without_a_compiler_numpy_computes(without_a_compiler):
    program = """
import numpy as np, tinydiff
from tinydiff import backends
backend = backends.get("auto")
y, _ = backend.silu.forward(np.zeros(3, np.float32))
print(tinydiff.__file__, backend.name, y.tolist())
"""
    printed = python("-c", program, cwd=without_a_compiler)
    assert printed == f"{without_a_compiler}/tinydiff/__init__.py numpy [0.0, 0.0, 0.0]\n"
