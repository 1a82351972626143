"""The product on tensor cores, broken on purpose: every fault of its pipeline shows in the emulator."""

import shutil
import subprocess
import sysconfig

import pytest

from tests.checks import backend_or_skip
from tests.kernels.test_emulator import ROOT, compiler_and_includes
from tests.test_install import python

FAULTS = {
    "right": [],
    "a step is waited for too late": [("wait_copies<STAGES - 2>();", "wait_copies<STAGES - 1>();")],
    "nobody waits for the others": [("__syncthreads();", "")],
    "the next step comes before all are done": [
        ("        bring(step + STAGES - 1);", "        if (false) bring(0);"),
        ("wait_copies<STAGES - 2>();", "wait_copies<STAGES - 2>();\n        bring(step + STAGES - 1);"),
    ],
    "an empty group is left out": [("        }\n        commit_copies();", "            commit_copies();\n        }")],
    "a stage too few": [("step % STAGES * (T::N * STEP));", "step % (STAGES - 1) * (T::N * STEP));")],
    "rows are swizzled otherwise where they are read": [
        ("load_matrices(a_tile + place_of<STEP / PIECE>(m + low, k / PIECE + lane / 16)",
         "load_matrices(a_tile + ((m + low) * 4 + k / PIECE + lane / 16) * PIECE"),
    ],
    "columns are swizzled otherwise where they are read": [
        ("place_of<T::N / PIECE>(k + low, n / PIECE + lane / 16)",
         "((k + low) * (T::N / PIECE) + n / PIECE + lane / 16) * PIECE"),
    ],
}  # fmt: skip


# run in a process of its own: whether every element of a product is right, by version and seed
PROGRAM = """
import sys
import numpy as np
from tests.checks import normal
from tests.kernels.test_emulator import load
from tinydiff.backends.cuda import CudaBackend
from tinydiff.backends.launch_table import use_version

backend = CudaBackend("emulator", "bf16", load(sys.argv[1]))
x, w = (backend.asarray(normal(0, *shape), backend.activations) for shape in ((70, 264), (264, 72)))
truth = x.astype(np.float64) @ w.astype(np.float64)
for version in ("v4", "v5", "v6"):
    use_version("linear", version)
    for seed in range(3):
        backend.launcher.use_seed(seed)
        error = np.abs(backend.linear.forward(x, w)[0].astype(np.float64) - truth)
        print((error <= 2.0**-8 * np.abs(truth).max()).all())
"""


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """(name, replacements in tensor_cores.cuh) -> the emulator with linear.cu alone, so changed."""
    backend_or_skip("emulator", "bf16")
    folder = tmp_path_factory.mktemp("faults")
    compiler, includes, wrap = compiler_and_includes()
    options = [compiler, "-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-DTINYDIFF_MODULE=faults"]
    objects = []
    for path in (ROOT / "csrc" / "emulator").glob("*.cpp"):
        objects.append(folder / f"{path.stem}.o")
        subprocess.run([*options, *includes, "-c", path, "-o", objects[-1]], check=True)

    def build(name, replacements):
        sources = folder / name
        shutil.copytree(ROOT / "csrc" / "cuda", sources)
        header = sources / "tensor_cores.cuh"
        text = header.read_text()
        for old, new in replacements:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        header.write_text(text)
        wrapped, target = sources / "linear.cpp", sources / f"faults{sysconfig.get_config_var('EXT_SUFFIX')}"
        wrapped.write_text(wrap(sources / "linear.cu", "bf16"))
        subprocess.run([*options, f"-I{sources}", *includes, "-shared", wrapped, *objects, "-o", target], check=True)
        return target

    return build


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_pipeline_shows(build, fault):
    module = build(fault.replace(" ", "_"), FAULTS[fault])
    expected = "True" if fault == "right" else "False"
    assert python("-c", PROGRAM, module, cwd=ROOT).split() == [expected] * 9
