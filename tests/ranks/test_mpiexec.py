"""Processes under mpiexec: what they leave behind, and how they end when one of them does."""

import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.data import idx
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.folder import read_metrics

pytest.importorskip("mpi4py")
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
if MPIEXEC is None:
    pytest.skip("there is no mpiexec: pip install 'tinydiff[mpi]'", allow_module_level=True)

PATIENCE = 120  # seconds
SMALL = ["--channels", "4,8", "--groups", "2", "--attention-levels", "1", "--film", "on", "--head-width", "8"]
SMALL += ["--batch", "8", "--parts", "4", "--noise-steps", "5", "--label-dropout", "0.3", "--clip", "0.5"]
SMALL += ["--steps", "80", "--no-pictures", "--checkpoint-every", "5", "--precision", "fp32"]
ALONE = [sys.executable, "-m", "tinydiff"]
NUMBERS = itertools.count()


def on(size, *arguments, under=False):
    """The command line of so many ranks; one is a process alone, unless it is to be ``under`` mpiexec."""
    return [MPIEXEC, "-n", str(size), *ALONE, *arguments] if size > 1 or under else [*ALONE, *arguments]


def start(command):
    mark = {"TINYDIFF_TEST": str(next(NUMBERS))}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | mark
    )
    process.mark = mark
    return process


def finish(process):
    try:
        out, error = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, out, error


def said(error):
    """What tinydiff says of it."""
    return [line for line in error.splitlines() if line.startswith("tinydiff: ")]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for path in idx.write(folder, n=200):
        (folder / path.name.replace("train", "t10k")).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def train(data_dir):
    def train(size, out, *more, resume=False, backend="cpu", others=()):
        """The process of a run, or mpiexec's. ``others`` are arguments that the last rank has beside those of all."""
        arguments = ["--resume", out] if resume else [*SMALL, "--out", out]
        arguments = ["train", *arguments, "--data-dir", data_dir, "--backend", backend, *more]
        last = [":", "-n", "1", *ALONE, *arguments, *others] if others else []
        return start(list(map(str, [*on(size - bool(others), *arguments, under=bool(others)), *last])))

    return train


@pytest.fixture(scope="module")
def one(train, tmp_path_factory):
    """The run of one process."""
    out = tmp_path_factory.mktemp("one") / "run"
    status, _, error = finish(train(1, out))
    assert status == 0, error
    return out


def left_behind(out):
    """The last checkpoint's bytes, which are of parameters, moments and average, and the metrics'."""
    newest = checkpoints.saved(Path(out) / "checkpoints")[-1]
    return newest.name, newest.read_bytes(), (Path(out) / "metrics.jsonl").read_bytes()


def wait_for_steps(process, out, steps):
    while len(read_metrics(Path(out) / "metrics.jsonl")) < steps:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def ranks_of(process):
    """{rank: process id} of what mpiexec started; a process alone is rank 0."""
    return {rank: min(pids) for rank, pids in with_those_beside(process).items()}


