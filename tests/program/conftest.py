import pytest

from tests.kernels.conftest import in_use
from tinydiff.backends import PRECISIONS


@pytest.fixture(scope="module")
def kernels():
    """The cpu backend and its switches."""
    yield from in_use("cpu", "fp32")


@pytest.fixture(scope="module", params=PRECISIONS)
def in_both(request):
    """In one precision and in the other."""
    yield from in_use("cpu", request.param)
