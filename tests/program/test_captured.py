"""A program run by C++ has the bits of the function that it was recorded from."""

import inspect
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.checks import backend_or_skip, normal
from tests.kernels.rows import ROWS
from tests.program.functions import activation, assert_same, flat, of_sequence, sequences
from tests.train import tiny
from tinydiff.model.autoencoder import Autoencoder, AutoencoderConfig
from tinydiff.model.mlp import MLP, MLPConfig
from tinydiff.ops import OPS
from tinydiff.program.plan import lower_bound
from tinydiff.samplers import SAMPLERS, finish
from tinydiff.train import Trainer

RATIO = 1.1  # of the arena to the lower bound, at most
# needs 1.13 where what reaches the top is not moved to the front, and 1.11 without shuffled orders
HARD_TO_PLACE = 0, (1, 2, 3, 6), [("copy", 0, 0.0), ("silu", 0, 0.0), ("silu", 1, 0.0), ("scale", 0, 0.0)]
HARDER = (
    0,
    (1, 2, 3, 6),
    [(step, which, 0.0) for step, which in zip(("copy", "scale", "clip", "clip", "scale"), (0, 1, 0, 1, 0))],
)


def expect_planned(program):
    program.check()
    bound = lower_bound([(each.first, each.last, each.room) for each in program.temporaries])
    assert program.arena <= RATIO * bound


def trainer(backend, model=None, captured=True, **changes):
    return Trainer(tiny.trainer(model=model, **changes).config, tiny.dataset(10), backend, captured=captured)


def stored(op, name, array):
    """An argument as the op takes it in a program."""
    return array if array is None else array.astype(np.int64 if array.dtype.kind == "i" else op.dtype(name))


@pytest.mark.parametrize("op", ROWS)
def test_every_op(in_both, op):
    """Forward and backward, at every size that is always compared, in every way the kernels can compute."""
    backend = in_both.backend
    thing = getattr(backend, op)
    for seed, sizes in enumerate(ROWS[op].always):
        inputs, options = ROWS[op].inputs(np.random.default_rng(seed), **sizes)
        names = inspect.signature(OPS[op].forward).parameters
        inputs = [stored(thing, name, each) for name, each in zip(names, inputs)]

        def function():
            made = thing.forward(*inputs, **options)
            if not hasattr(OPS[op], "backward"):
                return made
            y, cache = made
            return y, thing.backward(dy, cache)

        dy = 0.5
        if hasattr(OPS[op], "backward"):
            y, _ = thing.forward(*inputs, **options)
            dy = normal(seed, *y.shape).astype(y.dtype) if y.ndim else dy
        captured, frozen = backend.capture(function), backend.capture(function, frozen_weights=True)
        expect_planned(captured.program)
        for _ in in_both.each(threads=(1, 3)):
            assert_same(captured(), function())
            assert_same(frozen(), function())


@settings(max_examples=150)
@given(sequence=sequences())
@example(HARD_TO_PLACE)
@example(HARDER)
def test_random_sequences_of_ops(in_both, sequence):
    function = of_sequence(in_both.backend, *sequence)
    function()  # makes its weights
    captured, frozen = in_both.backend.capture(function), in_both.backend.capture(function, frozen_weights=True)
    expect_planned(captured.program)
    for _ in in_both.each(threads=(1, 3)):
        expected = flat(function())
        for _ in range(2):  # once more in the same arena
            assert_same(captured(), expected)
            assert_same(frozen(), expected)


models = st.fixed_dictionaries(
    dict(
        channels=st.sampled_from([(8,), (8, 16), (4, 8, 12)]),
        blocks=st.integers(1, 2),
        groups=st.sampled_from([1, 4]),
        attention_levels=st.sampled_from([(), (0,), (-1,)]),
        head_width=st.sampled_from([2, 4, 64]),
        classes=st.sampled_from([0, 2]),
        film=st.booleans(),
        downsample_padding=st.integers(0, 1),
        positions=st.integers(0, 2),
        dropout=st.sampled_from([0.0, 0.3]),
    )
)


