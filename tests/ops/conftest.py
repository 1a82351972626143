import pytest

from tests.checks import COMPILED, backend_or_skip


@pytest.fixture(scope="session", params=["numpy", *COMPILED])
def backend(request):
    """Every backend there is: for tests of what an op refuses, which is the same for all."""
    return backend_or_skip(request.param)
