"""Every CUDA kernel compiles for every architecture meant, and no default version spills; without a GPU."""

import importlib.util

import pytest

from tests.test_install import ROOT

SPILLING = """
extern "C" __global__ void __launch_bounds__(1024, 2) silu_forward_v2_vectors(const float* x, float* y) {
    float v[64];
    for (int i = 0; i < 64; ++i) v[i] = x[i * 1024 + threadIdx.x];
    for (int j = 0; j < 64; ++j) {
        float sum = 0;
        for (int i = 0; i < 64; ++i) sum += v[i] * v[(i * 7 + j) % 64];
        y[j * 1024 + threadIdx.x] = sum;
    }
}
"""


@pytest.fixture(scope="module", params=["nvcc", "nvrtc"])
def compiler(request):
    if request.param not in compile_table().compilers():
        pytest.skip(f"{request.param} is not here")
    return request.param


def compile_table():
    spec = importlib.util.spec_from_file_location("compile_table", ROOT / "benchmarks" / "compile_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_kernel_compiles_and_none_spills(compiler):
    module = compile_table()
    rows = module.table(compiler)
    assert {row[:3] for row in rows} == module.every_kernel()
    assert not [row for row in rows if row.spilled_bytes and row.kernel in module.defaults()]


def test_a_spill_is_seen(compiler, tmp_path):
    module = compile_table()
    source = tmp_path / "spilling.cu"
    source.write_text(SPILLING)
    [row] = module.usage(module.COMPILE[compiler](source, "sm_80"), "sm_80")
    assert row.spilled_bytes and row.kernel in module.defaults()


def test_an_error_is_seen(compiler, tmp_path):
    source = tmp_path / "wrong.cu"
    source.write_text('extern "C" __global__ void wrong(float* x) { *x = nothing; }\n')
    with pytest.raises(SystemExit, match="wrong.cu does not compile for sm_80:(.|\n)*nothing"):
        compile_table().COMPILE[compiler](source, "sm_80")