@settings(max_examples=15)
@given(model=models, batch=st.integers(1, 5), flip=st.booleans(), seed=st.integers(0, 1000))
def test_random_networks_train_to_the_same_bits(in_both, model, batch, flip, seed):
    for _ in in_both.each(threads=(1, 3)):
        options = dict(batch=batch, flip=flip, seed=seed)
        one, other = (trainer(in_both.backend, model, captured, **options) for captured in (True, False))
        assert [one.train_step() for _ in range(2)] == [other.train_step() for _ in range(2)]
        assert tiny.state(one) == tiny.state(other)
    expect_planned(one.program)
    assert other.program is None


@settings(max_examples=15)
@given(
    model=models,
    sampler=st.sampled_from(sorted(SAMPLERS)),
    count=st.integers(1, 3),
    guidance=st.sampled_from([0, 1, 2.5]),
    steps=st.integers(1, 4),
)
def test_random_networks_draw_the_same_bits(in_both, model, sampler, count, guidance, steps):
    trajectory = trainer(in_both.backend, model).trajectory(count, sampler=sampler, guidance=guidance, steps=steps)
    expect_planned(trajectory._run.program)
    for seed, _ in enumerate(in_both.each(threads=(1, 3))):
        request = dict(labels=[seed % (model["classes"] or 1)] * count, seed=2**63 + seed, first=seed)
        assert_same(trajectory.draw(**request), finish(trajectory.states(**request)))


def test_a_network_for_points(in_both):
    backend = in_both.backend
    model = MLP(MLPConfig(width=16, classes=3), backend)
    model.parameters.initialise(0)
    x, step = normal(0, 7, 2, dtype=np.float32), np.arange(7, dtype=np.float32)
    labels = np.arange(7) % 4

    def function():
        y, cache = model.forward(x, step, labels)
        return y, model.backward(y, cache), model.parameters.grads

    captured = backend.capture(function)
    expect_planned(captured.program)
    for _ in in_both.each(threads=(1, 3)):
        outputs = flat(captured())
        assert_same(outputs, function())


def test_an_autoencoder(in_both):
    """A training step of both halves, both losses; and encoding and decoding as for drawing."""
    backend = in_both.backend
    config = AutoencoderConfig(size=8, channels=(8, 16), groups=4, quant_conv=True, post_quant_conv=True)
    model = Autoencoder(config, backend)
    model.parameters.initialise(0)
    x, eps = (normal(i, 2, *shape, dtype=np.float32) for i, shape in enumerate((config.shape, config.latent_shape)))

    def function():
        y, cache = model.forward(x, eps)
        kl, kl_cache = backend.gaussian_kl.forward(cache.moments)
        loss, loss_cache = backend.l1_loss.forward(y, x)
        dy, _, _ = backend.l1_loss.backward(1.0, loss_cache, prediction_only=True)
        gradients = model.backward(dy, cache, backend.gaussian_kl.backward(1e-3, kl_cache))
        return y, kl, loss, gradients, model.parameters.grads, model.encode(x), model.decode(eps)

    captured = backend.capture(function)
    expect_planned(captured.program)
    for _ in in_both.each(threads=(1, 3)):
        outputs = flat(captured())
        assert_same(outputs, function())


def convolutions(backend, x, w, times):
    """A function that convolves so often with the same filters."""

    def function():
        y = x
        for _ in range(times):
            y, _ = backend.conv2d.forward(y, w, padding=1)
        return y

    return function


