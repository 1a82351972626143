"""A program's calls as the kernels of ``csrc/cpu`` take them, for every interpreter of them (``csrc/cpu/program.cpp``).

A kernel call is a kernel's name, as csrc/cpu/kernels.h lists it, and its arguments in the order of its signature,
structures field by field: plain numbers; an ``Operand`` for a pointer, None for null; and an ``InMemory`` for a number
that lies in an array and is read when the program runs. ``words`` makes one flat list of 64-bit integers of them:

    a header      kernel + 2^8 arguments + 2^16 kinds, two bits an argument: 0 it is the next word, 1 a float32, 2 a
                  64-bit integer that lies where the next word points
    arguments     an integer; a float as the bits of a float64; a pointer as the integer that ``address`` makes of it,
                  -1 for null
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from tinydiff import ops
from tinydiff.precision import FLOAT32
from tinydiff.program.program import Operand

CHECK = "expect_within"  # not a kernel: pointer, count, low, high; ends the run where a value lies outside [low, high)
NULL = -1
BF16 = "_bf16"  # behind the name of a kernel that is there in both precisions
FORWARD, LINEAR = "conv2d_forward", "linear_forward"
PREPARED, GEOMETRY = 2, 7  # where, among its arguments, prepared filters stand, and where its sizes begin
UNPREPARED, FASTEST = None, 0  # filters as they are; of its algorithms the one to take
ADD_NONE, ADD_TIME_SHIFT, ADD_RESIDUAL = 0, 1, 2  # as csrc/cpu/kernels.h numbers them


class InMemory(NamedTuple):
    """A number that lies in an array of one element."""

    operand: Operand


class Range(NamedTuple):
    """Integers that a kernel takes for indices: they must lie in [low, high), or it would read beyond an array."""

    name: str  # as the op's own error calls them, after the op's name
    operand: Operand
    low: int
    high: int


class KernelCall(NamedTuple):
    kernel: str
    arguments: tuple
    ranges: tuple[Range, ...] = ()


def lower(call):
    """The ``KernelCall`` of a ``Call``."""
    verb = f"{call.op}.{call.verb}"
    lowered = LOWER[verb](call.reads, call.writes, call.options)
    in_both = call.op in FLOAT32 or verb == "array.add"
    if in_both and any(each.dtype == "bfloat16" for each in call.operands.values()):
        return lowered._replace(kernel=f"{lowered.kernel}{BF16}")
    return lowered


def words(calls, numbers, address):
    """Kernel calls as one list of integers, and where each check of a range begins in it: {position: Range}.

    numbers  {name: number} of the kernels, and of ``CHECK``
    address  (Operand, or whatever else stands for an array) -> the integer that stands for its first byte
    """
    made, checks = [], {}
    for call in calls:
        for each in call.ranges:
            checks[len(made)] = each
            made += words_of(check_of(each), numbers, address)
        made += words_of(call, numbers, address)
    return made, checks


def check_of(wanted):
    """The call that checks a ``Range``."""
    return KernelCall(CHECK, (wanted.operand, wanted.operand.size, wanted.low, wanted.high))


def words_of(kernel_call, numbers, address):
    """One call's header and arguments."""
    kernel, arguments, _ = kernel_call
    header, made = numbers[kernel] | len(arguments) << 8, []
    for i, each in enumerate(arguments):
        if each is None:
            each = NULL
        elif isinstance(each, InMemory):
            header |= (1 if each.operand.dtype == "float32" else 2) << 16 + 2 * i
            each = address(each.operand)
        elif isinstance(each, tuple):
            each = address(each)
        elif isinstance(each, float):
            (each,) = struct.unpack("<q", struct.pack("<d", each))
        elif each >= 2**63:
            each -= 2**64  # the same bits
        made.append(int(each))
    return [header, *made]


def as_convolution(call):
    """A kernel call of a linear layer as that of a convolution of images of one pixel, which it is; others as they are."""
    if call.kernel not in (LINEAR, LINEAR + BF16):
        return call
    x, w, b, y, M, C, O = call.arguments
    geometry = M, 1, 1, C, 1, 1, O, 1, 0, 1, 1, FASTEST
    kernel = call.kernel.replace(LINEAR, FORWARD)
    return KernelCall(kernel, (x, w, UNPREPARED, b, None, ADD_NONE, y, *geometry))


