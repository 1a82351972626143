"""Recording: a function of no arguments is run once, on arrays without values, and what it does is written down.

The function's own arrays (parameters, images, numbers that change from run to run) stay what they are: they are the
program's kept memory. What ops and operators make of them are recording arrays (``tinydiff.program.arrays``).
"""

from __future__ import annotations

import contextlib
import gc
import weakref
from typing import Any, NamedTuple

import numpy as np

from tinydiff.program import plan
from tinydiff.program.arrays import Recorded, copied_rows, dense_strides, is_dense, line_above, refuse
from tinydiff.program.ops import recording_ops
from tinydiff.program.program import Buffer, Call, Operand, Program

DTYPES = {np.dtype(name): name for name in ("float32", "int64", "uint64", "uint8")}
FILLED = ("float32", "int64", "uint64")  # what a number can be put into
CASTS = {("int64", "float32"): "cast", ("float32", "bfloat16"): "round", ("bfloat16", "float32"): "widen"}


class Recording(NamedTuple):
    """A program and what it was made of."""

    program: Program
    kept: dict[int, np.ndarray]  # the array that each kept buffer is, by the buffer's place
    outputs: Any  # what the function returned, with an Operand of a temporary in place of every recorded array


def record(function, backend, *, inputs=None, state=None):
    """Run ``function()`` once, without computing, and return its ``Recording``.

    backend  whose ops and services the function uses; it must lend itself to recording (numpy and cpu do)
    inputs   {name: array} of what a caller gives before each run
    state    {name: array} of other arrays the function reads or writes; those that it meets and nobody names are called
             constant.0, constant.1, ... or, where it writes them, state.0, ...

    All are the backend's arrays, or views of them. What the function returns is named by its keys if it is a
    dictionary; else output, or output.0, output.1, ... if it is a tuple or list.

    Raises ``NotRecorded`` for what a program cannot write down, and ``ValueError`` for shapes and dtypes that do not
    fit, as the ops do.
    """
    recorder = Recorder(backend.precision)
    names = {}
    for name, array in {**(inputs or {}), **(state or {})}.items():
        names[name] = recorder.operand("record", name, array)
    with backend.recorded_by(recorder), _without_collecting():
        returned = function()
    outputs = {}
    returned = recorder.named_outputs(returned, "", outputs)
    recorder.expect_all_alive()
    recorder.finish_lifetimes(outputs)
    if twice := names.keys() & outputs.keys():
        raise ValueError(f"record: {min(twice)} names both an output and an input or state")
    names |= recorder.name_the_rest({**names, **outputs})
    program = Program(recorder.buffers, recorder.calls, {**names, **outputs}, tuple(inputs or ()), tuple(outputs))
    plan.place(program)
    return Recording(program, recorder.kept, returned)


