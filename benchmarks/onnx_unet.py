"""The same U-Net as an ONNX graph, run by onnxruntime and OpenVINO: peers to be compared with.

The graph is made of the program of one evaluation, at a fixed size of batch: images as NCHW, group norm, SiLU and
attention spelled out as exporters of PyTorch's spell them, which is what these runtimes know to fuse.
"""

from __future__ import annotations

import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tinydiff.ops.timestep_embedding import MAX_PERIOD
from tinydiff.program import runs

OPSET, IR_VERSION = 18, 9  # of 2022, which both read
TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
IMAGE = "NCHW"  # how the graph holds what conv2d, group_norm, concat and upsample2x read and write
PLAIN = "plain"  # in the order of its own axes


class Graph:
    """An ONNX graph in the making, and in which layouts it holds each array of the program."""

    def __init__(self, recording):
        self.program, self.kept = recording.program, recording.kept
        self.nodes, self.constants, self.count = [], [], 0
        self.held = {}  # buffer -> (layout, name, shape of the array)
        self.views = {}  # (name, layout, shape) -> the node that is that view

    def constant(self, values, dtype=np.float32):
        self.count += 1
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype), f"c{self.count}"))
        return f"c{self.count}"

    def shape(self, *sizes):
        return self.constant(sizes, np.int64)

    def node(self, kind, *inputs, **attributes):
        self.count += 1
        self.nodes.append(helper.make_node(kind, list(inputs), [f"t{self.count}"], **attributes))
        return f"t{self.count}"

    def value(self, operand):
        """The numbers of a kept array."""
        root = self.kept[operand.buffer].reshape(-1).view(np.uint8)
        return root[operand.offset :][: operand.nbytes].view(operand.dtype).reshape(operand.shape)

    def read(self, operand, layout=PLAIN):
        """The name of an array in a layout."""
        if operand.buffer not in self.held:
            values = self.value(operand)
            return self.constant(values.transpose(0, 3, 1, 2) if layout == IMAGE else values, operand.dtype)
        held, name, shape = self.held[operand.buffer]
        key = name, layout, operand.offset, operand.shape
        if key not in self.views:
            self.views[key] = self._view(operand, held, name, shape, layout)
        return self.views[key]

    def _view(self, operand, held, name, shape, layout):
        if held == layout and shape == operand.shape:
            return name
        if held == IMAGE:
            name = self.node("Transpose", name, perm=[0, 2, 3, 1])
        if operand.strides:  # a part of each row
            start, width = operand.offset // 4, operand.shape[-1]
            name = self.node("Slice", name, *(self.shape(n) for n in (start, start + width, -1)))
        elif shape != operand.shape:
            name = self.node("Reshape", name, self.shape(*operand.shape))
        return self.node("Transpose", name, perm=[0, 3, 1, 2]) if layout == IMAGE else name

    def write(self, operand, name, layout=PLAIN):
        self.held[operand.buffer] = layout, name, operand.shape


def linear(g, r, w, o):
    product = g.node("MatMul", g.read(r["x"]), g.read(r["w"]))
    g.write(w["y"], g.node("Add", product, g.read(r["b"])))


def conv2d(g, r, w, o):
    weight = g.constant(g.value(r["w"]).transpose(3, 2, 0, 1))
    before, after = o["padding"]
    pads, stride = [before, before, after, after], o["stride"]
    y = g.node("Conv", g.read(r["x"], IMAGE), weight, g.read(r["b"]), pads=pads, strides=[stride, stride])
    if r["add"] is not None:
        y = g.node("Add", y, g.read(r["add"], IMAGE))
    g.write(w["y"], y, IMAGE)


def silu_of(g, x):
    return g.node("Mul", x, g.node("Sigmoid", x))


def group_norm(g, r, w, o):
    N, H, W, C = r["x"].shape
    G = o["groups"]
    x = g.node("Reshape", g.read(r["x"], IMAGE), g.shape(N, G, -1))
    x = g.node("InstanceNormalization", x, g.constant(np.ones(G)), g.constant(np.zeros(G)), epsilon=o["eps"])
    x = g.node("Reshape", x, g.shape(N, C, H, W))
    gamma, beta = (g.constant(g.value(r[name]).reshape(1, C, 1, 1)) for name in ("gamma", "beta"))
    x = g.node("Add", g.node("Mul", x, gamma), beta)
    if r["scale"] is not None:
        scale, shift = (g.node("Reshape", g.read(r[name]), g.shape(N, C, 1, 1)) for name in ("scale", "shift"))
        x = g.node("Add", g.node("Mul", x, g.node("Add", scale, g.constant(1.0))), shift)
    g.write(w["y"], silu_of(g, x) if o["silu"] else x, IMAGE)


def silu(g, r, w, o):
    g.write(w["y"], silu_of(g, g.read(r["x"])))


