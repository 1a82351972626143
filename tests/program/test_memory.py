"""The memory that is told before training is what training then takes."""

import dataclasses
import gc
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tests.checks import backend_or_skip
from tests.train import tiny
from tinydiff import backends, cli
from tinydiff.backends import metered
from tinydiff.data.dataset import Dataset
from tinydiff.program import memory
from tinydiff.train import Trainer

ROOT = Path(__file__).parents[2]
GLIBC = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux says what is resident")
BETWEEN = 0.9, 1.1  # the promise
MB_OF_KERNELS = 12  # at most, with one thread


def larger(**changes):
    """A run of a network a little larger than the smallest, so that little things do not count."""
    return tiny.trainer(model=dict(channels=(16, 32), groups=8), **changes).config


def traced(config, backend):
    """The most bytes that a training step holds beside what there is before, as Python counts them."""
    trainer = Trainer(config, tiny.dataset(), backend)
    trainer.train_step()
    gc.collect()
    tracemalloc.start()
    try:
        trainer.train_step()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def in_arrays(need):
    """The bytes of a step that arrays hold, of what is told for where the C library keeps them."""
    return (need.state + need.step) / memory.GAPS - need.state


@pytest.mark.parametrize("changes", [{}, dict(batch=32), dict(batch=32, parts=4), dict(batch=1)], ids=str)
def test_a_step_of_numpys_takes_what_was_told(changes):
    backend, config = backends.get("numpy"), larger(**changes)
    need = memory.of_training(config, backend, tiny.dataset())
    waiting = (config.parts - 1).bit_length() * 4 * need.parameters  # counted with the state
    low, high = BETWEEN
    assert low < (in_arrays(need) + waiting) / traced(config, backend) < high
    assert need.copied == 0 and need.images == tiny.dataset().images.nbytes + 8 * 40


def test_what_python_keeps_from_the_first_time_on_is_not_told():
    kept = {}

    def step(backend, n):
        x = np.ones((n, 1000), np.float32)

        def run():
            if n not in kept:
                kept[n] = bytearray(10**6)
            backend.silu.forward(x)

        return run

    assert 8 * 4000 < metered.peak(step)(8) < 10**5


@pytest.mark.parametrize("precision", backends.PRECISIONS)
def test_a_step_of_the_emulator_takes_what_was_told(precision):
    """What more samples take, as Python's own objects count for something in so small a step."""
    backend = backend_or_skip("emulator", precision)
    told, found = [], []
    for batch in (1, 8):
        told.append(in_arrays(memory.of_training(larger(batch=batch), backend, tiny.dataset())))
        found.append(traced(larger(batch=batch), backend))
    low, high = BETWEEN
    assert low < (told[1] - told[0]) / (found[1] - found[0]) < high


@pytest.mark.parametrize("precision", backends.PRECISIONS)
@pytest.mark.parametrize("parts", [1, 4])
def test_on_a_cpu_it_is_the_plan_of_the_program_that_follows(precision, parts):
    backend = backend_or_skip("cpu", precision)
    config = larger(parts=parts)
    need, trainer = memory.of_training(config, backend, tiny.dataset()), Trainer(config, tiny.dataset(), backend)
    assert trainer.program.arena < need.step <= trainer.program.arena + MB_OF_KERNELS * 10**6
    assert need.parameters == trainer.parameters.count
    copies = 5 + (parts - 1).bit_length()  # of 4 bytes a parameter
    rounded = 2 * trainer.parameters.decayed if precision == "bf16" else 0
    assert 0 <= need.state - 4 * copies * need.parameters - rounded < 10_000


MEASURED = """
import ctypes, gc, re, sys
from pathlib import Path
sys.path.insert(0, {root!r})
import numpy as np
from tests.program.test_memory import of_case
from tinydiff import backends
from tinydiff.program import memory
from tinydiff.train import Trainer

def resident(field):
    return 1024 * int(re.search(field + r":\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])

backend = backends.get({name!r}, {precision!r})
config, dataset = of_case("tiny")
Trainer(config, dataset, backend).train_step()
config, dataset = of_case({case!r})
need = memory.of_training(config, backend, dataset)
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
trainer = Trainer(config, dataset, backend)
trainer.train_step(), trainer.train_step()
print(need.state + need.step, resident("VmHWM") - before)
"""


def of_case(case):
    """A configuration and images for it."""
    config = larger()
    if case != "tiny":
        model = dataclasses.replace(config.model, size=16, image_channels=3, channels=(64, 96))
        config = dataclasses.replace(config, model=model, batch=32)
    shape = config.model.shape
    return config, Dataset(config.data, np.zeros((64, *shape), np.uint8), np.arange(64) % 2, 2)


@GLIBC
@pytest.mark.parametrize("name, precision", [("cpu", "fp32"), ("cpu", "bf16"), ("numpy", "fp32")])
def test_what_a_process_holds_then(name, precision):
    """Resident memory of a process in which nothing else happens."""
    backend_or_skip(name, precision)
    program = MEASURED.format(root=str(ROOT), name=name, precision=precision, case="images of 16x16x3")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    told, found = map(int, done.stdout.split())
    low, high = BETWEEN
    assert low < told / found < high, (told, found)


