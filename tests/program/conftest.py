import pytest

from tests.kernels.conftest import in_use


@pytest.fixture(scope="module")
def kernels():
    """The cpu backend and its switches."""
    yield from in_use("cpu", "fp32")
