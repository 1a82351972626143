"""Every warm-up at reduced size: its claims are assertions in the script, its picture is there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
NUMBERED = {int(path.name.partition("_")[0]): path for path in EXAMPLES.glob("[0-9]*_*.py")}
WARM_UPS = [NUMBERED[number] for number in sorted(NUMBERED)]


@pytest.mark.parametrize("script", WARM_UPS, ids=lambda path: path.stem)
def test_warm_up(script, tmp_path):
    """On MNIST where it is at hand, else on drawn digits; never from the network."""
    offline = {"TINYDIFF_MIRROR": (tmp_path / "nowhere").as_uri(), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    picture = tmp_path / "picture.png"
    done = subprocess.run(
        [sys.executable, script, "--quick", "--out", picture],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **offline},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"wrote {picture}" in done.stdout
    with Image.open(picture) as image:
        assert image.width > 500 and len(image.getcolors(1 << 20)) > 10


def test_they_are_numbered_and_open_with_what_the_reader_will_see():
    assert list(sorted(NUMBERED)) == list(range(1, 11))
    for number, path in NUMBERED.items():
        text = path.read_text()
        assert text.startswith(f'"""Warm-up {number}: ') and "What you will see" in text and "assert " in text
        assert f"python examples/{path.name}" in text