def test_memory_on_a_gpu_is_that_of_pools():
    """Nothing is run, so no GPU is needed; images are copied there, and a captured graph takes more than what is held
    at one time."""
    config = larger()
    gpu = GpuWithout()
    need = memory.of_training(config, gpu, tiny.dataset())
    emulator = memory.of_training(config, backend_or_skip("emulator"), tiny.dataset())
    assert need.copied == need.images and need.state > emulator.state
    held = in_arrays(emulator)
    assert held < need.step < 1.4 * held and need.pictures > 0


class GpuWithout:
    """What is asked of the cuda backend before there is anything on it."""

    name, precision = "cuda", "fp32"

    def __init__(self, free=None):
        self._free = free

    def free_memory(self):
        return self._free

    def has_room_for(self, nbytes):
        return True


def run_with(monkeypatch, tmp_path, free, *arguments):
    monkeypatch.setattr("tinydiff.backends.host_memory.available", lambda: free)
    arguments = ["train", "--data", "strokes", "--steps", "1", "--channels", "8,16", "--groups", "4", *arguments]
    return cli.main([*arguments, "--no-pictures", "--batch", "32", "--out", str(tmp_path / "run")])


@pytest.fixture
def few_strokes(monkeypatch):
    from tinydiff.data import strokes

    load = strokes.load
    monkeypatch.setattr(strokes, "load", lambda: load(64))


@pytest.mark.usefixtures("few_strokes")
@pytest.mark.parametrize("name", ["cpu", "numpy"])
def test_it_is_told_before_the_first_step(monkeypatch, tmp_path, capsys, name):
    backend_or_skip(name)
    steps = []
    step = Trainer.train_step
    monkeypatch.setattr(Trainer, "train_step", lambda self: (steps.append(capsys.readouterr().out), step(self))[1])
    assert run_with(monkeypatch, tmp_path, 10**10, "--backend", name) == 0
    [line] = [line for line in steps[0].splitlines() if line.startswith("memory: ")]
    assert " parameters, their gradients, average and two moments, " in line
    assert line.endswith(" for a step, beside 50.7 kB of images; 10 GB are free")


@pytest.mark.usefixtures("few_strokes")
def test_too_little_is_refused_before_anything_is_written(monkeypatch, tmp_path, capsys):
    backend_or_skip("cpu")

    def refused(free, *arguments):
        assert run_with(monkeypatch, tmp_path, free, "--backend", "cpu", *arguments) == cli.BAD_INPUT
        assert not (tmp_path / "run").exists()
        error = capsys.readouterr().err
        assert error.startswith("tinydiff: training in steps of ") and error.count("\n") == 1
        return error

    said = refused(8 * 10**6)
    assert "steps of 32 images needs " in said and "8 MB are free" in said and "smaller --batch" in said
    parts = int(said.partition("--parts ")[2].split()[0])
    assert parts > 1 and run_with(monkeypatch, tmp_path, 8 * 10**6, "--backend", "cpu", "--parts", str(parts)) == 0
    half = [n for n in (2, 4, 8, 16, 32) if n < parts]
    (tmp_path / "run").rename(tmp_path / "other")
    for fewer in half:  # it was the smallest number that fits
        refused(8 * 10**6, "--parts", str(fewer))
    assert "--parts does not help, but narrower --channels" in refused(10**5)


@pytest.mark.usefixtures("few_strokes")
def test_a_run_that_goes_on_says_that_its_parts_stay(monkeypatch, tmp_path, capsys):
    assert run_with(monkeypatch, tmp_path, 10**10, "--steps", "2", "--minutes", "1e-9") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    monkeypatch.setattr("tinydiff.backends.host_memory.available", lambda: 10**6)
    assert cli.main(["train", "--resume", str(tmp_path / "run"), "--no-pictures"]) == cli.BAD_INPUT
    assert "goes on with the batch and the parts that it began with" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_ranks_share_what_a_machine_has(monkeypatch):
    backend, config = backend_or_skip("cpu"), larger()
    need = memory.of_training(config, backend, tiny.dataset())
    monkeypatch.setattr("tinydiff.backends.host_memory.available", lambda: int(1.5 * need.total))
    assert memory.expect_enough(config, backend, tiny.dataset())[0].total == pytest.approx(need.total, rel=0.01)

    class TwoHere(memory.alone().__class__):
        local_size = 2

    with pytest.raises(ValueError, match="training in steps of 8 images needs .* are free; --parts "):
        memory.expect_enough(config, backend, tiny.dataset(), ranks=TwoHere())
    monkeypatch.setattr("tinydiff.backends.host_memory.available", lambda: None)
    assert memory.expect_enough(config, backend, tiny.dataset(), ranks=TwoHere())[1] is None
