"""How many threads the cpu backend uses: what the system allows, what a person asks for, and how it all ends."""

import os
import subprocess
import sys

import pytest

from tests.checks import backend_or_skip
from tests.test_install import ROOT
from tinydiff import cli
from tinydiff.backends import cores

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what Linux does")


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    backend_or_skip("cpu")
    from tinydiff.backends import cpu

    for name in ("TINYDIFF_THREADS", "TINYDIFF_INSTRUCTION_SET"):
        monkeypatch.delenv(name, raising=False)
    before = cpu.instruction_set(), cpu.threads()
    yield cpu
    cpu.use_instruction_set(before[0])
    cpu.use_threads(before[1])


def end_of(program):
    """(exit status, stdout, stderr) of a Python program that has the cpu backend, and x to compute with."""
    start = "import numpy as np\nfrom tinydiff import backends\nfrom tinydiff.backends import cpu\n"
    start += "backend, x = backends.get('cpu'), np.ones((8, 28, 28, 32), np.float32)\n"
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", start + program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


TOO_MANY = """
import resource
cpu.use_threads(1)
y, _ = backend.silu.forward(x)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (30 << 20),) * 2)
for count in (1024, 1023):
    cpu.use_threads(count)
    assert np.array_equal(backend.silu.forward(x)[0], y) and 1 <= cpu.threads() < 100
"""


@LINUX
def test_where_threads_cannot_be_made_fewer_do_the_work():
    status, _, said = end_of(TOO_MANY)
    assert status == 0, said
    [line] = said.splitlines()  # once, however often it happens
    assert line.startswith("tinydiff: ") and " of 1024 threads could be made (" in line


DAEMON = """
import threading, time
captured = backend.capture(lambda: [backend.silu.forward(x)[0] for _ in range(500)][-1])  # looks for signals meanwhile
def compute():
    while True:
        {work}
for _ in range(3):
    threading.Thread(target=compute, daemon=True).start()
time.sleep(0.2)
"""


@pytest.mark.parametrize("work", ["backend.silu.forward(x)", "captured()"])
def test_a_program_may_end_while_its_daemon_threads_compute(work):
    for _ in range(3):
        assert end_of(DAEMON.replace("{work}", work)) == (0, "", "")


def test_what_is_asked_for(cpu, monkeypatch):
    cpu.use_threads(2)
    monkeypatch.setenv("TINYDIFF_THREADS", "3")
    monkeypatch.setenv("TINYDIFF_INSTRUCTION_SET", "baseline")
    assert cpu.CpuBackend().describe().startswith("C++ kernels for baseline") and cpu.threads() == 3
    monkeypatch.setenv("TINYDIFF_THREADS", "")
    monkeypatch.setenv("TINYDIFF_INSTRUCTION_SET", "")
    cpu.CpuBackend()
    assert cpu.threads() == 3 and cpu.instruction_set() == "baseline"  # as if unset: nothing changes


@pytest.mark.parametrize("count", ["0", "-1", "two", "1.5", "²", " ", "1025", "9" * 5000])
def test_a_number_of_threads_that_is_none_is_one_line(count, monkeypatch, capsys):
    monkeypatch.setenv("TINYDIFF_THREADS", count)
    assert cli.main(["info"]) == 2
    expected = f"tinydiff: TINYDIFF_THREADS must be a number of threads in 1 .. 1024, got {count!r}\n"
    assert capsys.readouterr().err == expected


def test_an_instruction_set_that_is_none_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("TINYDIFF_INSTRUCTION_SET", "mmx")
    assert cli.main(["info"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("tinydiff: TINYDIFF_INSTRUCTION_SET must be one of baseline, ") and said.endswith("'mmx'\n")
    assert said.count("\n") == 1


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


V1_NO_LIMIT = dict(cpu__cfs_quota_us=-1, cpu__cfs_period_us=100_000)


@pytest.mark.parametrize(
    "groups, files, share",
    [
        ("0::/", {}, None),
        ("0::/", {"": dict(cpu__max="max 100000")}, None),
        ("0::/", {"": dict(cpu__max="200000 100000")}, 2),  # in a container, its own group is the root
        ("0::/", {"": dict(cpu__max="210000 100000")}, 3),  # rounded up
        ("0::/", {"": dict(cpu__max="1000 100000")}, 1),
        ("0::/", {"": dict(cpu__max="nonsense")}, None),
        ("0::/", {"": dict(cpu__max="")}, None),
        ("0::/a/b", {"a": dict(cpu__max="200000 100000"), "a/b": dict(cpu__max="400000 100000")}, 2),
        ("0::/a/b", {"a": dict(cpu__max="400000 100000"), "a/b": dict(cpu__max="max 100000")}, 4),
        ("0::/a/b", {"a/b/c": dict(cpu__max="100000 100000"), "b": dict(cpu__max="100000 100000")}, None),
        ("0::/of/the/host", {"": dict(cpu__max="300000 100000")}, 3),  # which the container does not see
        ("0::/../other", {}, None),
        ("4:cpu,cpuacct:/", {"cpu": V1_NO_LIMIT}, None),
        ("4:cpu,cpuacct:/", {"cpu": dict(cpu__cfs_quota_us=150_000, cpu__cfs_period_us=50_000)}, 3),
        ("4:cpu,cpuacct:/", {"cpu,cpuacct": dict(cpu__cfs_quota_us=150_000, cpu__cfs_period_us=50_000)}, 3),
        ("4:cpu:/a/b", {"cpu/a": dict(cpu__cfs_quota_us=50_000, cpu__cfs_period_us=50_000), "cpu/a/b": V1_NO_LIMIT}, 1),
        ("4:cpuset:/", {"cpuset": dict(cpu__cfs_quota_us=50_000, cpu__cfs_period_us=50_000)}, None),
        ("4:cpu:/", {"cpu": dict(cpu__cfs_quota_us=50_000, cpu__cfs_period_us=0)}, None),
        ("9:name=systemd:/a\n1:cpu:/a\n0::/b", {"unified/b": dict(cpu__max="700000 100000"), "cpu": V1_NO_LIMIT}, 7),
        ("no such line", {}, None),
    ],
)
def test_the_share_of_a_control_group(tmp_path, groups, files, share):
    write(tmp_path / "proc", cgroup=groups)
    for folder, texts in files.items():
        write(tmp_path / "cgroup" / folder, **texts)
    assert cores.share_of_cores(tmp_path / "proc", tmp_path / "cgroup") == share


def test_without_control_groups(tmp_path):
    assert cores.share_of_cores(tmp_path, tmp_path) is None


@pytest.mark.parametrize("share, usable", [(None, 5), (3, 3), (8, 5), (1, 1)])
def test_a_share_counts_as_cores_do(share, usable, monkeypatch):
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda pid: set(range(5)), raising=False)
    monkeypatch.setattr(cores, "share_of_cores", lambda: share)
    assert cores.usable_cores() == usable


@LINUX
def test_as_many_threads_as_cores():
    program = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    program += "from tinydiff.backends import cpu; print(cpu.threads())"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