@pytest.mark.parametrize(
    "H, W, C, O", [(28, 28, 32, 32), (14, 14, 48, 48), (7, 7, 40, 40), (10, 9, 20, 24), (10, 10, 8, 8)]
)
def test_prepared_filters_are_the_filters(in_both, H, W, C, O):
    """In each form they take; and what they are is looked at in every run, unless they are frozen."""
    backend = in_both.backend
    arrays = normal(0, 1, H, W, C), normal(1, 3, 3, C, O) / C, normal(2, 1, 1, O, C) / O
    x, w, between = (activation(backend, each) for each in arrays)

    def function():
        y = x
        for _ in range(3):
            y = backend.conv2d.forward(backend.conv2d.forward(y, w, padding=1)[0], between)[0]
        return y

    captured, frozen = in_both.backend.capture(function), in_both.backend.capture(function, frozen_weights=True)
    for _ in in_both.each(threads=(1, 3)):
        for _ in range(2):
            expected = function()
            assert_same(captured(), expected)
            w *= -1
            assert_same(captured(), function())
            w *= -1
        assert_same(frozen(), expected)
        assert captured.load().prepared.nbytes == frozen.load().prepared.nbytes > w.nbytes
    w *= 2
    assert_same(frozen(), expected)
    assert_same(captured(), function())


def test_filters_that_the_program_changes_are_not_prepared(in_both):
    backend = in_both.backend
    x, flat_w = activation(backend, normal(0, 1, 7, 7, 16)), normal(1, 9 * 16 * 16 + 5, dtype=np.float32) / 16
    copy = None if backend.activations is None else activation(backend, flat_w)
    w = (flat_w if copy is None else copy)[5:].reshape(3, 3, 16, 16)
    moments = [np.zeros_like(flat_w) for _ in range(2)]
    rate, number, before = np.full(1, 0.1, np.float32), np.ones(1, np.int64), flat_w.copy()
    options = dict(learning_rate=rate, step_number=number, decayed=flat_w.size)

    def function():
        y, _ = backend.conv2d.forward(x, w, padding=1)
        backend.adamw.forward(flat_w, flat_w, *moments, None, copy, **options)
        return y, backend.conv2d.forward(y, w, padding=1)[0]

    captured = backend.capture(function, frozen_weights=True)
    found = flat(captured())
    flat_w[...] = before
    if copy is not None:
        copy[...] = before
    for each in moments:
        each[...] = 0
    assert_same(found, function())
    assert captured.load().prepared.nbytes == 64


def test_much_work_for_each_filter_needs_no_preparing(kernels):
    from tinydiff.backends import _cpu

    geometry = [28, 28, 32, 3, 3, 32, 1, 1, 28, 28, 0]
    for dtype in ("float32", "bfloat16"):
        assert _cpu.prepared_bytes(dtype, [1, *geometry]) > 0 == _cpu.prepared_bytes(dtype, [16, *geometry])


def test_the_inputs_may_change(kernels):
    x = np.ones((2, 3), np.float32)
    captured = kernels.backend.capture(lambda: kernels.backend.silu.forward(x)[0])
    for value in (1, 2, -3):
        x[...] = value
        assert_same(captured(), kernels.backend.silu.forward(x)[0])


def test_what_it_returns_is_overwritten_by_the_next_call(kernels):
    x = np.ones(3, np.float32)
    captured = kernels.backend.capture(lambda: kernels.backend.silu.forward(x)[0])
    first = captured()
    x[...] = 0
    assert captured() is first and first.tolist() == [0, 0, 0]


def test_a_number_that_changes_outside_an_array_is_frozen_by_the_capture(kernels):
    number = [0]
    captured = kernels.backend.capture(lambda: kernels.backend.zeros(1) + number[0])
    seen = []
    for number[0] in range(3):
        seen.append(float(captured()[0]))
    assert seen == [0, 0, 0]


def test_it_may_return_what_it_was_given(kernels):
    x = np.ones(3, np.float32)
    captured = kernels.backend.capture(lambda: (x, kernels.backend.silu.forward(x)[0], None, "word"))
    same, y, nothing, word = captured()
    assert same is x and y.shape == (3,) and nothing is None and word == "word"


