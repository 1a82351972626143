"""A graph of ONNX operators while it is built, and a program's memory as values of such a graph.

A program overwrites, takes views and puts arrays together in one buffer; in a graph every value is made once and stays
what it is. ``Memory`` says at every call which value, or which parts of which, a stretch of the program's memory holds.
Images are channels-last in a program and have their channels first here, as ONNX runtimes expect them: ``planes``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinydiff.program.arrays import copied_rows, dense_strides

BATCH = -1  # in a shape: this axis grows with the batch. It is what Reshape takes for an axis it shall find out itself
DOUBLE, FLOAT = 11, 1  # as onnx.TensorProto numbers them
FEW = 64  # values of a constant that is looked for among those already there
FOLDED = {"Transpose": np.transpose, "Reshape": np.reshape}  # done at once where the input is a constant


class Value(NamedTuple):
    """An array of the program as a tensor of the graph."""

    name: str
    shape: tuple[int, ...]  # as the program has it, channels last; ``BATCH`` for an axis that grows with the batch
    planes: bool = False  # the tensor is (N, C, H, W) where the shape is (N, H, W, C)


class Node(NamedTuple):
    """An operator. ``where`` is the call that it is part of."""

    op_type: str
    inputs: tuple[str, ...]  # "" for one that is left out
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, Any], ...]
    where: str


class Graph:
    """Operators and constants. ``graph("Add", a, b)`` adds an operator and returns the name of its output.

    trains  whether a backward pass is part of it, which reads what a forward only passes through
    batch   the name of the size of the batch, (1,) int64, once it is known
    """

    def __init__(self, *, trains):
        self.trains, self.batch = trains, None
        self.nodes, self.constants = [], {}
        self.where = ""
        self._made = {}  # what makes a value -> its name
        self._reshaped = {}  # the output of a Reshape -> its input

    def __call__(self, op_type, *inputs, outputs=1, **attributes):
        """The name of the operator's output, a tuple of names of several.

        Inputs are names, None for one left out, or numbers and arrays, which become constants: floats as float32,
        integers as int64. The same operator on the same inputs is there once, so what a backward computes again to
        save memory is not: how to trade one for the other is the runtime's to decide.
        """
        inputs = tuple("" if each is None else self._name(each) for each in inputs)
        attributes = tuple(sorted(attributes.items()))
        key = op_type, inputs, attributes, outputs
        if key not in self._made:
            self._made[key] = self._fold(*key) or self._add(*key)
        made = self._made[key]
        return made[0] if outputs == 1 else made

    def _fold(self, op_type, inputs, attributes, _):
        if op_type not in FOLDED or inputs[0] not in self.constants:
            return None
        of, *others = (self.constants[each] for each in inputs)
        name = f"{inputs[0]}/{op_type}.{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(FOLDED[op_type](of, *others, *(value for _, value in attributes)))
        return (name,)

    def _add(self, op_type, inputs, attributes, outputs):
        names = tuple(f"{op_type}.{len(self.nodes)}" + (f".{i}" if outputs > 1 else "") for i in range(outputs))
        self.nodes.append(Node(op_type, inputs, names, attributes, self.where))
        return names

    def _name(self, value):
        return value if isinstance(value, str) else self.constant(value)

    def constant(self, values, name=None):
        """The name of a constant: a number, a sequence of them or an array."""
        array = np.asarray(values)
        if not isinstance(values, (np.ndarray, np.generic)):
            array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        key = None
        if name is None and array.size <= FEW:
            key = array.dtype.str, array.shape, array.tobytes()
            if key in self._made:
                return self._made[key]
        name = name or f"constant.{len(self.constants)}"
        self.constants[name] = array
        if key:
            self._made[key] = name
        return name

    def rename(self, name, new):
        """Give a tensor another name."""
        self.nodes.append(Node("Identity", (name,), (new,), (), self.where))

    # shapes and layouts

    def reshape(self, name, shape):
        """The tensor's values in another shape, in which one axis may be ``BATCH``."""
        name = self._reshaped.get(name, name)
        made = self("Reshape", name, np.array(shape, np.int64))
        if made not in self.constants:
            self._reshaped[made] = name
        return made

    def planes(self, value):
        """The name of an image's tensor with its channels first: (N, C, H, W)."""
        if value.planes:
            return value.name
        N, H, W, C = value.shape
        if H == W == 1:  # turned by reading it so: no value moves
            return self.reshape(value.name, (N, C, 1, 1))
        return self("Transpose", value.name, perm=(0, 3, 1, 2))

    def last(self, value):
        """The name of a tensor in the order that the program has it in."""
        if not value.planes:
            return value.name
        if value.shape[1:3] == (1, 1):
            return self.reshape(value.name, value.shape)
        return self("Transpose", value.name, perm=(0, 2, 3, 1))

    def shaped(self, value, shape):
        """The value as one of this shape."""
        if value.shape == shape:
            return value
        return Value(self.reshape(self.last(value), shape), shape)

    def matrix(self, value):
        """The name of a value (..., C) as (M, C)."""
        if len(value.shape) == 2:
            return self.last(value)
        return self.reshape(self.last(value), (BATCH, value.shape[-1]))

    def flat(self, value):
        """The name of a value with one axis."""
        return self.last(value) if len(value.shape) == 1 else self.reshape(self.last(value), (BATCH,))

    def alike(self, *values):
        """The names of values of one shape in one layout, and whether that is ``planes``."""
        planes = any(each.planes for each in values)
        return [(self.planes if planes else self.last)(each) for each in values], planes

    def expand(self, value, shape):
        """A value (1, ...) again and again along the first axis."""
        planes = len(shape) == 4
        name = self.planes(value) if planes else self.last(value)
        count = self.batch if shape[0] == BATCH else [shape[0]]
        wanted = self("Concat", count, [1] * (len(shape) - 1), axis=0)
        return Value(self("Expand", name, wanted), shape, planes)


