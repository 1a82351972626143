import numpy as np
import pytest

from tinydiff import backends


def test_auto_takes_numpy():
    assert backends.get("auto").name == backends.get("numpy").name == "numpy"


@pytest.mark.parametrize("name", ["cpu", "cuda", "emulator"])
def test_what_is_missing_is_said(name):
    with pytest.raises(
        ValueError, match=f"backend '{name}' needs the .* which this version does not have yet; use 'numpy' or 'auto'"
    ):
        backends.get(name)


def test_unknown():
    with pytest.raises(ValueError, match="backend must be one of auto, numpy, cpu, cuda, emulator, got 'tpu'"):
        backends.get("tpu")


def test_services():
    backend = backends.get("numpy")
    array = backend.asarray([[1, 2]], np.float32)
    assert array.dtype == np.float32 and backend.to_numpy(array) is array and backend.asarray(array) is array
    assert backend.empty((2, 3)).shape == (2, 3) and not backend.zeros(4, np.int32).any()
    step = lambda: 5
    assert backend.capture(step) is step
    backend.synchronize()
    assert {name for name, _ in backends.describe()} == {"numpy", "cpu", "cuda", "emulator"}
