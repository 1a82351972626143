"""The cuda backend as far as it can be seen without a GPU: versions, launches, what is missing, stale kernels."""

import shutil
import sys

import numpy as np
import pytest

from tests.checks import backend_or_skip, normal
from tests.kernels.fake_cupy import FakeCupy
from tinydiff import backends
from tinydiff.backends import kernel_names, launch_table, launchers
from tinydiff.backends.cuda import CudaBackend

ON_TENSOR_CORES = ("_v3_tensor_cores", *launch_table.TENSOR_CORES)  # attention's, and the products'


@pytest.fixture(autouse=True)
def defaults():
    yield
    for op in launch_table.TABLE:
        launch_table.use_version(op)


def test_versions_are_chosen_by_number():
    sizes = dict(rows=100, columns=10)
    default = "linear_forward_v3_register_tile"
    assert launch_table.kernel("linear", "forward", **sizes)[0] == default
    for version in ("v1_naive", "v2_shared_tile", "v3_register_tile"):
        launch_table.use_version("linear", launch_table.number(version))
        assert launch_table.kernel("linear", "forward", **sizes)[0] == f"linear_forward_{version}"
        assert launch_table.kernel("linear", "merge", count=3)[0] == "linear_merge_v1_naive"  # there is no other
    launch_table.use_version("linear", "v5")
    assert launch_table.kernel("linear", "forward", **sizes)[0] == default  # it is in bfloat16 alone
    assert launch_table.kernel("linear", "forward", "bf16", **sizes)[0] == "linear_forward_v5_tall_tiles"
    with pytest.raises(ValueError, match="the version of linear must be one of v1, v2, v3, v4, v5, v6, got 'v9'"):
        launch_table.use_version("linear", "v9")


@pytest.mark.parametrize(
    "rows, columns, version",
    [
        (64, 64, "v4_tensor_cores"),
        (100_352, 64, "v5_tall_tiles"),
        (6272, 256, "v6_square_tiles"),
        (1_000_000, 128, "v6_square_tiles"),
    ],
)
def test_the_tile_goes_by_the_size_of_the_product(rows, columns, version):
    name, grid, (threads, _, _), shared_bytes = launch_table.kernel(
        "conv2d", "forward", "bf16", rows=rows, columns=columns
    )
    assert name == f"conv2d_forward_{version}"
    height, width = launch_table.TENSOR_CORES[version].tile
    assert grid[0] * height >= rows and grid[1] * width >= columns and shared_bytes == 256 * (height + width)


def test_kernels_on_tensor_cores_are_of_one_precision():
    fp32, bf16 = (launchers.kernel_files(precision).keys() for precision in kernel_names.PRECISIONS)
    assert fp32 < bf16 and all(name.endswith(ON_TENSOR_CORES) for name in bf16 - fp32)


def test_dtypes_of_bfloat16():
    backend = backend_or_skip("emulator", "bf16")
    x, w = backend.asarray(normal(0, 3, 4), backend.activations), backend.asarray(normal(1, 4, 5), backend.activations)
    b = normal(2, 5, dtype=np.float32)
    y, cache = backend.linear.forward(x, w, b)
    assert y.dtype == backend.activations
    assert [each.dtype for each in backend.linear.backward(y, cache)] == [backend.activations, np.float32, np.float32]
    for bad, message in (
        ((x.astype(np.float32), w, b), "x must be bfloat16, got float32"),
        ((x, w.astype(np.float32), b), "w must be bfloat16, got float32"),
        ((x, w, b.astype(backend.activations)), "b must be float32, got bfloat16"),
        ((x, w, b.astype(np.float64)), "b must be bfloat16 like x, got float64"),
    ):
        with pytest.raises(ValueError, match=f"linear: {message}"):
            backend.linear.forward(*bad)
    with pytest.raises(ValueError, match="linear: dy must be bfloat16, got float32"):
        backend.linear.backward(y.astype(np.float32), cache)
    with pytest.raises(TypeError, match="argument 0 must be bfloat16, got float32"):
        launch = launch_table.kernel("silu", "forward", "bf16", count=5, bytes=10)
        backend.launcher.launch(*launch, (b, y, np.int64(5)), "bf16")


def test_without_ml_dtypes(monkeypatch):
    backend_or_skip("emulator")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ValueError, match="precision 'bf16' needs ml_dtypes: pip install ml_dtypes"):
        backends.get("emulator", "bf16")


@pytest.mark.parametrize(
    "pixels, width, version",
    [
        (1000, 1, "v2_one_reading"),
        (20_000, 1, "v1_three_readings"),
        (784, 4, "v3_vectors"),
        (784, 64, "v1_three_readings"),
    ],
)
def test_a_version_that_cannot_gives_way(pixels, width, version):
    sizes = dict(N=1, G=1, values=pixels * width, width=width, itemsize=4)
    assert launch_table.kernel("group_norm", "forward", **sizes)[0] == f"group_norm_forward_{version}"


