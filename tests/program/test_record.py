"""What a recording knows of arrays, and what it refuses, in one line that names the line."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checks import backend_or_skip, normal
from tinydiff import backends
from tinydiff.program.arrays import NotRecorded, copied_rows
from tinydiff.program.record import Recorder, record

parts = st.builds(slice, st.integers(0, 2), st.integers(3, 5))
axis_keys = st.one_of(st.integers(-3, 2), st.slices(5), st.none(), st.just(slice(None)), parts)


@pytest.fixture
def backend():
    return backends.get("numpy")


@given(shape=st.lists(st.integers(3, 5), min_size=1, max_size=4), keys=st.lists(axis_keys, max_size=4), data=st.data())
def test_views_are_numpys(shape, keys, data):
    keys = keys[: data.draw(st.integers(0, len(shape)))]
    if data.draw(st.booleans()):
        keys.insert(data.draw(st.integers(0, len(keys))), Ellipsis)
    if sum(each is not None and each is not Ellipsis for each in keys) > len(shape):
        return
    array = np.zeros(shape, np.float32)
    expected = array[tuple(keys)]
    if expected.size == 0 or not isinstance(expected, np.ndarray):
        return
    recorded = Recorder("fp32").new(shape, np.float32)[tuple(keys)]
    at = expected.__array_interface__["data"][0] - array.__array_interface__["data"][0]
    assert (recorded.shape, recorded.offset) == (expected.shape, at)
    assert [s for n, s in zip(recorded.shape, recorded.strides) if n > 1] == [
        s for n, s in zip(expected.shape, expected.strides) if n > 1
    ]
    assert recorded.is_dense == expected.flags.c_contiguous
    if recorded.is_dense:
        assert recorded.reshape(-1).shape == (expected.size,) and recorded.reshape((1, -1)).ndim == 2


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    both=st.booleans(),
)
def test_copied_rows_copy(shape, cuts, both):
    """Between an array without gaps and a part of a larger one, or two such parts."""
    larger = tuple(n + cut for n, cut in zip(shape, cuts))
    whole, part = np.zeros(larger, np.float32), tuple(slice(cut, None) for _, cut in zip(shape, cuts))
    to = whole[part]
    source = normal(0, *(larger if both else shape), dtype=np.float32)
    of = source[part] if both else source
    rows = copied_rows(of.shape, of.strides, to.strides, 4)
    if rows is None:
        assert sum(n > 1 for n in shape) > 1
        return
    count, width, step_of, step_to = rows
    out = np.zeros(larger, np.float32)
    bytes_of, bytes_to = source.reshape(-1).view(np.uint8), out.reshape(-1).view(np.uint8)
    start_of = of.__array_interface__["data"][0] - source.__array_interface__["data"][0]
    start_to = to.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    for i in range(count):
        row = bytes_of[start_of + i * step_of :][:width]
        bytes_to[start_to + i * step_to :][:width] = row
    to[...] = of
    assert np.array_equal(out, whole)


def test_what_is_written_down(backend):
    x, w, b = normal(0, 2, 3, dtype=np.float32), normal(1, 3, 4, dtype=np.float32), np.zeros(4, np.float32)

    def function():
        y, _ = backend.linear.forward(x, w, b)
        return {"y": 2 * y + y, "same": b}

    program, kept, outputs = record(function, backend, inputs={"x": x}, state={"w": w})
    assert [f"{call.op}.{call.verb}" for call in program.calls] == [
        "linear.forward",
        "array.multiply_number",
        "array.add",
    ]
    linear, double, add = program.calls
    assert linear.reads["x"] == program.names["x"] and linear.reads["w"] == program.names["w"]
    assert double.options == {"number": 2.0} and add.reads["b"] == linear.writes["y"]
    assert program.inputs == ("x",) and program.outputs == ("y", "same") and program.written == ()
    assert set(program.names) == {"x", "w", "y", "same"}
    assert outputs["same"] is b and [id(each) for each in kept.values()] == [id(x), id(w), id(b)]
    assert (program.kept, program.arena) == (3 * 64, 3 * 64) and program.memory == 6 * 64
    assert program.address(program.names["w"]) == 64


def test_a_program_is_plain_data(backend):
    x = normal(0, 2, 4, dtype=np.float32)
    program = record(lambda: backend.silu.forward(x)[0][:, 1:].copy(), backend, inputs={"x": x}).program
    assert json.loads(json.dumps(dataclasses.asdict(program)))["calls"][1][1] == "copy"


def test_state_that_nobody_names(backend):
    p, g, m, v = (np.zeros(4, np.float32) for _ in range(4))
    rate, number, table = np.ones(1, np.float32), np.ones(1, np.int64), np.arange(3)

    def function():
        backend.adamw.forward(p, g, m, v, learning_rate=rate, step_number=number)
        return backend.take(table, number)

    program = record(function, backend, state={"parameters": p}).program
    assert set(program.names) == {"parameters", "output", *(f"constant.{i}" for i in range(4)), "state.0", "state.1"}
    assert set(program.written) == {"parameters", "state.0", "state.1"}


def test_views_of_one_array_share_its_buffer(backend):
    flat = np.zeros(10, np.float32)
    a, b = flat[:4].reshape(2, 2), flat[4:8].reshape(2, 2)
    program = record(lambda: backend.linear.forward(a, b)[0], backend, state={"a": a, "b": b}).program
    assert program.names["a"].buffer == program.names["b"].buffer and program.names["b"].offset == 16
    assert program.kept == 64


MISTAKES = {
    "looks at a value": (lambda b, x: float(x[0, 0]), "look at an array's values"),
    "decides by a value": (lambda b, x: 1 if x.reshape(-1) > 0 else 2, "look at an array's values"),
    "decides by an array": (lambda b, x: 1 if x else 2, "look at an array's values"),
    "asks whether it is equal": (lambda b, x: x == 1, "look at an array's values"),
    "walks through it": (lambda b, x: list(x), "look at an array's values"),
    "takes it to the host": (lambda b, x: b.to_numpy(x), "look at an array's values"),
    "gives it to NumPy": (lambda b, x: np.asarray(x), "look at an array's values"),
    "makes an array of the host's": (lambda b, x: b.asarray([1.0, 2.0]), "make an array of the host's values"),
    "takes a mean": (lambda b, x: x.mean(), "record .mean of an array"),
    "negates": (lambda b, x: -x, "record __neg__ of an array"),
    "multiplies matrices": (lambda b, x: x @ x, "record __matmul__ of an array"),
    "adds in place": (lambda b, x: x.__iadd__(1), "record __iadd__ of an array"),
    "calls a ufunc": (lambda b, x: np.sin(x), "record NumPy's sin"),
    "calls a function": (lambda b, x: np.concatenate([x, x]), "record NumPy's concatenate"),
    "indexes by an array": (lambda b, x: x[np.zeros(2, np.int64)], "take values from an array by an array"),
    "indexes by a recorded one": (lambda b, x: TABLE[x], "look at an array's values"),
    "multiplies arrays": (lambda b, x: x * x, "multiply arrays of float32"),
    "broadcasts": (lambda b, x: x + x[:1], r"add arrays of float32 \(2, 4\) and float32 \(1, 4\)"),
    "divides by it": (lambda b, x: x.__rsub__(1), "subtract an array from, or by it, a number"),
    "clips at one end": (lambda b, x: x.clip(None, 1.0), "take None for a number"),
    "mixes in float64": (lambda b, x: x * np.float64(2), "mix float64 into an array of float32"),
    "turns it into float64": (lambda b, x: x.astype(np.float64), "turn float32 into float64"),
    "holds float64": (lambda b, x: b.zeros(3, np.float64), "hold an array of float64"),
    "holds nothing": (lambda b, x: b.zeros((0, 2)), "record an empty array"),
    "reshapes what has gaps": (lambda b, x: x[:, :2].reshape(4), "bring an array of .* into the shape"),
    "puts what does not fit": (lambda b, x: x.__setitem__(slice(1), x), "put float32 .* into float32"),
    "lets NumPy compute": (lambda b, x: b.silu.forward(TABLE * 2)[0], "use an array that NumPy computed"),
    "returns what NumPy computed": (lambda b, x: TABLE * 2, "return output: it is not the program's"),
    "puts it into NumPy's": (lambda b, x: TABLE.__setitem__(slice(None), x), "look at an array's values"),
}
TABLE = np.ones((2, 4), np.float32)


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_within_a_recording_is_named(backend, what):
    mistake, message = MISTAKES[what]

    def function():
        return mistake(backend, backend.silu.forward(TABLE)[0])

    with pytest.raises(NotRecorded, match=rf"a program cannot {message}.*: test_record\.py, line \d+: ") as refused:
        record(function, backend)
    if "returns" not in what:  # it is the mistake's own line
        assert f'line {mistake.__code__.co_firstlineno}: "{what}"' in str(refused.value)
    assert isinstance(backend.silu.forward(TABLE)[0], np.ndarray)  # and work goes on


REFUSED = {
    "float64": (lambda b: b.silu.forward(np.ones(3)), "silu: x must be float32, got float64"),
    "a wrong shape": (lambda b: b.linear.forward(TABLE, TABLE), r"linear: w must have shape \(C, O\)"),
    "gaps": (lambda b: b.silu.forward(TABLE[:, :2]), "silu: x must be C-contiguous"),
    "other integers": (
        lambda b: b.class_embedding.forward(TABLE, np.zeros(2, np.int32)),
        "class_embedding: labels must be int64 in a program, got int32",
    ),
    "bits": (
        lambda b: b.philox.forward(0, "init", np.zeros(1, np.int64), 0, (2,), kind="bits"),
        "philox: a program draws float32, got bits",
    ),
    "no array": (lambda b: b.silu.forward([1.0]), "silu: x must be an array, got list"),
    "what cannot be written": (lambda b: read_only_step(b), "adamw: params must be writeable"),
    "a residual's gradient": (lambda b: write_residual(b), "assignment destination is read-only"),
}


def read_only_step(backend):
    p = TABLE[0].copy()
    p.flags.writeable = False
    backend.adamw.forward(p, p, p, p, learning_rate=p[:1], step_number=np.ones(1, np.int64))


def write_residual(backend):
    x, w = np.ones((1, 2, 2, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)
    y, cache = backend.conv2d.forward(x, w, None, x)
    backend.conv2d.backward(y, cache)[3][...] = 0


HALVES = {
    "float32 for an activation": (lambda b, x: b.silu.forward(TABLE), "silu: x must be bfloat16, got float32"),
    "a weight that is not rounded": (
        lambda b, x: b.linear.forward(x, np.ones((4, 3), np.float32)),
        "linear: w must be bfloat16, got float32",
    ),
    "a rounded bias": (
        lambda b, x: b.linear.forward(x, x.T.copy(), x[0, :2]),
        "linear: b must be float32, got bfloat16",
    ),
    "a rounded step": (
        lambda b, x: b.timestep_embedding.forward(x[0], width=2),
        "timestep_embedding: step must be float32, got bfloat16",
    ),
    "float32 upstream": (
        lambda b, x: b.silu.backward(TABLE, b.silu.forward(x)[1]),
        "silu: dy must be bfloat16, got float32",
    ),
    "a loss of it": (lambda b, x: b.mse_loss.forward(x, x), "mse_loss: prediction must be float32, got bfloat16"),
    "another half": (lambda b, x: b.silu.forward(TABLE.astype(np.float16)), "silu: x must be bfloat16, got float16"),
}


@pytest.mark.parametrize("what", HALVES)
def test_what_is_float32_and_what_bfloat16_is_said_as_ever(what):
    """In the words of the kernels themselves."""
    mistake, message = HALVES[what]
    backend = backend_or_skip("cpu", "bf16")
    x = TABLE.astype(backend.activations)
    with pytest.raises(ValueError) as direct:
        mistake(backend, x)
    with pytest.raises(ValueError) as recorded:
        record(lambda: mistake(backend, x), backend)
    assert str(recorded.value) == str(direct.value) == message


HALF_MISTAKES = {
    "subtracts": (lambda b, x: x - x, r"subtract arrays of bfloat16 \(2, 4\)"),
    "scales": (lambda b, x: 2 * x, "multiply_number with bfloat16"),
    "adds a number": (lambda b, x: x + 1, "add_number with bfloat16"),
    "mixes": (lambda b, x: x + TABLE, r"add arrays of bfloat16 \(2, 4\) and float32 \(2, 4\)"),
    "clips": (lambda b, x: x.clip(0.0, 1.0), "clip with bfloat16"),
    "widens to float64": (lambda b, x: x.astype(np.float64), "turn bfloat16 into float64"),
    "rounds integers": (lambda b, x: (b.zeros(2, np.int64) + 1).astype(b.activations), "turn int64 into bfloat16"),
    "fills": (lambda b, x: b.zeros(3, b.activations), "fill an array of bfloat16"),
    "fills bytes": (lambda b, x: b.zeros(3, np.uint8), "fill an array of uint8"),
    "puts it into float32": (lambda b, x: b.zeros((2, 4)).__setitem__(0, x[0]), "put bfloat16"),
    "holds float16": (lambda b, x: b.empty(3, np.float16), "hold an array of float16"),
}


@pytest.mark.parametrize("what", HALF_MISTAKES)
def test_what_is_not_done_in_bfloat16_is_named(what):
    mistake, message = HALF_MISTAKES[what]
    backend = backend_or_skip("cpu", "bf16")
    x = TABLE.astype(backend.activations)
    with pytest.raises(NotRecorded, match=f"a program cannot {message}"):
        record(lambda: mistake(backend, backend.silu.forward(x)[0]), backend)


def test_sizes_are_known_without_ml_dtypes():
    """NumPy knows the name bfloat16 only where that package has been imported."""
    program = """
import sys
from tinydiff.program.program import Operand
operand = Operand(0, 0, (2, 3), "bfloat16", (16, 2))
print(operand.nbytes, operand.extent, "ml_dtypes" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "12 22 False\n"


def test_every_module_of_programs_can_be_imported_first():
    for path in sorted(Path(record.__code__.co_filename).parent.glob("*.py")):
        subprocess.run([sys.executable, "-c", f"import tinydiff.program.{path.stem}"], check=True)


@pytest.mark.parametrize("what", REFUSED)
def test_what_kernels_cannot_take_is_refused_as_ever(backend, what):
    mistake, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        record(lambda: mistake(backend), backend)


def test_a_name_must_be_free(backend):
    with pytest.raises(ValueError, match="x names both an output and an input or state"):
        record(lambda: {"x": backend.silu.forward(TABLE)[0]}, backend, inputs={"x": TABLE})
