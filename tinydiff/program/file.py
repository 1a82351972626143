"""Programs in a folder, for whoever has no Python: ``tinydiff/site/engine.js`` reads it, and ``backends.stored`` does.

    program.json
        format, version   "tinydiff program" and ``VERSION``; a reader refuses another version
        memory            bytes of all arrays together; offsets count from its start, which is aligned to a cache line
        arrays            {name: {"at": offset, "dtype", "shape"}}, dense
        weights           names of the arrays whose first values the other file holds; all others begin as zeros
        programs          {name: {"inputs": names, "outputs": names, "writes": [[start, stop], ...], "calls": [call, ...]}};
                          writes are what a run changes of what lives across runs, in bytes
        filters           [{"at": offset, "bytes", "geometry"}] of convolutions that a program does not change: whoever
                          runs them may prepare these (conv2d_prepare of csrc/cpu) once for many runs, until something
                          writes there
        about             whatever else the writer says; of a model see ``program.web``
    weights.safetensors   those values: float32 or, rounded, bfloat16 or float16, and other types as they are

The programs share one memory: first what lives across runs, then an arena that each of them overwrites, outputs in it
included. A call is the kernel's name and its arguments in the order of csrc/cpu/kernels.h, structures field by field:

    null              no array
    5                 an integer, and an array by its offset
    {"float": 0.5}    a number
    {"integer": "5"}  an integer too large for JavaScript's numbers
    {"float32": 64}   a number that lies in memory there, of that type; likewise {"int64": 64}
    {"prepared": 3}   the filters of that number, prepared, or no array

A call of "expect_within" ends with one argument more, the words that say what lies there.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors

from tinydiff import tensors
from tinydiff.files import write_folder_atomically
from tinydiff.program import prepare
from tinydiff.program.kernel_calls import CHECK, PREPARED, InMemory, KernelCall, check_of
from tinydiff.program.program import LINE, Operand

FORMAT, VERSION = "tinydiff program", 1
PROGRAM, WEIGHTS = "program.json", "weights.safetensors"
DTYPES = {
    "F32": "float32",
    "BF16": "float32",
    "F16": "float32",
    "I64": "int64",
    "U64": "uint64",
    "U8": "uint8",
}  # of safetensors
EXACT = 2**53  # integers beyond it are no numbers of JavaScript's
UNNAMED = re.compile(r"(constant|state)\.\d+")  # names that ``record`` gives where nobody else does


class StoredProgram(NamedTuple):
    """One program of a file. Calls have offsets for arrays; ``checks`` says what a call of ``CHECK`` looks at."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    writes: list[tuple[int, int]]
    calls: list[KernelCall]
    checks: dict[int, str]  # {number of the call: words}


class Filters(NamedTuple):
    """Filters that may be prepared, and the geometry of the convolution that uses them, as its kernel takes it."""

    offset: int
    nbytes: int
    geometry: tuple[int, ...]


class FiltersOf(NamedTuple):
    """In place of prepared filters among a call's arguments: which."""

    number: int  # among those of the file


class Stored(NamedTuple):
    """Programs that share one memory, and the values it begins with."""

    memory: int
    arrays: dict[str, Operand]  # of one buffer, the memory
    programs: dict[str, StoredProgram]
    filters: list[Filters]
    values: dict[str, np.ndarray]
    about: dict[str, Any]