def test_what_is_never_written_has_a_place_too(kernels):
    backend, x = kernels.backend, np.ones(3, np.float32)
    captured = backend.capture(lambda: (backend.silu.forward(x)[0], backend.empty((5, 7))))
    y, unwritten = captured()
    assert unwritten.shape == (5, 7) and not np.shares_memory(y, unwritten)
    with pytest.raises(ValueError, match="the output output.1 is never written"):
        captured.program.check()


special = st.sampled_from([0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-45, -1e-40, 3e38, 0.1])


@given(
    values=st.lists(st.tuples(special, special), min_size=1, max_size=70),
    number=special,
    low=st.sampled_from([-1.0, 0.0]),
)
def test_operators_have_numpys_bits(kernels, values, number, low):
    """NaN, infinities, zeros of both signs and the smallest numbers too."""
    a, b = np.array(values, np.float32).T.copy()
    backend = kernels.backend
    index, table = np.array([1, 0], np.int64), np.arange(6, dtype=np.int64).reshape(3, 2)

    both = a.reshape(1, 1, 1, -1), b.reshape(1, 1, 1, -1)

    def operators(x, y):
        yield from (x + y, x - y, x * number, number * x, x + number, number + x, x - number, x / number)
        yield from (x.clip(low, 1.0), x.reshape(1, -1).copy())

    def function():
        x_and_y = backend.concat.forward(*both)[0].reshape(2, -1)
        whole = backend.zeros(5, np.int64) + 7
        return [*operators(x_and_y[:1], x_and_y[1:]), backend.take(table, index), whole, whole.astype(np.float32)]

    captured = backend.capture(function)
    with np.errstate(all="ignore"):
        expected = [*operators(a[None], b[None]), table[index], np.full(5, 7), np.full(5, 7, np.float32)]
        for _ in kernels.each():
            assert_same(captured(), expected)


# ties, and what is smaller than any normal number, or rounded to infinity
numbers = st.one_of(special, st.sampled_from([1e-39, 1 + 2.0**-8, -1 - 3 * 2.0**-8, 3.4e38]))


@given(values=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=70))
def test_bfloat16_is_rounded_added_and_widened_as_by_numpy(kernels, values):
    """To the same bits, but for NaN, of which there are many; in every instruction set."""
    backend = backend_or_skip("cpu", "bf16")
    a, b = np.array(values, np.float32).T.copy()

    def function():
        x, y = (backend.asarray(each, backend.activations) for each in (a, b))
        return x, x + y, (x + y).astype(np.float32)

    captured = backend.capture(function)
    with np.errstate(all="ignore"):
        expected = function()
    for _ in kernels.each(threads=(1, 3)):
        for found, wanted in zip(captured(), expected, strict=True):
            assert found.dtype == wanted.dtype
            found, wanted = found.astype(np.float32), wanted.astype(np.float32)
            assert np.array_equal(found, wanted, equal_nan=True)
            is_number = ~np.isnan(wanted)
            assert np.array_equal(np.signbit(found)[is_number], np.signbit(wanted)[is_number])


def test_a_captured_run_resumes_to_the_same_bits(in_both):
    straight, first = trainer(in_both.backend), trainer(in_both.backend)
    metrics = [straight.train_step() for _ in range(5)]
    before = [first.train_step() for _ in range(2)]
    second = trainer(in_both.backend)
    second.restore(first.checkpoint())
    assert before + [second.train_step() for _ in range(3)] == metrics
    assert tiny.state(second) == tiny.state(straight)


def test_an_index_out_of_range_is_found_before_it_is_used(kernels):
    backend = kernels.backend
    table, labels = normal(0, 4, 6, dtype=np.float32), np.zeros(3, np.int64)
    captured = backend.capture(lambda: backend.class_embedding.forward(table, labels)[0])
    captured()
    for bad in (4, -1, 2**40):
        labels[1] = bad
        with pytest.raises(ValueError) as direct:
            backend.class_embedding.forward(table, labels)
        with pytest.raises(ValueError) as found:
            captured()
        assert str(found.value) == str(direct.value)
    labels[1] = 3
    assert_same(captured(), backend.class_embedding.forward(table, labels)[0])
    taken = backend.capture(lambda: backend.take(table, labels))
    labels[0] = 9
    with pytest.raises(ValueError, match=r"take: index must lie in \[0, 4\), got 0 .. 9"):
        taken()


