import sys

import numpy as np
import pytest

from tinydiff import backends

MISSING = [name for name, state in backends.describe() if not state.startswith("ready: ")]


def test_auto_takes_the_compiled_kernels_where_they_are():
    assert backends.get("auto").name == ("numpy" if "cpu" in MISSING else "cpu")
    assert backends.get("numpy").name == "numpy"


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_is_said(name):
    with pytest.raises(ValueError, match=f"backend '{name}' needs .*; use 'numpy' or 'auto'"):
        backends.get(name)


def test_without_compiled_kernels(monkeypatch):
    monkeypatch.setattr(backends, "CpuBackend", None)
    assert backends.get("auto").name == "numpy"
    with pytest.raises(ValueError, match="backend 'cpu' needs its C.. kernels, .*: install GCC or Clang"):
        backends.get("cpu")
    assert dict(backends.describe())["cpu"].startswith("not available: needs its C++ kernels")


def test_unknown():
    with pytest.raises(ValueError, match="backend must be one of auto, numpy, cpu, cuda, emulator, got 'tpu'"):
        backends.get("tpu")


@pytest.mark.parametrize("name", [name for name in ("numpy", "cpu", "emulator") if name not in MISSING])
def test_services(name):
    backend = backends.get(name)
    assert backend.name == name
    array = backend.asarray([[1, 2]], np.float32)
    assert array.dtype == np.float32 and backend.to_numpy(array) is array and backend.asarray(array) is array
    assert backend.empty((2, 3)).shape == (2, 3) and not backend.zeros(4, np.int32).any()
    assert backend.capture(lambda: 5)() == 5
    assert backend.take(np.arange(3), np.array([2, 0])).tolist() == [2, 0]
    assert backend.repeat(array, 2).tolist() == [[1, 2], [1, 2]]
    backend.synchronize()
    assert {name for name, _ in backends.describe()} == {"numpy", "cpu", "cuda", "emulator"}


def test_precision():
    with pytest.raises(ValueError, match="precision must be one of auto, fp32, bf16, got 'fp8'"):
        backends.get("numpy", "fp8")
    with pytest.raises(ValueError, match="backend 'numpy' has no precision 'bf16'; 'cpu', 'cuda' and 'emulator' have"):
        backends.get("numpy", "bf16")


@pytest.mark.parametrize("name", [name for name in ("auto", "cpu", "emulator") if name not in MISSING])
def test_bfloat16(name, monkeypatch):
    if backends.get(name).name == "numpy":
        pytest.skip("the kernels are not compiled")
    backend = backends.get(name, "bf16")
    assert backend.precision == "bf16" and str(backend.activations) == "bfloat16"
    assert str(backend.zeros(3, backend.activations).dtype) == "bfloat16"
    values = backend.asarray(np.array([1 + 2.0**-8, -0.0], np.float32), backend.activations)
    assert backend.asarray(values, np.float32).tolist() == [1, 0]  # to even at a tie

    monkeypatch.setattr(backends, "CpuBackend", None)
    if name == "auto":
        with pytest.raises(ValueError, match="backend 'auto' is 'numpy' here, which has no precision 'bf16'; 'cpu'"):
            backends.get(name, "bf16")


@pytest.mark.parametrize("name", [name for name in ("auto", "cpu", "emulator") if name not in MISSING])
def test_without_ml_dtypes(name, monkeypatch):
    if backends.get(name).name == "numpy":
        pytest.skip("the kernels are not compiled")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ValueError, match="^precision 'bf16' needs ml_dtypes: pip install ml_dtypes$"):
        backends.get(name, "bf16")
    assert backends.get(name).precision == backends.get(name, "auto").precision == "fp32"


@pytest.mark.skipif("cpu" in MISSING, reason="the kernels are not compiled")
def test_the_precision_that_is_faster():
    from tinydiff.backends import cpu

    before = cpu.instruction_set()
    for name in cpu.instruction_sets():
        cpu.use_instruction_set(name)
        expected = "bf16" if name in cpu.MULTIPLY_BFLOAT16 else "fp32"
        for auto in ("auto", "cpu"):
            assert backends.get(auto, "auto").precision == expected
    cpu.use_instruction_set(before)
    assert backends.get("numpy", "auto").precision == "fp32"
