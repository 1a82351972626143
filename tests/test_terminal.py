"""Outputs that are closed, full or not read to the end, and names that a terminal cannot show."""

import errno
import os
import shlex
import subprocess
import sys
import threading
import time

import pytest

from tests.interop.folders import checkpoint
from tinydiff import cli, terminal
from tinydiff.train import checkpoint as checkpoints

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
READER_GONE = 141


def tinydiff(words, *, cwd=None, **environment):
    """What a shell makes of ``tinydiff WORDS``, redirections and all."""
    command = f"set -o pipefail; {shlex.quote(sys.executable)} -m tinydiff {words}"
    return subprocess.run(["bash", "-c", command], env=BUFFERED | environment, cwd=cwd, capture_output=True)


@pytest.mark.parametrize("environment", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("words", ["info", "gradcheck silu upsample2x", "gradcheck concat --json", "--help"])
def test_a_reader_that_leaves_ends_it_quietly(words, environment):
    done = tinydiff(f"{words} | true", **environment)
    unbuffered_help = words == "--help" and environment  # argparse passes over what it cannot print
    assert done.returncode == (0 if unbuffered_help else READER_GONE) and done.stderr == b""


def test_a_reader_that_read_all_changes_nothing():
    done = tinydiff("gradcheck silu | cat")
    assert done.returncode == 0 and done.stdout.endswith(b"right\n") and done.stderr == b""


@pytest.mark.parametrize("words", ["info", "gradcheck silu", "--help", "--version"])
@pytest.mark.parametrize("output, number", [(">/dev/full", errno.ENOSPC), (">&-", errno.EBADF)])
def test_an_output_that_is_full_or_closed(words, output, number):
    done = tinydiff(f"{words} {output}")
    *before, last = done.stderr.decode().splitlines()
    assert done.returncode == cli.BAD_INPUT and last == f"tinydiff: standard output: {os.strerror(number)}"
    # where there is no standard output, argparse takes the other
    assert not before or words.startswith("--") and output == ">&-"


def test_an_output_that_is_closed_is_refused_before_any_work(tmp_path):
    checkpoints.save(tmp_path / "a.safetensors", checkpoint())
    done = tinydiff("export a.safetensors out >&-", cwd=tmp_path)
    assert done.returncode == cli.BAD_INPUT and not (tmp_path / "out").exists()


@pytest.mark.parametrize("output", ["2>/dev/full", "2>&-"])
def test_an_error_that_cannot_be_said_is_an_error_all_the_same(output):
    done = tinydiff(f"sample none {output}")
    assert done.returncode == cli.BAD_INPUT and done.stdout == done.stderr == b""
    done = tinydiff(f"gradcheck silu {output}")
    assert done.returncode == 0 and done.stdout.endswith(b"right\n")


def test_a_progress_display_that_cannot_be_shown_changes_no_exit_status():
    script = "import sys; from tinydiff import cli; sys.exit(cli.call(lambda _: sys.stderr.write('50 %') and 0, None))"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(script)} 2>/dev/full"
    done = subprocess.run(["bash", "-c", command], env=BUFFERED)
    assert done.returncode == 0


@pytest.mark.parametrize("output", ["| true", ">/dev/full"])
def test_what_was_wrong_is_said_though_nobody_reads_the_output(output):
    done = tinydiff(f"sample none {output}")
    assert done.returncode == cli.BAD_INPUT and done.stderr == b"tinydiff: checkpoint none does not exist\n"


NAME = os.fsdecode(b"it's caf\xc3\xa9\n\x1b[31m\xff")  # \xff is no text