def gather(recordings, *, about=None):
    """The ``Stored`` of {name: Recording}, all of one backend's arrays.

    An array that several programs use is one array there. Where two have one name, that of the later program is called
    PROGRAM.NAME. Raises ``ValueError`` for a program in bfloat16, which the engine of pages does not know, and for names
    of arrays with gaps.
    """
    places, roots, end = {}, [], 0  # address of an array that lives across runs -> its offset
    for recording in recordings.values():
        for root in recording.kept.values():
            address = _address(root)
            if address not in places:
                places[address] = end
                roots.append(root)
                end += -(-root.nbytes // LINE) * LINE
    arrays, programs, filters = {}, {}, []
    for name, recording in recordings.items():
        program = recording.program
        program.expect_float32(f"program {name}")
        starts = [
            places[_address(recording.kept[place])]
            if buffer.role == "kept"
            else end - program.kept + (buffer.offset or 0)
            for place, buffer in enumerate(program.buffers)
        ]
        renamed = {}
        for given, each in program.names.items():
            if each.strides is not None:
                raise ValueError(f"program {name}: {given} is no dense array")
            operand = Operand(0, starts[each.buffer] + each.offset, each.shape, each.dtype)
            renamed[given] = _name(arrays, name, given, operand)
            arrays[renamed[given]] = operand
        inputs, outputs = (tuple(renamed[each] for each in names) for names in (program.inputs, program.outputs))
        programs[name] = StoredProgram(inputs, outputs, _written(program, starts), *_placed(program, starts, filters))
    given = {name for program in programs.values() for name in program.inputs}
    values = _values(
        {name: each for name, each in arrays.items() if each.offset < end and name not in given}, places, roots
    )
    memory = end + max(recording.program.arena for recording in recordings.values())
    return Stored(memory, arrays, programs, filters, values, about or {})


def write(folder, stored, *, types=None):
    """Write a folder, which appears whole or not at all; ``types`` as for ``contents``.

    Raises ``ValueError`` for a folder that is there and not empty, ``OSError`` if it cannot be written.
    """
    write_folder_atomically(folder, contents(stored, types=types))


def contents(stored, *, types=None):
    """The files of a folder, {name: bytes}.

    types  {array: "BF16" or "F16"} of float32 arrays to write rounded
    """
    described = {
        "format": FORMAT,
        "version": VERSION,
        "memory": stored.memory,
        "arrays": {
            name: {"at": each.offset, "dtype": each.dtype, "shape": each.shape} for name, each in stored.arrays.items()
        },
        "weights": list(stored.values),
        "filters": [{"at": each.offset, "bytes": each.nbytes, "geometry": each.geometry} for each in stored.filters],
        "about": stored.about,
        "programs": {},
    }
    head = json.dumps(described, allow_nan=False)[: -len("}}")]  # the calls follow, one a line
    programs = ",".join(f"\n{json.dumps(name)}: {_program_text(each)}" for name, each in stored.programs.items())
    return {PROGRAM: f"{head}{programs}}}}}\n".encode(), WEIGHTS: tensors.encode(stored.values, types=types)}


def read(folder):
    """The ``Stored`` of a folder. Raises ``ValueError`` naming the file that is missing, truncated or of another
    version, or whose arrays are not those of the other."""
    path = Path(folder) / PROGRAM
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except ValueError:
        raise ValueError(f"{path} is truncated or not a program") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{path} is not a program of tinydiff")
    if found.get("version") != VERSION:
        raise ValueError(f"{path} has version {found.get('version')} of its format; version {VERSION} is read")
    try:
        return _read(found, path)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a program of tinydiff: {error}") from None


def _read(found, path):
    """What ``read`` gives, of the parsed file."""
    arrays = {
        name: Operand(0, each["at"], tuple(each["shape"]), each["dtype"]) for name, each in found["arrays"].items()
    }
    programs = {}
    for name, each in found["programs"].items():
        calls, checks = [], {}
        for number, (kernel, *arguments) in enumerate(each["calls"]):
            if kernel == CHECK:
                checks[number] = arguments.pop()
            calls.append(KernelCall(kernel, tuple(map(_read_argument, arguments))))
        inputs, outputs, writes = tuple(each["inputs"]), tuple(each["outputs"]), list(map(tuple, each["writes"]))
        programs[name] = StoredProgram(inputs, outputs, writes, calls, checks)
    values = _read_weights(path.with_name(WEIGHTS), {name: arrays[name] for name in found["weights"]})
    filters = [Filters(each["at"], each["bytes"], tuple(each["geometry"])) for each in found["filters"]]
    return Stored(found["memory"], arrays, programs, filters, values, found["about"])


def _address(array):
    return np.lib.array_utils.byte_bounds(array)[0]


def _name(arrays, program, wanted, operand):
    """What an array of a program is called among ``arrays``: as there, if they have one of that name that it is, or, of
    those that nobody named, one that it is."""
    if UNNAMED.fullmatch(wanted):
        wanted = next((name for name, each in arrays.items() if each == operand), wanted)
    if arrays.get(wanted, operand) != operand:
        wanted = f"{program}.{wanted}"
    if arrays.get(wanted, operand) != operand:
        raise ValueError(f"two arrays of a program file are called {wanted}")
    return wanted


def _written(program, starts):
    """The stretches of memory that live across runs and that a program changes, [(start, stop)] rising and apart."""
    stretches = []
    writes = (each for call in program.calls for each in call.writes.values() if each is not None)
    kept = (each for each in writes if program.buffers[each.buffer].role == "kept")
    for start, stop in sorted(
        (starts[each.buffer] + each.offset, starts[each.buffer] + each.offset + each.extent) for each in kept
    ):
        if stretches and start <= stretches[-1][1]:
            stretches[-1] = stretches[-1][0], max(stop, stretches[-1][1])
        else:
            stretches.append((start, stop))
    return stretches


def _placed(program, starts, filters):
    """The calls of a program with offsets for arrays, and the words of its checks; its filters join ``filters``."""

    def place(each):
        if isinstance(each, Operand):
            return starts[each.buffer] + each.offset
        if isinstance(each, InMemory):
            return _in_memory(place(each.operand), "float32" if each.operand.dtype == "float32" else "int64")
        return each

    def placed(call):
        return KernelCall(call.kernel, tuple(map(place, call.arguments)))

    calls, checks = [], {}
    for call, key in zip(*prepare.lowered(program)):
        if key is not None:
            w, geometry = key
            found = Filters(place(w), w.nbytes, geometry)
            filters += [] if found in filters else [found]
            call = call._replace(arguments=_with(call.arguments, PREPARED, FiltersOf(filters.index(found))))
        for each in call.ranges:
            checks[len(calls)] = each.name
            calls.append(placed(check_of(each)))
        calls.append(placed(call))
    return calls, checks


def _values(arrays, places, roots):
    """What arrays that live across runs hold now, where that is not zeros; of one that others are parts of, the parts."""
    values, covered = {}, np.zeros(0, bool)
    for name, each in sorted(arrays.items(), key=lambda item: item[1].nbytes):
        root = next(root for root in roots if 0 <= each.offset - places[_address(root)] < root.nbytes)
        at = each.offset - places[_address(root)]
        value = np.ndarray(each.shape, each.dtype, root.reshape(-1).view(np.uint8), at)
        end = each.offset + each.nbytes
        covered = np.append(covered, np.zeros(max(0, end - len(covered)), bool))
        if not covered[each.offset : end].all():
            covered[each.offset : end] = True
            if value.any():
                values[name] = value
    return {name: values[name] for name in arrays if name in values}


def _program_text(program):
    calls = [
        [each.kernel, *map(_argument, each.arguments), *([program.checks[i]] if each.kernel == CHECK else [])]
        for i, each in enumerate(program.calls)
    ]
    head = json.dumps({"inputs": program.inputs, "outputs": program.outputs, "writes": program.writes})[:-1]
    return f'{head}, "calls": [\n' + ",\n".join(json.dumps(call, allow_nan=False) for call in calls) + "]}"


def _with(values, place, value):
    return *values[:place], value, *values[place + 1 :]


def _argument(each):
    if isinstance(each, FiltersOf):
        return {"prepared": each.number}
    if isinstance(each, InMemory):
        return {each.operand.dtype: each.operand.offset}
    if isinstance(each, float):
        return {"float": each}
    if each is not None and abs(each) > EXACT:
        return {"integer": str(each)}
    return each


def _read_argument(each):
    if not isinstance(each, dict):
        return each
    [(kind, value)] = each.items()
    if kind == "prepared":
        return FiltersOf(value)
    if kind in ("float", "integer"):
        return {"float": float, "integer": int}[kind](value)
    return _in_memory(value, kind)


def _in_memory(offset, dtype):
    return InMemory(Operand(0, offset, (1,), dtype))


def _read_weights(path, arrays):
    """{name: value} of the arrays of those names. Raises ``ValueError`` unless they are those of the file."""
    try:
        found = dict(safetensors.deserialize(path.read_bytes()))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is truncated or not a safetensors file: {error}") from None
    if found.keys() != arrays.keys():
        raise ValueError(f"{path} does not go with {PROGRAM}: {min(found.keys() ^ arrays.keys())} is in one alone")
    values = {}
    for name, tensor in found.items():
        wanted, shape, kind = arrays[name], tuple(tensor["shape"]), tensor["dtype"]
        dtype = DTYPES[kind]
        if (shape, dtype) != (wanted.shape, wanted.dtype):
            raise ValueError(
                f"{path} does not go with {PROGRAM}: {name} must be {wanted.dtype} {wanted.shape}, got {dtype} {shape}"
            )
        in_file = np.frombuffer(tensor["data"], tensors.KINDS.get(kind, dtype)).reshape(shape)
        values[name] = tensors.as_float32(in_file, kind) if kind in tensors.KINDS else in_file
    return values