def attention(g, r, w, o):
    D = r["q"].shape[-1]
    q = g.node("Mul", g.node("Transpose", g.read(r["q"]), perm=[0, 2, 1, 3]), g.constant(D**-0.5))
    k = g.node("Transpose", g.read(r["k"]), perm=[0, 2, 3, 1])
    v = g.node("Transpose", g.read(r["v"]), perm=[0, 2, 1, 3])
    mixed = g.node("MatMul", g.node("Softmax", g.node("MatMul", q, k), axis=-1), v)
    g.write(w["y"], g.node("Transpose", mixed, perm=[0, 2, 1, 3]))


def upsample2x(g, r, w, o):
    how = dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    g.write(w["y"], g.node("Resize", g.read(r["x"], IMAGE), "", g.constant([1, 1, 2, 2]), **how), IMAGE)


def concat(g, r, w, o):
    g.write(w["y"], g.node("Concat", g.read(r["a"], IMAGE), g.read(r["b"], IMAGE), axis=1), IMAGE)


def class_embedding(g, r, w, o):
    g.write(w["y"], g.node("Gather", g.read(r["table"]), g.read(r["labels"]), axis=0))


def timestep_embedding(g, r, w, o):
    half = w["y"].shape[1] // 2
    frequency = g.constant(MAX_PERIOD ** (-np.arange(half)[None] / half))
    angle = g.node("Mul", g.node("Unsqueeze", g.read(r["step"]), g.shape(1)), frequency)
    g.write(w["y"], g.node("Concat", g.node("Sin", angle), g.node("Cos", angle), axis=1))


def add(g, r, w, o):
    layout = IMAGE if len(w["y"].shape) == 4 else PLAIN
    g.write(w["y"], g.node("Add", g.read(r["a"], layout), g.read(r["b"], layout)), layout)


def copy(g, r, w, o):
    """A part of each row, or the same again for each image."""
    if r["x"].buffer in g.held:
        return g.write(w["y"], g.read(r["x"]))
    name = g.program.names
    whole = next(each for each in name.values() if each.buffer == r["x"].buffer)
    g.write(w["y"], g.constant(np.broadcast_to(g.value(whole), w["y"].shape)))


WRITERS = (linear, conv2d, group_norm, silu, attention, upsample2x, concat, class_embedding, timestep_embedding)
WRITE = {f"{each.__name__}.forward": each for each in WRITERS} | {"array.add": add, "array.copy": copy}


def graph_of(model, count):
    """The ONNX model of one evaluation, serialized: x (N,C,H,W), step (N,), labels (N,) -> prediction (N,C,H,W)."""
    recording = runs.predict(model, count)
    g, program = Graph(recording), recording.program
    for name in program.inputs:
        g.write(program.names[name], name, IMAGE if name == "x" else PLAIN)
    for call in program.calls:
        WRITE[f"{call.op}.{call.verb}"](g, call.reads, call.writes, call.options)
    result = g.read(program.names["prediction"], IMAGE)
    g.nodes.append(helper.make_node("Identity", [result], ["prediction"]))
    inputs, outputs = ([_info(program, name) for name in names] for names in (program.inputs, program.outputs))
    graph = helper.make_graph(g.nodes, "unet", inputs, outputs, g.constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def _info(program, name):
    operand = program.names[name]
    shape = [operand.shape[i] for i in (0, 3, 1, 2)] if len(operand.shape) == 4 else operand.shape
    return helper.make_tensor_value_info(name, TYPES[operand.dtype], shape)


def onnxruntime_network(graph):
    """x, step, labels -> prediction, all NumPy arrays. (On x86 it computes convolutions in float32 alone.)"""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda **inputs: session.run(None, inputs)[0]


def openvino_network(graph, precision):
    import openvino

    core = openvino.Core()
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": cores(), "INFERENCE_PRECISION_HINT": precision}
    request = core.compile_model(core.read_model(graph), "CPU", hints).create_infer_request()
    return lambda **inputs: request.infer(inputs)[0]


NETWORKS = {
    "onnxruntime": {"onnxruntime": onnxruntime_network},
    "openvino": {
        "openvino": lambda graph: openvino_network(graph, "f32"),
        "openvino, bf16": lambda graph: openvino_network(graph, "bf16"),
    },
}


def peers(model, count, names):
    """{variant: function of x (N,H,W,C), step, labels -> prediction (N,H,W,C)} of these runtimes."""
    graph = graph_of(model, count)

    def nhwc(network):
        def evaluate(x, step, labels):
            x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
            return network(x=x, step=step, labels=labels).transpose(0, 2, 3, 1)

        return evaluate

    return {variant: nhwc(make(graph)) for name in names for variant, make in NETWORKS[name].items()}


def versions(names):
    """{runtime: its version}."""
    from importlib import metadata

    return {name: metadata.version(name) for name in names}


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