def test_threads_of_python_take_turns(kernels):
    backend = kernels.backend
    x, w = normal(0, 2, 14, 14, 16, dtype=np.float32), normal(1, 3, 3, 16, 16, dtype=np.float32)
    captured = backend.capture(lambda: backend.conv2d.forward(x, w, padding=1)[0])
    expected = backend.conv2d.forward(x, w, padding=1)[0]
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(each, expected) for each in pool.map(lambda i: captured(), range(100)))


def test_other_threads_compute_while_one_records(kernels):
    backend, x = kernels.backend, np.ones((2, 3), np.float32)
    seen = []

    def function():
        thread = threading.Thread(target=lambda: seen.append(backend.silu.forward(x)[0]))
        thread.start()
        thread.join()
        return backend.silu.forward(x)[0]

    captured = backend.capture(function)
    assert len(captured.program.calls) == 1 and isinstance(seen[0], np.ndarray)
    with pytest.raises(ValueError, match="a recording cannot begin within another"):
        backend.capture(lambda: backend.capture(function)()).program


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system has no such signals")
def test_ctrl_c_is_heard_in_the_midst_of_a_program(kernels):
    backend = kernels.backend
    x, w = normal(0, 4, 28, 28, 32, dtype=np.float32), normal(1, 3, 3, 32, 32, dtype=np.float32) / 20

    captured, waited = backend.capture(convolutions(backend, x, w, 3000)), []  # some seconds
    captured.load()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for _ in range(3):  # the machine may be busy
            sent = []

            def send():
                sent.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGINT)

            timer = threading.Timer(0.2, send)
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                captured()
            waited.append(time.monotonic() - sent[0])
    finally:
        signal.signal(signal.SIGINT, before)
    assert min(waited) < 0.2, waited


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts switches of CPython's lock")
def test_other_threads_of_python_go_on_meanwhile(kernels):
    backend, counted, done = kernels.backend, [0], threading.Event()
    x, w = normal(0, 4, 28, 28, 32, dtype=np.float32), normal(1, 3, 3, 32, 32, dtype=np.float32) / 20

    captured = backend.capture(convolutions(backend, x, w, 200))
    captured()

    def count():
        while not done.is_set():
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    before = counted[0]
    captured()
    passed = counted[0] - before
    done.set()
    thread.join()
    assert passed > 1000


@settings(max_examples=25)
@given(data=st.data())
def test_a_dropped_call_is_caught(kernels, data):
    """By the check of the program or, where it was the last, by the bits."""
    one, other = (trainer(kernels.backend, captured=captured) for captured in (True, False))
    calls = one.program.calls
    del calls[data.draw(st.integers(0, len(calls) - 1))]
    try:
        one.program.check()
    except ValueError as error:
        assert str(error).startswith("program: ")
    else:
        same = [one.train_step() for _ in range(2)] == [other.train_step() for _ in range(2)]
        assert not same or tiny.state(one) != tiny.state(other)


@settings(max_examples=25)
@given(data=st.data())
def test_a_planted_overlap_is_caught(kernels, data):
    program = trainer(kernels.backend).program
    temporaries = program.temporaries
    one = data.draw(st.sampled_from(temporaries))
    meeting = [each for each in temporaries if each is not one and each.first <= one.last and each.last >= one.first]
    other = data.draw(st.sampled_from(meeting))
    program.check()
    one.offset = other.offset
    if one.offset + one.nbytes > program.memory:
        with pytest.raises(ValueError, match="a temporary buffer lies outside the memory of such"):
            program.check()
    else:
        with pytest.raises(ValueError, match="two buffers share memory at call"):
            program.check()
