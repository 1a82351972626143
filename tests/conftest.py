"""How the tests run: a process for each core, and what a newcomer need not wait for only where it is asked for.

All tests of a file are run by one process, as what a file builds it builds once for all of them.
"""

import os
import platform
from pathlib import Path

# Before NumPy is imported: the matrices of the tests are so small that a second BLAS thread only waits.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("TINYDIFF_THREADS", "1")  # the other cores have processes of their own

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],  # a busy machine is no reason to fail
)
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

TESTS = Path(__file__).parent
# Begun first and in this order, so that no core waits for one of them at the end: the files that take longest.
LONG = (
    "kernels/test_sanitizers.py",
    "test_warm_ups.py",
    "kernels/test_against_reference.py",
    "kernels/test_unet.py",
    "model/test_unet.py",
    "kernels/test_graph.py",
    "kernels/test_tensor_cores.py",
    "test_cli.py",
    "ranks/test_mpiexec.py",
)


def pytest_xdist_auto_num_workers(config):
    """None besides this process for a few files, which take less time than starting others; else one a core."""
    return 0 if _are_named(config) else None


def pytest_collection_modifyitems(config, items):
    if not config.option.markexpr and not _are_named(config):
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)
    items.sort(key=_place)


def _place(item):
    """Where in ``LONG`` the item's file is, or after all of them."""
    name = item.path.relative_to(TESTS).as_posix()
    return LONG.index(name) if name in LONG else len(LONG)


def _are_named(config):
    """Whether files or single tests were asked for, not folders."""
    return any(".py" in argument for argument in config.args)


@pytest.fixture
def own_cache(monkeypatch, tmp_path_factory):
    """A user's cache that is this test's own, and where decoded images are kept in it."""
    monkeypatch.delenv("TINYDIFF_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    return Path(os.environ["XDG_CACHE_HOME"]) / "tinydiff" / "decoded"


@pytest.fixture(scope="module")
def module_cache(tmp_path_factory):
    """A user's cache that is this file's own, for runs that all its tests share; pictures of them show one of a class."""
    from tinydiff import report

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TINYDIFF_DATA", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(report, "COLUMNS", 1)
        yield


@pytest.fixture(scope="module")
def baseline():
    """The cpu backend with the instruction set whose bits the engine has."""
    cpu = pytest.importorskip("tinydiff.backends.cpu")
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("elsewhere the baseline rounds a multiply-add once")
    from tinydiff import backends

    before = cpu.instruction_set()
    backend = backends.get("cpu")
    cpu.use_instruction_set("baseline")
    yield backend
    cpu.use_instruction_set(before)