@pytest.mark.parametrize(
    "environment, shown",
    [
        ({}, r"it's café\n\x1b[31m\udcff"),
        (ASCII, r"it's caf\udcc3\udca9\n\x1b[31m\udcff"),
        ({"PYTHONIOENCODING": "ascii"}, r"it's caf\xe9\n\x1b[31m\udcff"),
    ],
    ids=["utf-8", "C", "ascii"],
)
def test_names_are_shown_with_escapes_and_what_was_written_as_written(tmp_path, environment, shown):
    checkpoints.save(tmp_path / "a.safetensors", checkpoint())
    quoted = terminal.shell_words([NAME])
    done = tinydiff(f"export a.safetensors {quoted}", cwd=tmp_path, **environment)
    told = "the parameters and the noise schedule, without the optimizer's state"
    assert done.stdout.decode() == f"wrote {shown}: {told}\n" and done.returncode == 0 and done.stderr == b""
    assert (tmp_path / NAME / "config.json").exists()

    done = tinydiff(f"import {quoted}", cwd=tmp_path, **environment)
    path = f"runs/{shown}/checkpoints/step-0000000.safetensors"
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith(f"wrote {path}: U-Net") and done.returncode == 0 and done.stderr == b""
    assert lines[-1].startswith("to draw: ")
    draw = lines[-1].partition("tinydiff ")[2]
    done = tinydiff(f"{draw} --steps 1 --count 1 --backend numpy --out {quoted}.png", cwd=tmp_path, **environment)
    assert done.returncode == 0 and (tmp_path / f"{NAME}.png").exists(), done.stderr
    assert done.stdout.startswith(b"wrote ") and done.stderr == b""

    done = tinydiff(f"sample {quoted}.none", cwd=tmp_path, **environment)
    assert done.returncode == cli.BAD_INPUT
    assert done.stderr.decode() == f"tinydiff: checkpoint {shown}.none does not exist\n"


def test_one_line():
    assert terminal.one_line("a b\té\n\x1b[0m\udcff") == r"a b\té\n\x1b[0m\udcff"
    assert terminal.shell_words(["a", "b c", "it's", "x\ny'\\"]) == r"""a 'b c' 'it'"'"'s' $'x\x0ay\x27\x5c'"""


@pytest.mark.skipif(terminal.fcntl is None, reason="pipes cannot be asked what they hold")
def test_waiting_until_a_pipe_was_read(tmp_path):
    end, start = os.pipe()
    with open(start, "w") as stream, open(tmp_path / "file", "w") as file:
        terminal.wait_until_read(stream, patience=60)  # it holds nothing
        stream.write("words")
        stream.flush()
        begin = time.monotonic()
        terminal.wait_until_read(stream, patience=0.2)
        assert time.monotonic() - begin >= 0.2
        is_reading = threading.Event()
        threading.Timer(0.2, lambda: (is_reading.set(), os.read(end, 100))).start()
        terminal.wait_until_read(stream, patience=60)
        assert is_reading.is_set()
        file.write("words")
        file.flush()
        terminal.wait_until_read(file, patience=60)
        terminal.wait_until_read(None, patience=60)
    os.close(end)


def test_its_own_command_is_what_a_shell_would_find(tmp_path, monkeypatch):
    def installed(folder):
        folder.mkdir(parents=True)
        for name in ("python", "tinydiff"):
            (folder / name).touch(0o755)
        return folder

    here, other = installed(tmp_path / "my venv" / "bin"), installed(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(here / "python"))
    for path, shown in (
        (here, "tinydiff sample 7"),  # activated
        (tmp_path, "'my venv/bin/tinydiff' sample 7"),
        (other, "'my venv/bin/tinydiff' sample 7"),  # that of another installation
    ):
        monkeypatch.setenv("PATH", str(path))
        assert terminal.own_command("sample", 7) == shown
    monkeypatch.chdir(other)
    assert terminal.own_command("sample") == f"'{here}/tinydiff' sample"
    (here / "tinydiff").unlink()
    assert terminal.own_command("sample") == "tinydiff sample"  # as a user's installation has it
    monkeypatch.setenv("PATH", str(tmp_path))
    assert terminal.own_command("sample") == f"'{here}/python' -m tinydiff sample"
