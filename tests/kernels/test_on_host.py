"""How the kernel tests are pointed at a GPU, tried on the stand-in for CuPy."""

import numpy as np
import pytest

from tests.checks import backend_or_skip
from tests.kernels import conftest, test_adamw
from tests.kernels.comparison import compare, expect, outputs
from tests.kernels.fake_cupy import FakeCupy
from tinydiff.backends import launchers
from tinydiff.backends.cuda import CudaBackend

SIZES = {
    "linear": dict(leading=[3], C=5, O=3),
    "silu": dict(shape=[7]),
    "class_embedding": dict(K=3, E=5, N=4),
    "mse_loss": dict(shape=[3, 5]),
    "l1_loss": dict(shape=[3, 5]),
    "gaussian_sample": dict(shape=[3, 5], Z=2),
    "gaussian_kl": dict(shape=[3, 5], Z=2),
    "timestep_embedding": dict(N=3, half=2),
}


@pytest.fixture
def kernels():
    cupy = FakeCupy(run=backend_or_skip("emulator").launcher.launch)
    kernels = conftest.KERNELS["cuda"](CudaBackend("cuda", launcher=launchers.CupyLauncher(cupy)))
    yield kernels
    kernels.use(None, 0)


@pytest.mark.parametrize("op", SIZES)
def test_every_test_runs_on_a_gpu_as_it_stands(kernels, op):
    expected = expect(op, SIZES[op], 0)
    for way, _ in kernels.each():
        compare(outputs(kernels.backend, expected), expected, way)


def test_in_place_too(kernels):
    test_adamw.check(kernels, 37, True, 11, 0.1, 0, (1,))


def test_what_a_kernel_writes_beyond_its_array_comes_back(kernels):
    class Overshooting:
        def forward(self, x):
            whole = x if x._owner is None else x._owner
            whole[-1] = 5
            return x

    kernels.backend.silu.op = Overshooting()
    memory = np.zeros(9, np.float32)
    kernels.backend.silu.forward(memory[2:7])
    assert memory.tolist() == [0] * 8 + [5]