# one function a kernel, (reads, writes, options) -> KernelCall


def _linear_forward(r, w, o):
    C, O = r["w"].shape
    return KernelCall(LINEAR, (r["x"], r["w"], r["b"], w["y"], r["x"].size // C, C, O))


def _linear_backward(r, w, o):
    C, O = r["w"].shape
    M = r["x"].size // C
    return KernelCall("linear_backward", (r["dy"], r["x"], r["w"], w["dx"], w["dw"], w["db"], M, C, O))


def _geometry(x, w, y, o):
    N, H, W, C = x.shape
    R, S, _, O = w.shape
    _, H_out, W_out, _ = y.shape
    return N, H, W, C, R, S, O, o["stride"], o["padding"][0], H_out, W_out, FASTEST


def _conv2d_forward(r, w, o):
    add, y = r["add"], w["y"]
    kind = ADD_NONE
    if add is not None:
        kind = ADD_TIME_SHIFT if add.shape == (y.shape[0], 1, 1, y.shape[3]) else ADD_RESIDUAL
    arguments = r["x"], r["w"], UNPREPARED, r["b"], add, kind, y, *_geometry(r["x"], r["w"], y, o)
    return KernelCall(FORWARD, arguments)


def _conv2d_backward(r, w, o):
    dy, x, weight = r["dy"], r["x"], r["w"]
    outputs = w["dx"], w["dw"], w["db"], w["dadd"]
    return KernelCall("conv2d_backward", (dy, x, weight, *outputs, *_geometry(x, weight, dy, o)))


def _group_norm_sizes(x, o):
    N, H, W, C = x.shape
    return N, H * W, C, o["groups"], float(o.get("eps", 0.0)), int(o["silu"])


def _group_norm_forward(r, w, o):
    arguments = *r.values(), w["y"], w["mean"], w["rstd"], *_group_norm_sizes(r["x"], o)
    return KernelCall("group_norm_forward", arguments)


def _group_norm_backward(r, w, o):
    return KernelCall("group_norm_backward", (*r.values(), *w.values(), *_group_norm_sizes(r["x"], o)))


def _layer_norm(verb):
    def lowered(r, w, o):
        C = r["gamma"].size
        eps = (float(o["eps"]),) if verb == "forward" else ()
        return KernelCall(f"layer_norm_{verb}", (*r.values(), *w.values(), r["x"].size // C, C, *eps))

    return lowered


def _silu(verb):
    return lambda r, w, o: KernelCall(f"silu_{verb}", (*r.values(), *w.values(), r["x"].size))


def _gelu(verb):
    def lowered(r, w, o):
        form = ops.gelu.FORMS.index(o["form"])
        return KernelCall(f"gelu_{verb}", (*r.values(), *w.values(), r["x"].size, form))

    return lowered


def _geglu(verb):
    def lowered(r, w, o):
        C = r["x"].shape[-1] // 2
        return KernelCall(f"geglu_{verb}", (*r.values(), *w.values(), r["x"].size // (2 * C), C))

    return lowered


def _dropout(r, w, o):
    (x, *_), (y,) = r.values(), w.values()
    drawn = _number("seed", r, o), ops.dropout.purpose_of(o["layer"]), InMemory(r["number"])
    threshold, N, slot = ops.dropout.threshold_of(o["rate"]), x.shape[0], r["slot"]
    arguments = x, slot, *drawn, threshold, ops.dropout.scale_of(threshold), y, N, x.size // N
    ranges = () if slot is None else (Range("dropout: slot", slot, 0, ops.philox.SAMPLES),)
    return KernelCall("dropout_forward", arguments, ranges)


def _attention(verb):
    def lowered(r, w, o):
        N, L, A, D = r["q"].shape
        M, length = r["k"].shape[1], r["length"]
        ranges = () if length is None else (Range("attention: length", length, 1, M + 1),)
        arguments = *r.values(), *w.values(), N, L, M, A, D, int(o["causal"])
        return KernelCall(f"attention_{verb}", arguments, ranges)

    return lowered


def _upsample2x_forward(r, w, o):
    return KernelCall("upsample2x_forward", (r["x"], w["y"], *r["x"].shape))


def _upsample2x_backward(r, w, o):
    return KernelCall("upsample2x_backward", (r["dy"], w["dx"], *w["dx"].shape))


def _concat(verb, a_and_b):
    def lowered(r, w, o):
        a, b = a_and_b(r, w)
        A, B = a.shape[-1], b.shape[-1]
        return KernelCall(f"concat_{verb}", (*r.values(), *w.values(), a.size // A, A, B))

    return lowered


def _class_embedding_forward(r, w, o):
    table, labels = r["table"], r["labels"]
    K, E = table.shape
    rows = Range("class_embedding: labels", labels, 0, K)
    return KernelCall("class_embedding_forward", (table, labels, w["y"], labels.size, E), (rows,))


def _class_embedding_backward(r, w, o):
    arguments = r["dy"], r["labels"], w["dtable"], r["labels"].size, *w["dtable"].shape
    return KernelCall("class_embedding_backward", arguments)


def _timestep_embedding(r, w, o):
    N, E = w["y"].shape
    return KernelCall("timestep_embedding_forward", (r["step"], w["y"], N, E // 2))


def _loss_forward(op):
    def lowered(r, w, o):
        N = r["prediction"].shape[0]
        return KernelCall(f"{op}_forward", (*r.values(), w["loss"], N, r["prediction"].size // N))

    return lowered


def _loss_backward(op):
    def lowered(r, w, o):
        N = r["prediction"].shape[0]
        return KernelCall(f"{op}_backward", (o["dloss"], *r.values(), *w.values(), N, r["prediction"].size // N))

    return lowered


def _gaussian(kernel):
    """Of moments in rows of two halves."""

    def lowered(r, w, o):
        moments = r["moments"]
        Z = moments.shape[-1] // 2
        return KernelCall(kernel, (*o.values(), *r.values(), *w.values(), moments.size // (2 * Z), Z))

    return lowered


def _philox(r, w, o):
    y, sample = w["y"], r["sample"]
    seed, draw = (_number(name, r, o) for name in ("seed", "draw"))
    purpose, N = ops.philox.PURPOSES[o["purpose"]], y.shape[0]
    arguments = seed, purpose, sample, draw, y, N, y.size // N
    return KernelCall(f"philox_{o['kind']}", arguments, (Range("philox: sample", sample, 0, 2**32),))


def _draw_batch(r, w, o):
    n = r["labels"].shape[0]
    purposes = (ops.philox.PURPOSES[name] for name in ("order", "step", "label_drop"))
    sizes = n, w["index"].size, o["noise_steps"], o["classes"], ops.draw_batch.half_bits(n)
    options = *sizes, o["dropout"], _number("seed", r, o), *purposes
    return KernelCall("draw_batch_forward", (r["labels"], InMemory(r["number"]), *options, *w.values()))


def _corrupt(r, w, o):
    images, index, step, table, slot = r["images"], r["index"], r["step"], r["table"], r["slot"]
    n, N = images.shape[0], index.size
    noise = _number("seed", r, o), ops.philox.PURPOSES["noise"], InMemory(r["draw"])
    flip = *ops.corrupt.width_and_channels(images, o["flip"]), ops.philox.PURPOSES["flip"]
    kind = "bytes" if images.dtype == "uint8" else "floats"
    arguments = images, index, step, slot, table, *noise, *flip, *w.values(), N, images.size // n
    ranges = [Range("corrupt: index", index, 0, n), Range("corrupt: step", step, 0, table.shape[0])]
    ranges += [] if slot is None else [Range("corrupt: slot", slot, 0, ops.philox.SAMPLES)]
    return KernelCall(f"corrupt_{kind}", arguments, tuple(ranges))


def _adamw_clip(r, w, o):
    return KernelCall("adamw_clip", (r["norm"], o["limit"], w["clip"]))


def _adamw_forward(r, w, o):
    learning_rate, step = InMemory(r["learning_rate"]), InMemory(r["step_number"])
    clip = 1.0 if r["clip"] is None else InMemory(r["clip"])
    decay = 0.0 if r["average_decay"] is None else InMemory(r["average_decay"])
    numbers = (float(o[name]) for name in ("weight_decay", "beta1", "beta2", "eps"))
    buffers = w["params"], r["grads"], w["mean"], w["mean_square"], w["average"], w["copy"], w["params"].size
    return KernelCall("adamw_forward", (*buffers, learning_rate, clip, step, decay, o["decayed"], *numbers))


def _values(verb):
    """Of float arrays, value by value, and numbers."""
    return lambda r, w, o: KernelCall(f"array_{verb}", (*r.values(), *o.values(), w["y"], w["y"].size))


def _fill(r, w, o):
    kernel = "array_fill" if w["y"].dtype == "float32" else "array_fill_integers"
    return KernelCall(kernel, (o["value"], w["y"], w["y"].size))


def _with_number(verb):
    def lowered(r, w, o):
        kernel = f"array_{verb}_number" if w["y"].dtype == "float32" else f"array_{verb}_integer"
        return KernelCall(kernel, (r["x"], _number("number", r, o), w["y"], w["y"].size))

    return lowered


def _number(name, r, o):
    """One that is known when the program is written, or lies in an array."""
    return InMemory(r[name]) if name in r else o[name]


def _copy(r, w, o):
    return KernelCall("array_copy", (r["x"], w["y"], *o["rows"]))


def _take(r, w, o):
    table, index, y = r["table"], r["index"], w["y"]
    rows = Range("take: index", index, 0, table.shape[0])
    return KernelCall("array_take", (table, index, y, index.size, y.nbytes // index.size), (rows,))


def _global_norm(r, w, o):
    return KernelCall("global_norm_forward", (r["grads"], w["norm"], r["grads"].size))


LOWER = {
    "linear.forward": _linear_forward,
    "linear.backward": _linear_backward,
    "conv2d.forward": _conv2d_forward,
    "conv2d.backward": _conv2d_backward,
    "group_norm.forward": _group_norm_forward,
    "group_norm.backward": _group_norm_backward,
    "layer_norm.forward": _layer_norm("forward"),
    "layer_norm.backward": _layer_norm("backward"),
    "silu.forward": _silu("forward"),
    "silu.backward": _silu("backward"),
    "gelu.forward": _gelu("forward"),
    "gelu.backward": _gelu("backward"),
    "geglu.forward": _geglu("forward"),
    "geglu.backward": _geglu("backward"),
    "dropout.forward": _dropout,
    "dropout.backward": _dropout,
    "attention.forward": _attention("forward"),
    "attention.backward": _attention("backward"),
    "upsample2x.forward": _upsample2x_forward,
    "upsample2x.backward": _upsample2x_backward,
    "concat.forward": _concat("forward", lambda r, w: (r["a"], r["b"])),
    "concat.backward": _concat("backward", lambda r, w: (w["da"], w["db"])),
    "class_embedding.forward": _class_embedding_forward,
    "class_embedding.backward": _class_embedding_backward,
    "timestep_embedding.forward": _timestep_embedding,
    "mse_loss.forward": _loss_forward("mse_loss"),
    "mse_loss.backward": _loss_backward("mse_loss"),
    "l1_loss.forward": _loss_forward("l1_loss"),
    "l1_loss.backward": _loss_backward("l1_loss"),
    "gaussian_sample.forward": _gaussian("gaussian_sample_forward"),
    "gaussian_sample.backward": _gaussian("gaussian_sample_backward"),
    "gaussian_kl.forward": _gaussian("gaussian_kl_forward"),
    "gaussian_kl.backward": _gaussian("gaussian_kl_backward"),
    "philox.forward": _philox,
    "draw_batch.forward": _draw_batch,
    "corrupt.forward": _corrupt,
    "global_norm.forward": _global_norm,
    "adamw.clip": _adamw_clip,
    "adamw.forward": _adamw_forward,
    "array.add": _values("add"),
    "array.subtract": _values("subtract"),
    "array.clip": _values("clip"),
    "array.add_number": _with_number("add"),
    "array.multiply_number": _with_number("multiply"),
    "array.divide_number": _with_number("divide"),
    "array.fill": _fill,
    "array.copy": _copy,
    "array.cast": _values("cast"),
    "array.round": _values("round"),
    "array.widen": _values("widen"),
    "array.take": _take,
}
