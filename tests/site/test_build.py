"""The engine that is shipped is what its sources make, byte for byte."""

import os
import runpy
from pathlib import Path

import pytest

from tests.site.hosts import SITE

BUILD = Path(__file__).parents[2] / "csrc/wasm/build.py"
MOST_BYTES = 300_000


@pytest.fixture(scope="module")
def building():
    made = runpy.run_path(str(BUILD))
    if made["compiler"]() != made["COMPILER"]:
        missing = f"needs ziglang {made['COMPILER']}"
        (pytest.fail if os.environ.get("TINYDIFF_ALL_TESTS") else pytest.skip)(missing)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", ["engine.wasm", "engine_threads.wasm"])
def test_building_again_gives_the_same_bytes(name, building, tmp_path):
    assert name in building["SHIPPED"]
    building["build"](name, tmp_path / name)
    assert (tmp_path / name).read_bytes() == (SITE / name).read_bytes(), f"run python {BUILD.name}, and commit {name}"


def test_the_engine_is_small():
    for path in SITE.glob("*.wasm"):
        assert path.stat().st_size <= MOST_BYTES, path
    assert len((SITE / "engine.js").read_text().splitlines()) <= 200