@pytest.mark.parametrize("columns, version", [(16 * 65535, "v2_shared_tile"), (16 * 65535 + 1, "v3_register_tile")])
def test_a_version_with_more_blocks_than_a_grid_has_gives_way(columns, version):
    launch_table.use_version("linear", "v2")
    name, (_, across, _), _, _ = launch_table.kernel("linear", "forward", rows=1, columns=columns)
    assert name == f"linear_forward_{version}" and across <= 65535


def test_a_group_too_large_for_shared_memory():
    backend = backend_or_skip("emulator")
    arrays = normal(0, 1, 80, 80, 2, dtype=np.float32), np.ones(2, np.float32), np.zeros(2, np.float32)
    y, _ = backend.group_norm.forward(*arrays, groups=1)
    assert np.allclose(y, backends.get("numpy").group_norm.forward(*arrays, groups=1)[0], atol=1e-5)


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 5000, 100_352, 10_000_000])
@pytest.mark.parametrize("tiles", [1, 9, 300])
def test_parts_of_a_sum_cover_it(rows, tiles):
    parts, stretch = launch_table.split(rows, tiles)
    assert (parts - 1) * stretch < rows <= parts * stretch and parts <= max(1, launch_table.BLOCKS // tiles)


def test_an_edited_header_is_a_different_kernel(tmp_path, monkeypatch):
    shutil.copytree(launchers.sources(), tmp_path / "cuda")
    monkeypatch.setattr(launchers, "sources", lambda: tmp_path / "cuda")
    before = launchers.compile_options()
    assert before == launchers.compile_options()
    header = tmp_path / "cuda" / "common.cuh"
    header.write_text(header.read_text() + "\n")
    assert before != launchers.compile_options()


def test_a_launch_through_cupy():
    cupy = FakeCupy()
    backend = CudaBackend("cuda", launcher=launchers.CupyLauncher(cupy))
    x, w = backend.asarray(np.ones((3, 4), np.float32)), backend.asarray(np.ones((4, 5), np.float32))
    y, _ = backend.linear.forward(x, w)
    backend.linear.forward(x, w)
    [(code, options)] = cupy.compiled  # once
    assert "linear_forward_v3_register_tile(" in code and f"-I{launchers.sources()}" in options
    name, grid, block, arguments, shared_bytes = cupy.launched[0]
    assert (name, grid, block) == ("linear_forward_v3_register_tile", (1, 1, 1), (256, 1, 1)) and shared_bytes == 8704
    assert arguments[0] is x and arguments[3] is y
    assert arguments[2] == 0 and arguments[2].dtype == np.uint64  # no bias: a null pointer
    assert [each.dtype for each in arguments[4:]] == [np.int64, np.int32, np.int32]


def test_more_shared_memory_is_asked_for():
    cupy = FakeCupy()
    launchers.CupyLauncher(cupy).launch("silu_forward_v1_naive", (1, 1, 1), (32, 1, 1), 100_000, ())
    assert cupy.launched[0][-1] == 100_000


def test_no_memory_is_said(monkeypatch):
    cupy = FakeCupy()

    def empty(shape, dtype):
        raise cupy.cuda.memory.OutOfMemoryError("Out of memory allocating 1,024 bytes")

    monkeypatch.setattr(cupy, "empty", empty)
    message = r"the GPU's memory is full, 2.0 of 80.0 GB are free \(.*1,024 bytes\); a smaller --batch, narrower"
    with pytest.raises(MemoryError, match=message):
        launchers.CupyLauncher(cupy).empty((16, 16))


@pytest.mark.parametrize(
    "cupy, message",
    [
        (None, r"needs CuPy: pip install 'tinydiff\[cuda\]'"),
        (FakeCupy(error="cudaErrorNoDevice"), r"needs an NVIDIA GPU, and CuPy finds none \(cudaErrorNoDevice\)"),
        (FakeCupy(capability="75"), "needs a GPU of compute capability 8.0 or newer .*, and this one is 7.5"),
    ],
    ids=["no CuPy", "no GPU", "an old GPU"],
)
def test_what_is_missing_is_said_in_a_line(cupy, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    launchers.what_is_missing.cache_clear()
    with pytest.raises(ValueError, match=f"^backend 'cuda' {message}.*; use 'numpy' or 'auto'$"):
        backends.get("cuda")
    launchers.what_is_missing.cache_clear()


def test_a_gpu_that_will_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy(capability="120"))
    launchers.what_is_missing.cache_clear()
    assert backends.get("cuda").name == "cuda"
    launchers.what_is_missing.cache_clear()


def test_labels_that_only_the_device_knows_become_nan():
    backend = backend_or_skip("emulator")
    table, labels = normal(0, 3, 4, dtype=np.float32), np.array([2, 3, -1, 0])
    with pytest.raises(ValueError, match="labels must lie in"):
        backend.class_embedding.forward(table, labels)
    y = backend.empty((4, 4))
    sizes = np.int32(4), np.int32(3), np.int32(4)
    launch = launch_table.kernel("class_embedding", "forward", count=16)
    backend.launcher.launch(*launch, (table, labels, y, *sizes))
    assert np.array_equal(y[[0, 3]], table[[2, 0]]) and np.isnan(y[1:3]).all()