@contextlib.contextmanager
def _without_collecting():
    """Within: Python does not look for garbage, of which a recording leaves none, while what it would look through
    grows call by call; that was a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def name_of(dtype):
    """How programs call a dtype; None where they cannot hold it."""
    return "bfloat16" if dtype.name == "bfloat16" else DTYPES.get(dtype)


class Recorder:
    """What a recording has so far: buffers, calls, and the arrays that are its kept memory."""

    def __init__(self, precision):
        self.buffers, self.calls = [], []
        self.kept = {}  # place of a buffer -> the array that owns its memory
        self._place = {}  # address of such an array -> place of its buffer
        self._met = {}  # place of its buffer -> the line where it was first met
        self._seen = {}  # id -> an array that was met, and what it is recorded as
        self.ops = recording_ops(self, precision)

    # services of a backend

    def empty(self, shape, dtype=np.float32):
        return self.new(shape if isinstance(shape, (tuple, list)) else (shape,), dtype)

    def zeros(self, shape, dtype=np.float32):
        y = self.empty(shape, dtype)
        self.fill(y, 0)
        return y

    def asarray(self, values, dtype=None):
        if isinstance(values, Recorded):
            return values if dtype is None else values.astype(dtype, copy=False)
        if not isinstance(values, np.ndarray):
            refuse("make an array of the host's values: it must lie in an array before")
        if dtype is not None and (values.dtype.name, np.dtype(dtype).name) in CASTS:
            return self.cast(self.as_recorded(values), np.dtype(dtype))
        return np.ascontiguousarray(values, dtype)  # if this has to copy, ``expect_all_alive`` notices

    def take(self, table, index):
        """table (T, ...), index (N,) -> table[index] (N, ...)."""
        index = self.integers("take", "index", index)
        y = self.new((*index.shape, *table.shape[1:]), table.dtype)
        self.call("array", "take", dict(table=table, index=index), dict(y=y))
        return y

    def repeat(self, x, count):
        """x (1, ...) -> (count, ...)."""
        y = self.new((count, *x.shape[1:]), x.dtype)
        x = self.as_recorded(x)
        self.assign(y, Recorded(self, x.buffer, x.offset, y.shape, (0, *x.strides[1:]), x.dtype))
        return y

    def to_numpy(self, array):
        refuse("look at an array's values")

    # arrays

    def new(self, shape, dtype):
        """A recording array with memory of its own."""
        dtype, shape = np.dtype(dtype), tuple(int(n) for n in shape)
        if name_of(dtype) is None:
            refuse(f"hold an array of {dtype}")
        if 0 in shape:
            refuse("record an empty array")
        array = Recorded(self, len(self.buffers), 0, shape, dense_strides(shape, dtype.itemsize), dtype)
        self.buffers.append(Buffer("temporary", array.nbytes))
        return array

    def as_recorded(self, array):
        """A NumPy array that was there before, as a recording array over its memory; a recording array as it is."""
        if isinstance(array, Recorded):
            return array
        if id(array) in self._seen:
            return self._seen[id(array)][1]
        root = _owner(array)
        low, high = np.lib.array_utils.byte_bounds(root)
        if low not in self._place:
            place = self._place[low] = len(self.buffers)
            self.kept[place], self._met[place] = root, line_above()
            self.buffers.append(Buffer("kept", high - low))
        at = array.__array_interface__["data"][0]
        writeable = array.flags.writeable
        recorded = Recorded(self, self._place[low], at - low, array.shape, array.strides, array.dtype, writeable)
        self._seen[id(array)] = array, recorded
        return recorded

    def operand(self, op, name, array, *, written=False, dense=True):
        """An array as a call's operand. Raises ``ValueError`` for one that kernels cannot read, or write."""
        if isinstance(array, np.ndarray):
            array = self.as_recorded(array)
        if not isinstance(array, Recorded):
            raise ValueError(f"{op}: {name} must be an array, got {type(array).__name__}")
        if array.recorder is not self:
            refuse("use an array of another recording")
        if name_of(array.dtype) is None:
            refuse(f"hold an array of {array.dtype}, as {name} of {op} is")
        if dense and not array.is_dense:
            raise ValueError(f"{op}: {name} must be C-contiguous")
        if written and not array.writeable:
            raise ValueError(f"{op}: {name} must be writeable")
        strides = None if array.is_dense else array.strides
        return Operand(array.buffer, array.offset, array.shape, name_of(array.dtype), strides)

    def integers(self, op, name, array):
        """An integer array as int64."""
        if array.dtype != np.int64:
            raise ValueError(f"{op}: {name} must be int64 in a program, got {array.dtype}")
        return array

    # calls

    def call(self, op, verb, reads, writes, *, updates=(), dense=True, **options):
        """Write down a call. An operand that is None is left out; options are numbers, strings and tuples of them."""
        reads, writes = (
            {
                name: None if array is None else self.operand(op, name, array, written=written, dense=dense)
                for name, array in arrays.items()
            }
            for arrays, written in ((reads, False), (writes, True))
        )
        self.calls.append(Call(op, verb, reads, writes, options, tuple(updates)))

    def fill(self, y, value):
        if y.dtype.name not in FILLED:
            refuse(f"fill an array of {y.dtype}")
        self.call("array", "fill", {}, dict(y=y), value=_number(value, y.dtype))

    def assign(self, target, value):
        """target[...] = value, an array of the same shape or a number."""
        if not isinstance(value, (Recorded, np.ndarray)):
            return self.fill(target, value)
        if value.shape != target.shape or value.dtype != target.dtype:
            refuse(f"put {value.dtype} {value.shape} into {target.dtype} {target.shape}")
        rows = copied_rows(target.shape, value.strides, target.strides, target.dtype.itemsize)
        if rows is None:
            refuse(f"copy between arrays of {target.shape} with strides {value.strides} and {target.strides}")
        self.call("array", "copy", dict(x=value), dict(y=target), dense=False, rows=rows)

    def cast(self, x, dtype):
        verb = CASTS.get((x.dtype.name, dtype.name))
        if verb is None:
            refuse(f"turn {x.dtype} into {dtype}")
        y = self.new(x.shape, dtype)
        self.call("array", verb, dict(x=x), dict(y=y))
        return y

    def binary(self, verb, a, b):
        """a and b of one shape, or one of them a number, which may lie in an array of shape ()."""
        arrays = [isinstance(each, (Recorded, np.ndarray)) and each.shape != () for each in (a, b)]
        if all(arrays):
            if verb == "multiply" and _rows_of(a, b):
                return self._scale_rows(a, b)
            if verb == "multiply" and _rows_of(b, a):
                return self._scale_rows(b, a)
            verbs = {"float32": ("add", "subtract"), "bfloat16": ("add",)}.get(a.dtype.name, ())
            if verb not in verbs or a.shape != b.shape or a.dtype != b.dtype:
                refuse(f"{verb} arrays of {a.dtype} {a.shape} and {b.dtype} {b.shape}")
            return self._into_new(verb, dict(a=a, b=b))
        if not any(arrays):
            refuse(f"{verb} arrays without axes")
        x, number = (a, b) if arrays[0] else (b, a)
        in_memory = isinstance(number, (Recorded, np.ndarray))
        if verb == "subtract" and arrays[0] and isinstance(number, (int, float, np.generic)):
            verb, number = "add", -number  # the same bits
        if (verb == "divide" and not arrays[0]) or verb == "subtract":
            refuse(f"{verb} an array from, or by it, a number")
        if in_memory and number.dtype == x.dtype == np.float32:
            return self._into_new(f"{verb}_number", dict(x=x, number=number))
        return self.elementwise(f"{verb}_number", x, number=number)

    def elementwise(self, verb, x, **numbers):
        """A new array of x and numbers alone."""
        if x.dtype != np.float32 and (verb, x.dtype) != ("add_number", np.int64):
            refuse(f"{verb} with {x.dtype}")
        return self._into_new(verb, dict(x=x), **{name: _number(value, x.dtype) for name, value in numbers.items()})

    def _scale_rows(self, numbers, x):
        """numbers (N, 1, ..., 1) times x (N, ...): a call a sample, of which there are few."""
        x, numbers = self.as_recorded(x), self.as_recorded(numbers).reshape(-1)
        y = self.new(x.shape, x.dtype)
        for n in range(len(x)):
            self.call("array", "multiply_number", dict(x=x[n], number=numbers[n]), dict(y=y[n]))
        return y

    def _into_new(self, verb, reads, **numbers):
        x = next(iter(reads.values()))
        y = self.new(x.shape, x.dtype)
        self.call("array", verb, reads, dict(y=y), **numbers)
        return y

    # the end

    def named_outputs(self, returned, name, outputs):
        """What a function returned, with operands for recorded arrays; ``outputs`` gets all by name."""
        if isinstance(returned, (Recorded, np.ndarray)):
            name = name or "output"
            if isinstance(returned, np.ndarray) and not self._knows(returned):
                refuse(f"return {name}: it is not the program's, or NumPy computed it within the function")
            outputs[name] = self.operand("record", name, returned, dense=False)
            return returned if isinstance(returned, np.ndarray) else outputs[name]
        if isinstance(returned, dict):
            start = f"{name}." if name else ""
            return {key: self.named_outputs(each, f"{start}{key}", outputs) for key, each in returned.items()}
        if isinstance(returned, (tuple, list)):
            start = f"{name or 'output'}."
            parts = [self.named_outputs(each, f"{start}{i}", outputs) for i, each in enumerate(returned)]
            return type(returned)(*parts) if hasattr(returned, "_fields") else type(returned)(parts)
        return returned

    def _knows(self, array):
        """Whether it is an array, or a view of one, that a call has met."""
        return any(_owner(array) is each for each in self.kept.values())

    def expect_all_alive(self):
        """Raise ``NotRecorded`` for an array that nobody but the recording holds: NumPy computed it in the function, so
        the program would find there for ever what it is now."""
        references = {place: weakref.ref(array) for place, array in self.kept.items()}
        self.kept.clear(), self._seen.clear()
        for place, reference in references.items():
            array = reference()
            if array is None:
                refuse("use an array that NumPy computed within the function", self._met[place])
            self.kept[place] = array

    def finish_lifetimes(self, outputs):
        """Say between which calls each temporary holds something; outputs do until the end, written or not."""
        for number, call in enumerate(self.calls):
            for each in call.operands.values():
                buffer = self.buffers[each.buffer]
                buffer.first = number if buffer.first is None else buffer.first
                buffer.last = number
        for each in outputs.values():
            buffer = self.buffers[each.buffer]
            buffer.first, buffer.last = buffer.first or 0, max(0, len(self.calls) - 1)

    def name_the_rest(self, names):
        """Names for kept arrays that have none."""
        named = {each.buffer for each in names.values()}
        written = {each.buffer for call in self.calls for each in call.writes.values() if each is not None}
        found = {}
        for place, array in self.kept.items():
            if place not in named and name_of(array.dtype) and is_dense(array.shape, array.strides, array.itemsize):
                kind = "state" if place in written else "constant"
                number = sum(name.startswith(kind) for name in found)
                found[f"{kind}.{number}"] = Operand(place, 0, array.shape, name_of(array.dtype))
        return found


def _rows_of(numbers, x):
    """Whether these are float32 numbers (N, 1, ..., 1), one for each x (N, ...)."""
    float32 = numbers.dtype == x.dtype == np.float32
    return float32 and numbers.shape != x.shape and numbers.shape == (x.shape[0], *[1] * (x.ndim - 1))


def _owner(array):
    """The array whose memory this one is a view of; itself if it is none."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _number(value, dtype):
    """A plain number as it enters an array of this dtype. Refused where NumPy would make the result wider."""
    if not isinstance(value, (int, float, np.generic)):
        refuse(f"take {value!r} for a number")
    if isinstance(value, np.generic) and np.result_type(value.dtype, dtype) != dtype:
        refuse(f"mix {value.dtype} into an array of {dtype}")
    if dtype.kind in "iu" and not isinstance(value, (int, np.integer)):
        refuse(f"mix {value!r} into an array of {dtype}")
    return dtype.type(value).item()
