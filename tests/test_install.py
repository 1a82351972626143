"""Installing: a source distribution holds all it takes, and without a compiler the numpy backend is left."""

import os
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
    for module, least in (("setuptools", "77"), ("pybind11", "2.12")):
        pytest.importorskip(module, minversion=least)
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        else:
            shutil.copy(ROOT / name, to)
    return to


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


def test_the_classifier_is_installed(without_a_compiler):
    program = "from tinydiff.metrics import classifier; print(classifier.load('numpy').parameters.count)"
    assert int(python("-c", program, cwd=without_a_compiler)) > 100_000


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
