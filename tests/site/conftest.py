import pytest

from tests.site.hosts import HOSTS


@pytest.fixture(params=["node", pytest.param("chromium", marks=pytest.mark.slow)])
def host(request):
    """Where the engine runs; skipped, with a word, where that is not installed."""
    return HOSTS[request.param]()
