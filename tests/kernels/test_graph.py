"""Captured work is the work itself: on a stand-in for CuPy that runs kernels by the emulator and replays graphs."""

import gc

import numpy as np
import pytest

from tests.checks import backend_or_skip
from tests.kernels.fake_cupy import FakeCupy
from tests.train import tiny
from tinydiff.backends import PRECISIONS, launchers
from tinydiff.backends.cuda import CudaBackend
from tinydiff.backends.graph import WARM_UPS
from tinydiff.samplers import SAMPLERS
from tinydiff.train import Trainer


@pytest.fixture
def cupy():
    return FakeCupy(run=backend_or_skip("emulator").launcher.launch)


@pytest.fixture
def backend(cupy):
    return CudaBackend("cuda", launcher=launchers.CupyLauncher(cupy))


def trainer(backend, model=None, **options):
    return Trainer(tiny.trainer(model=model, batch=4).config, tiny.dataset(10), backend, **options)


@pytest.mark.parametrize("model", [{}, {"film": True}, {"classes": 0}], ids=str)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_captured_training_is_training(cupy, precision, model):
    backend = CudaBackend("cuda", precision, launchers.CupyLauncher(cupy))
    captured, plain = trainer(backend, model), trainer(backend_or_skip("emulator", precision), model)
    steps = WARM_UPS + 3
    assert [captured.train_step() for _ in range(steps)] == [plain.train_step() for _ in range(steps)]
    assert tiny.state(captured) == tiny.state(plain)
    [graph] = cupy.graphs
    assert graph.replays == steps - WARM_UPS


def test_a_step_need_not_be_captured(cupy, backend):
    captured, plain = trainer(backend), trainer(backend, captured=False)
    assert [captured.train_step() for _ in range(4)] == [plain.train_step() for _ in range(4)]
    assert len(cupy.graphs) == 1


def test_a_captured_run_resumes_to_the_same_bits(backend):
    straight, first = trainer(backend), trainer(backend)
    metrics = [straight.train_step() for _ in range(7)]
    before = [first.train_step() for _ in range(4)]
    second = trainer(backend)
    second.restore(first.checkpoint())
    assert before + [second.train_step() for _ in range(3)] == metrics
    assert tiny.state(second) == tiny.state(straight)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_captured_trajectory_is_the_trajectory(cupy, backend, sampler):
    captured, plain = (
        trainer(each).trajectory(3, sampler=sampler, steps=3, guidance=1.5)
        for each in (backend, backend_or_skip("emulator"))
    )
    requests = [dict(labels=[0, 1, seed % 3], seed=seed, first=10 * seed) for seed in range(WARM_UPS + 2)]
    requests[-1]["seed"] = 2**64 - 1
    for request in requests:
        assert np.array_equal(captured.draw(**request).get(), plain.draw(**request))
    [graph] = cupy.graphs
    assert graph.replays == len(requests) - WARM_UPS


def test_a_captured_trajectory_sees_what_the_parameters_have_become(backend):
    captured, plain = trainer(backend), trainer(backend_or_skip("emulator"))
    draws = [each.trajectory(2, steps=2).draw for each in (captured, plain)]
    for _ in range(WARM_UPS + 1):
        captured.train_step(), plain.train_step()
        images, expected = (draw([0, 1]) for draw in draws)
        assert np.array_equal(images.get(), expected)


MISTAKES = {
    "waits": (lambda cupy, x: cupy.cuda.get_current_stream().synchronize(), "to wait for a stream within a capture"),
    "looks at a value": (lambda cupy, x: float(x[0]), "to copy to the host within a capture"),
    "decides by a value": (lambda cupy, x: x if x[0] > 0 else -x, "to copy to the host within a capture"),
    "copies to the host": (lambda cupy, x: x.get(), "to copy to the host within a capture"),
    "copies from the host": (lambda cupy, x: x + cupy.asarray(np.ones(4)), "to copy from the host within a capture"),
    "mixes in an array of the host": (lambda cupy, x: x + np.ones(4), "Unsupported type"),
    "takes memory elsewhere": (lambda cupy, x: elsewhere(cupy), "memory of another pool within a capture"),
    "compiles": (lambda cupy, x: cupy.RawModule("", ()), "to compile within a capture"),
}


def elsewhere(cupy):
    with cupy.cuda.using_allocator(cupy.default_pool.malloc):
        return cupy.empty(3)


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_within_a_capture_is_found(cupy, backend, what):
    mistake, message = MISTAKES[what]
    x, calls = backend.zeros(4), []

    def step():
        calls.append(1)
        return mistake(cupy, x) if len(calls) > WARM_UPS else x

    captured = backend.capture(step)
    for _ in range(WARM_UPS):
        captured()
    with pytest.raises((AssertionError, TypeError), match=message):
        captured()
    assert (x + 1).get().tolist() == [1] * 4  # and work goes on


def test_a_number_that_changes_outside_an_array_is_frozen_by_the_capture(backend):
    """What ``capture`` warns of; the reason why the learning rate lies in an array."""
    x, number = backend.zeros(1), [0]
    captured = backend.capture(lambda: x + number[0])
    seen = []
    for number[0] in range(WARM_UPS + 3):
        seen.append(float(captured()[0]))
    assert seen == [0, 1, 2, 2, 2]


def test_a_graph_whose_pool_is_gone_would_be_found(cupy, backend):
    captured = backend.capture(lambda: backend.zeros(2) + 1)
    for _ in range(WARM_UPS + 1):
        captured()
    gc.collect()
    assert captured().get().tolist() == [1, 1]
    del captured._pool, captured._malloc
    gc.collect()
    with pytest.raises(AssertionError, match="the graph's memory pool is gone"):
        captured()


def test_a_stream_that_does_not_wait_would_be_found(cupy, backend):
    x = backend.zeros(2)
    with pytest.raises(AssertionError, match="a stream that did not wait for another"), cupy.cuda.Stream(True):
        x + 1


def test_memory_that_runs_out_within_a_step_is_explained(cupy, backend):
    def step():
        raise cupy.cuda.memory.OutOfMemoryError("Out of memory allocating 1,024 bytes")

    explained = backend.launcher.explaining(step)
    with pytest.raises(MemoryError, match=r"memory is full, 2.0 of 80.0 GB are free \(Out of .* 1,024 bytes\); a smal"):
        explained()