class Piece(NamedTuple):
    """A stretch of a buffer and what it holds: rows of ``width`` bytes, one every ``step`` bytes."""

    start: int
    rows: int
    step: int
    width: int
    value: Value | None

    @property
    def stop(self):
        return self.start + (self.rows - 1) * self.step + self.width

    @property
    def is_dense(self):
        return self.rows == 1

    def meets(self, other):
        """Whether some byte is of both."""
        if self.stop <= other.start or other.stop <= self.start:
            return False
        beside = (self.rows, self.step) == (other.rows, other.step) and not self.is_dense
        first, second = sorted((self, other), key=lambda piece: piece.start)
        return not (beside and first.start + first.width <= second.start and second.stop - first.start <= self.reach)

    @property
    def reach(self):
        """The bytes of all its rows, with those between and behind them."""
        return self.rows * self.step

    def holds(self, other):
        """Whether all bytes of the other lie within."""
        return self.is_dense and self.start <= other.start and other.stop <= self.stop or self[:4] == other[:4]


class Memory:
    """What every buffer of a program holds, as values of a graph.

    kept   {buffer: [Piece]} of what lives across runs, as it is before the first call
    batch  at which the program was recorded
    """

    def __init__(self, graph, kept, batch):
        self.graph, self.batch = graph, batch
        self._held = {buffer: list(pieces) for buffer, pieces in kept.items()}

    def read(self, operand, shape):
        """What an operand holds, as a value of that shape (which marks the axes that grow with the batch)."""
        if operand.strides is None:
            return self.graph.shaped(self._stretch(operand, operand.offset, operand.nbytes), shape)
        rows = _rows(operand)
        if rows.step == 0:
            if shape[0] == BATCH and operand.shape[0] != self.batch:
                raise ValueError("onnx: an array is repeated another number of times than there are samples")
            one = self._stretch(operand, rows.start, rows.width)
            return self.graph.expand(self.graph.shaped(one, (1, *shape[1:])), shape)
        return self.graph.shaped(self._columns(operand, rows), shape)

    def write(self, operand, value):
        """From now on the operand's stretch of memory holds that value."""
        new = _rows(operand)._replace(value=value)
        held = [each for each in self._held.get(operand.buffer, ()) if not new.holds(each)]
        if any(each.meets(new) for each in held):
            raise ValueError("onnx: a program that writes over a part of an array cannot be written as a graph")
        self._held[operand.buffer] = [*held, new]

    def _stretch(self, operand, start, nbytes):
        """The value, of any shape, of so many bytes of an operand's buffer, which lie without gaps."""
        graph, stop, itemsize = self.graph, start + nbytes, operand.itemsize
        found = [each for each in self._held.get(operand.buffer, ()) if each.start < stop and start < each.stop]
        found.sort(key=lambda piece: piece.start)
        if len(found) == 1 and found[0].is_dense and found[0].start <= start and stop <= found[0].stop:
            (piece,) = found
            if (piece.start, piece.width) == (start, nbytes):
                return piece.value
            first, last = ((each - piece.start) // itemsize for each in (start, stop))
            return Value(graph("Slice", graph.flat(piece.value), [first], [last], [0]), (last - first,))
        together = sum(each.rows * each.width for each in found)
        if not found or (found[0].start, found[-1].stop, together) != (start, stop, nbytes):
            raise ValueError("onnx: an array is read that was not written, or only a part of it")
        if all(each.is_dense for each in found):
            return Value(graph("Concat", *(graph.flat(each.value) for each in found), axis=0), (nbytes // itemsize,))
        columns = (graph.matrix(each.value) for each in found)
        return Value(graph("Concat", *columns, axis=1), (BATCH, found[0].step // itemsize))

    def _columns(self, operand, rows):
        """Some neighbouring columns of a matrix."""
        graph, itemsize = self.graph, operand.itemsize
        for piece in self._held.get(operand.buffer, ()):
            if piece.holds(rows) and piece.width == rows.reach:
                first = (rows.start - piece.start) // itemsize
                last = first + rows.width // itemsize
                matrix = graph.reshape(graph.last(piece.value), (BATCH, rows.step // itemsize))
                return Value(graph("Slice", matrix, [first], [last], [1]), (BATCH, last - first))
        raise ValueError("onnx: an array with gaps is read that is not some columns of a matrix")


def _rows(operand):
    """The stretch of memory of an operand."""
    if operand.strides is None:
        return Piece(operand.offset, 1, operand.nbytes, operand.nbytes, None)
    itemsize = operand.itemsize
    found = copied_rows(operand.shape, operand.strides, dense_strides(operand.shape, itemsize), itemsize)
    if found is None:
        raise ValueError(f"onnx: an array of {operand.shape} with strides {operand.strides} is not rows of a matrix")
    rows, width, step, _ = found
    return Piece(operand.offset, rows, step, width, None)
