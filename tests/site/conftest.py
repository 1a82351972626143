import platform

import pytest

from tests.site.hosts import HOSTS
from tinydiff import backends


@pytest.fixture(params=["node", pytest.param("chromium", marks=pytest.mark.slow)])
def host(request):
    """Where the engine runs; skipped, with a word, where that is not installed."""
    return HOSTS[request.param]()


@pytest.fixture(scope="module")
def baseline():
    """The cpu backend with the instruction set whose bits the engine has."""
    cpu = pytest.importorskip("tinydiff.backends.cpu")
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("elsewhere the baseline rounds a multiply-add once")
    before = cpu.instruction_set()
    backend = backends.get("cpu")
    cpu.use_instruction_set("baseline")
    yield backend
    cpu.use_instruction_set(before)
