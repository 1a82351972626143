"""Winograd in bfloat16 errs by chance, as much as rounding its points once makes it and no more."""

import numpy as np
import pytest

from tests.kernels import winograd
from tests.kernels.comparison import expect, outputs
from tests.kernels.conftest import in_use

# one word of two tiles is half empty; points of filters made before all tiles, and for one panel after another
SIZES = [
    dict(N=3, H=9, W=7, C=48, O=37),
    dict(N=1, H=10, W=10, C=130, O=96),
    dict(N=3, H=7, W=13, C=33, O=40, padding=0),
]


@pytest.fixture(scope="module")
def kernels():
    yield from in_use("cpu", "bf16")
    from tinydiff.backends import cpu

    cpu.use_conv2d_version("fastest")


@pytest.fixture(params=winograd.MATRICES)
def version(kernels, request):
    from tinydiff.backends import cpu

    cpu.use_conv2d_version(request.param)
    return request.param


def in_deviations(kernels, sizes):
    """(way, of which output, its errors as multiples of what their standard deviations should be)."""
    expected = expect("conv2d", sizes, 0, kernels.backend.conv2d)
    for way, _ in kernels.each():
        made = outputs(kernels.backend, expected)
        for name, dtype, y, truth, deviation in zip(
            expected.names, expected.dtypes, made, expected.truth, expected.deviations
        ):
            if name not in ("y", "dx", "dw"):
                continue
            spacing = 2.0 ** (np.floor(np.log2(np.abs(truth))) - 7) if str(dtype) == "bfloat16" else 0
            yield way, name, (y.astype(np.float64) - truth) / np.sqrt(deviation**2 + spacing**2 / 12)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_deviation_is_what_it_is_said_to_be(kernels, version, sizes):
    """Of thousands of errors; where points were rounded twice, it would be 1.4 times that."""
    for way, name, errors in in_deviations(kernels, sizes):
        assert 0.9 < np.sqrt(np.mean(errors**2)) < 1.1 and np.abs(np.mean(errors)) < 0.1, (way, name)
        assert 3 < np.max(np.abs(errors)) < 6, (way, name)