def with_those_beside(process):
    """{rank: (its process id, that of the one beside it, ``last_words``, which came later)}."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            lines = (place / "environ").read_text(errors="replace").split("\0")
            words = (place / "cmdline").read_text(errors="replace").split("\0")
        except OSError:
            continue
        environment = dict(line.partition("=")[::2] for line in lines)
        if words[1:3] == ALONE[1:] and process.mark.items() <= environment.items():
            rank = int(environment.get("PMI_RANK", 0))
            found[rank] = tuple(sorted((*found.get(rank, ()), int(place.name))))
    return found


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_leave_the_bits_of_one_process(train, one, tmp_path, size):
    status, out, error = finish(train(size, tmp_path / "run"))
    assert status == 0, error
    assert left_behind(tmp_path / "run") == left_behind(one)
    assert f"{size} ranks, {4 // size} of 4 parts of a batch each" in out
    assert out.count("to draw more:") == 1  # rank 0 alone speaks


def test_numpy_too(train, tmp_path):
    for size in (1, 2):
        status, _, error = finish(train(size, tmp_path / f"{size}", "--steps", "10", backend="numpy"))
        assert status == 0, error
    assert left_behind(tmp_path / "1") == left_behind(tmp_path / "2")


def test_killed_and_resumed_on_other_numbers_of_ranks(train, one, tmp_path):
    out = tmp_path / "run"
    for size, steps in ((4, 7), (1, 30)):
        process = train(size, out, resume=steps > 7)
        wait_for_steps(process, out, steps)
        for pid in ranks_of(process).values():
            os.kill(pid, signal.SIGKILL)
        finish(process)
        assert 0 < checkpoints.number(checkpoints.saved(out / "checkpoints")[-1]) < 80
    status, _, error = finish(train(2, out, resume=True))
    assert status == 0, error
    assert left_behind(out) == left_behind(one)


@pytest.mark.parametrize(
    "whom, number", [("mpiexec", signal.SIGINT), ("mpiexec", signal.SIGTERM), (0, signal.SIGTERM), (1, signal.SIGTERM)]
)
def test_a_signal_to_one_stops_all_after_the_same_step(train, one, tmp_path, whom, number):
    out = tmp_path / "run"
    process = train(2, out)
    wait_for_steps(process, out, 6)
    pid = process.pid if whom == "mpiexec" else ranks_of(process)[whom]
    os.kill(pid, number)
    _, printed, error = finish(process)
    assert "stopped at step" in printed and not said(error), error
    step = checkpoints.number(checkpoints.saved(out / "checkpoints")[-1])
    assert 6 <= step < 80 and len(read_metrics(out / "metrics.jsonl")) == step
    status, _, error = finish(train(1, out, resume=True))
    assert status == 0, error
    assert left_behind(out) == left_behind(one)


def test_minutes_stop_all(train, tmp_path):
    status, printed, error = finish(train(2, tmp_path / "run", "--minutes", "0.001"))
    assert status == 0 and "(minutes); to go on:" in printed, error


def test_a_killed_rank_ends_all(train, tmp_path):
    out = tmp_path / "run"
    process = train(4, out, "--steps", "100000")
    wait_for_steps(process, out, 12)
    ranks = ranks_of(process)
    os.kill(ranks[2], signal.SIGKILL)
    begun = time.monotonic()
    status, _, error = finish(process)
    [line] = said(error)
    assert line.startswith("tinydiff: rank 2 of 4, on ") and line.endswith(f"is gone: process {ranks[2]} was killed")
    assert status != 0 and time.monotonic() - begun < 20
    assert any(Path(f"/proc/{pid}").exists() for pid in ranks.values()) is False
    checkpoints.load(out)  # is whole


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="no system that queues the deaths of processes")
def test_the_rank_that_died_first_is_named_however_late_the_one_beside_it_wakes(train, tmp_path):
    process = train(4, tmp_path / "run", "--steps", "100000")
    wait_for_steps(process, tmp_path / "run", 12)
    rank, beside = with_those_beside(process)[2]
    os.kill(beside, signal.SIGSTOP)
    os.kill(rank, signal.SIGKILL)
    time.sleep(0.5)
    os.kill(beside, signal.SIGCONT)
    _, _, error = finish(process)
    assert [line.partition(" is gone: ")[2] for line in said(error)] == [f"process {rank} was killed"]


def test_an_error_on_one_rank_ends_all_and_names_it(train, tmp_path):
    out = tmp_path / "run"
    status, _, error = finish(train(2, out, others=("--data-dir", tmp_path / "nowhere")))
    [line] = said(error)
    assert status == 2 and line.startswith("tinydiff: rank 1 of 2, on ") and "nowhere" in line


def test_a_loss_that_is_not_finite_is_said_once(train, tmp_path):
    status, _, error = finish(train(2, tmp_path / "run", "--learning-rate", "1e30", "--warmup-steps", "0"))
    [line] = said(error)
    assert status == 2 and " the first tensor that is not finite is " in line and ", in part 0 of 4 (rank 0)" in line


@pytest.mark.parametrize(
    "more, others, message",
    [
        (("--parts", "3", "--batch", "9"), (), "parts must be a multiple of the number of ranks, 2, got 3"),
        (("--batch", "9"), (), "batch must be a multiple of parts, 4, got 9"),
        ((), ("--seed", "1"), "all ranks must have the same seed, got 1 on rank 1, 0 on rank 0"),
        (
            (),
            ("--channels", "4,16"),
            "all ranks must have the same model.channels, got (4, 16) on rank 1, (4, 8) on rank 0",
        ),
        ((), ("--backend", "numpy"), "all ranks must have the same backend, got numpy on rank 1, cpu on rank 0"),
    ],
)
def test_bad_input_is_said_once(train, tmp_path, more, others, message):
    status, _, error = finish(train(2, tmp_path / "run", *more, others=others))
    assert status == 2 and said(error) == [f"tinydiff: {message}"], error
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_without_mpi4py(train, tmp_path, monkeypatch):
    (tmp_path / "mpi4py.py").write_text("raise ImportError('none here')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    status, _, error = finish(train(2, tmp_path / "run"))
    assert status == 2
    assert said(error) == ["tinydiff: 2 processes need mpi4py and MPI: pip install 'tinydiff[mpi]' (none here)"]


def test_under_the_mpiexec_of_another_mpi(train, tmp_path, monkeypatch):
    """Which says so in its own way, so that the MPI at hand finds each process alone."""
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    status, _, error = finish(train(1, tmp_path / "run"))
    [line] = said(error)
    assert status == 2 and "the launcher started 2 processes, of which MPI (MPICH" in line and "sees 1" in line


def test_a_folder_that_only_rank_0_can_see(train, one, tmp_path):
    out = tmp_path / "run"
    status, _, error = finish(train(2, out, others=("--out", "/proc/nowhere/run")))
    assert status == 0, error
    assert left_behind(out) == left_behind(one)


def test_sample_and_evaluate_give_the_same_on_any_number(one, data_dir, tmp_path, monkeypatch):
    made = {}
    for size in (1, 2, 3):
        folder = tmp_path / str(size)
        folder.mkdir()
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))  # what is kept of the training images is made by each
        drawing = [one, "--steps", "2", "--seed", "3", "--backend", "cpu"]
        evaluating = [*drawing, "--samples", "180", "--data-dir", data_dir, "--json", folder / "results.json"]
        for arguments in (
            ["sample", *drawing, "--count", "20", "--out", folder / "drawn.png"],
            ["evaluate", *evaluating],
        ):
            status, _, error = finish(start(list(map(str, on(size, *arguments)))))
            assert status == 0, error
        made[size] = (folder / "drawn.png").read_bytes(), json.loads((folder / "results.json").read_text())
    assert made[1] == made[2] == made[3]


def test_info_says_who_is_there():
    status, printed, error = finish(start(on(2, "info")))
    assert status == 0, error
    lines = [line for line in printed.splitlines() if line.startswith("rank ")]
    assert [line.partition(":")[0] for line in lines] == ["rank 0 of 2", "rank 1 of 2"]
    assert all("thread" in line and "MPI (MPICH" in line for line in lines)
