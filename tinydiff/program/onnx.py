"""Programs as ONNX models: what a function of arrays does, as one graph that any ONNX runtime runs.

A program is recorded at one size of batch, a model is for all. So it is recorded at two: the axes that differ grow with
the batch, and nothing else may. Both must give the same graph, node by node; then no number in it came from the batch.

Images, four axes of float32, go in and out with their channels first, (N, C, H, W).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinydiff.program.onnx_graph import BATCH, Graph, Memory, Piece, Value
from tinydiff.program.onnx_ops import write

OPSET = 18
NEXT = "next."  # before the name of an array that the model takes: as it is afterwards
OUTPUT = "output."  # before the names of what a recorded function returned


class Tensor(NamedTuple):
    """An input or an output of a model."""

    name: str
    dtype: str
    shape: tuple[Any, ...]  # "N" for the axis of the batch


def require():
    """The package onnx. Raises ``ValueError`` that says how to install it."""
    try:
        import onnx
    except ModuleNotFoundError:
        raise ValueError("ONNX files need the package onnx: pip install 'tinydiff[onnx]'") from None
    return onnx


def to_model(recordings, *, state=(), documents=None, about=""):
    """A checked ``onnx.ModelProto`` of a program.

    recordings  two ``Recording``s of the same function at two sizes of batch, the first axis of the first input
    state       names of arrays that a run may change and that live on: the model takes each, and gives what a run
                makes of it as next.NAME. All other arrays that lie in the program are constants of the model
    documents   {name of an input or output: what it is}
    about       what the model is

    Raises ``ValueError`` for a program that cannot be written so.
    """
    onnx = require()
    for each in recordings:
        each.program.expect_float32("onnx")
    graphs = [_traced(one, other.program, state) for one, other in (recordings, reversed(recordings))]
    (graph, inputs, outputs), (other, *_) = graphs
    if graph.nodes != other.nodes or not _same(graph.constants, other.constants):
        raise ValueError("onnx: a number in this program depends on the size of the batch")
    nodes, constants = _needed(graph, [each.name for each in outputs])

    helper, documents = onnx.helper, documents or {}

    def described(tensor):
        dtype = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
        return helper.make_tensor_value_info(tensor.name, dtype, tensor.shape, documents.get(tensor.name, ""))

    made = helper.make_graph(
        [
            helper.make_node(each.op_type, each.inputs, each.outputs, f"{each.where}/{i}", **dict(each.attributes))
            for i, each in enumerate(nodes)
        ],
        "tinydiff",
        [described(each) for each in inputs],
        [described(each) for each in outputs],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
        about,
    )
    opset = helper.make_opsetid("", OPSET)
    ir = helper.find_min_ir_version_for([opset])  # so that a runtime of that opset's time reads it
    model = helper.make_model(made, opset_imports=[opset], ir_version=ir, producer_name="tinydiff")
    onnx.checker.check_model(model, full_check=True)
    return model


def _traced(recording, other, state):
    """The ``Graph`` of a recording, what it takes and what it gives; ``other`` is its program at another batch."""
    program = recording.program
    calls, twins = ([(c.op, c.verb, c.operands.keys()) for c in each.calls] for each in (program, other))
    if calls != twins:
        raise ValueError("onnx: this program does something else at another size of batch")
    graph = Graph(trains=any(call.verb == "backward" for call in program.calls))
    kept, inputs = _kept(graph, recording, other, [*program.inputs, *state])
    graph.batch = graph("Shape", inputs[0].name, start=0, end=1)
    memory = Memory(graph, kept, batch=program.names[program.inputs[0]].shape[0])

    for number, (call, twin) in enumerate(zip(program.calls, other.calls)):
        graph.where = f"{number}.{call.op}.{call.verb}"
        shapes = {
            name: each and _shape(each, (twin.reads | twin.writes)[name])
            for name, each in (call.reads | call.writes).items()
        }
        reads = {
            name: each and memory.read(each, shapes[name])
            for name, each in (call.reads | {name: call.writes[name] for name in call.updates}).items()
        }
        written = write(graph, call, reads, {name: shapes[name] for name in call.writes})
        for name, each in call.writes.items():
            if each is not None and name in written:
                memory.write(each, written[name])

    outputs = []
    named = {name.removeprefix(OUTPUT): name for name in program.outputs}
    named |= {f"{NEXT}{name}": name for name in state if name in program.written}
    for public, name in named.items():
        graph.where = public
        operand = program.names[name]
        value = memory.read(operand, _shape(operand, other.names[name]))
        graph.rename(graph.planes(value) if _is_image(operand, value.shape) else graph.last(value), public)
        outputs.append(_tensor(public, operand, value.shape))
    return graph, inputs, outputs


def _kept(graph, recording, other, given):
    """{buffer: [Piece]} of what is there before the first call, and the inputs among it."""
    program, kept, inputs = recording.program, {}, []
    constants = [name for name in program.names if name not in given and name not in program.written]
    for name in [*given, *constants]:
        operand = program.names[name]
        pieces = kept.setdefault(operand.buffer, [])
        piece = Piece(operand.offset, 1, operand.nbytes, operand.nbytes, None)
        if operand.buffer not in recording.kept or any(each.meets(piece) for each in pieces):
            continue  # it is made by a call, or has another name
        shape = _shape(operand, other.names[name])
        if name in given:
            value = Value(name, shape, planes=_is_image(operand, shape))
            inputs.append(_tensor(name, operand, shape))
        else:
            value = Value(graph.constant(_array(recording, operand), name), shape)
        pieces.append(piece._replace(value=value))
    return kept, inputs


def _array(recording, operand):
    """The array that a kept operand is."""
    owner = recording.kept[operand.buffer]
    return np.ndarray(operand.shape, operand.dtype, owner, operand.offset, operand.strides)


def _shape(operand, twin):
    """Its shape, with ``BATCH`` for the axis in which that of another batch differs."""
    shape = tuple(n if n == other else BATCH for n, other in zip(operand.shape, twin.shape, strict=True))
    if shape.count(BATCH) > 1:
        raise ValueError(f"onnx: two axes of an array of {operand.shape} grow with the batch")
    return shape


def _is_image(operand, shape):
    """Whether it is of images, one a sample; a filter has four axes too."""
    return len(shape) == 4 and shape[0] == BATCH and operand.dtype == "float32"


def _tensor(name, operand, shape):
    if _is_image(operand, shape):
        N, H, W, C = shape
        shape = (N, C, H, W)
    return Tensor(name, operand.dtype, tuple("N" if n == BATCH else n for n in shape))


def _same(constants, others):
    return constants.keys() == others.keys() and all(
        np.array_equal(each, others[name]) for name, each in constants.items()
    )


def _needed(graph, outputs):
    """The nodes and the constants that the outputs depend on."""
    wanted, nodes = set(outputs), []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            nodes.append(node)
            wanted.update(node.inputs)
    return nodes[::-1], {name: array for name, array in graph.constants.items() if name in wanted}
