import io
import subprocess
import sys

import pytest

from tinydiff import progress

PROGRAM = """
import sys
from tinydiff import progress
progress.SECONDS_WITHOUT = progress.SECONDS_BETWEEN_LINES = 0
for i in (bar := progress.progress_bar(range(3))):
    bar.set_postfix_str("loss 1 \\N{GREEK SMALL LETTER MU}", refresh=False)
print("done")
"""


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2>/dev/null", "2>&1"])
def test_standard_error_never_ends_the_work(stderr):
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {stderr}', sys.executable, PROGRAM], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.endswith("done\n"), done


@pytest.mark.parametrize("stderr", [None, io.StringIO()])
def test_none_and_a_closed_one(monkeypatch, stderr):
    if stderr:
        stderr.close()
    monkeypatch.setattr(sys, "stderr", stderr)
    assert list(progress.progress_bar(range(3))) == [0, 1, 2]


def test_an_encoding_that_lacks_a_character():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, env={"PYTHONIOENCODING": "ascii:strict"})
    assert done.returncode == 0 and rb"loss 1 \u03bc" in done.stderr, done


@pytest.mark.parametrize("unit, several", [("image", "images"), ("batch", "batches")])
def test_a_log_file_gets_lines(monkeypatch, unit, several):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    list(progress.progress_bar(range(3)))
    assert log.getvalue() == ""  # over before there is anything to tell
    monkeypatch.setattr(progress, "SECONDS_WITHOUT", 0)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    list(progress.progress_bar(range(3), unit=unit))
    lines = log.getvalue().splitlines()
    assert len(lines) == 5 and lines[0].startswith(f"0 of 3 {several}, 00:00 so far, ? left")
    assert lines[-1].startswith(f"3 of 3 {several}") and "\r" not in log.getvalue()
