"""A program as text: one line a call, with names from the model, its operations and the bytes it touches. Behind the
shapes of arrays in bfloat16 stands bf16.

Arrays that nobody names are called by the call that makes them: %12, or %12.mean where it makes several.
"""

from __future__ import annotations

from collections import Counter

from tinydiff.program.plan import lower_bound

PARAMETERS = (".weight", ".bias")
GRADIENT, ROUNDED = ".grad", ".rounded"  # behind a parameter's name: its gradient, its copy in bfloat16


def render(program):
    """The whole program: what it takes and gives, its memory, every call, and totals."""
    return "\n".join([*head(program), "", *lines(program), "", *totals(program)])


def head(program):
    """What it takes, gives and needs."""

    def named(names):
        return ", ".join(f"{name} {shape_of(program.names[name])}" for name in names) or "nothing"

    return [
        f"{len(program.calls)} calls",
        f"takes    {named(program.inputs)}",
        f"gives    {named(program.outputs)}",
        f"memory   {memory(program)}",
    ]


def lines(program):
    """One line a call."""
    described = _Describer(program)
    return [described.line(number, call) for number, call in enumerate(program.calls)]


def totals(program):
    """Calls, operations and bytes by op and verb, and all together."""
    count, operations, touched = Counter(), Counter(), Counter()
    for call in program.calls:
        for key in (f"{call.op}.{call.verb}", "in all"):
            count[key] += 1
            operations[key] += flops(call)
            touched[key] += bytes_of(call)
    order = sorted((key for key in count if key != "in all"), key=lambda key: (-operations[key], -touched[key]))
    rows = [(key, str(count[key]), amount(operations[key], "FLOP"), amount(touched[key], "B")) for key in order]
    rows.append(("in all", str(count["in all"]), amount(operations["in all"], "FLOP"), amount(touched["in all"], "B")))
    return [f"{n:>5} calls  {work:>10}  {moved:>7}  {key}" for key, n, work, moved in rows]


def memory(program):
    """What a program needs of memory, in one sentence."""
    bound = lower_bound([(each.first, each.last, each.nbytes) for each in program.temporaries])
    apart = sum(each.nbytes for each in program.temporaries)
    return (
        f"{amount(program.memory, 'B')}: {amount(program.kept, 'B')} that live across runs, and an arena of "
        f"{amount(program.arena, 'B')} for {len(program.temporaries)} arrays of {amount(apart, 'B')} in all, of which "
        f"{amount(bound, 'B')} live at one time"
    )


def flops(call):
    """Operations of a call's matrix products, a multiply-add counted as two; the rest is bound by memory. As direct
    sums count them: minimal filtering (csrc/cpu/winograd.h) needs fewer."""
    forward = call.verb == "forward"
    if call.op == "linear":
        C, O = call.reads["w"].shape
        return (2 if forward else 4) * call.reads["x"].size * O
    if call.op == "conv2d":
        R, S, C, _ = call.reads["w"].shape
        y = call.writes["y"] if forward else call.reads["dy"]
        return (2 if forward else 4) * y.size * R * S * C
    if call.op == "attention":
        return (4 if forward else 10) * call.reads["q"].size * call.reads["k"].shape[1]
    return 0


def bytes_of(call):
    """Bytes of all arrays that a call reads and writes, each once."""
    return sum(each.nbytes for each in call.operands.values())


def amount(number, unit):
    """Three digits and a prefix: 103 MB."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {prefix}{unit}"
    return f"{number:g} {unit}"


def shape_of(operand):
    """(1,28,28,16), or (1,28,28,16) bf16."""
    shape = "(" + ",".join(map(str, operand.shape)) + ("," if len(operand.shape) == 1 else "") + ")"
    return f"{shape} bf16" if operand.dtype == "bfloat16" else shape


class _Describer:
    """Finds names for calls and arrays, in the order of the calls."""

    def __init__(self, program):
        self._names = {}
        for name, each in program.names.items():  # of two names the first is kept
            self._names.setdefault((each.buffer, each.offset, each.shape), name)
        self._made = {}  # buffer -> what its last writer called it
        self._layer = {}  # buffer -> the layer of that writer

    def line(self, number, call):
        layer = self._layer_of(call)
        verb = f"{call.op}.{call.verb}"
        if layer:
            own = any(self._parameter_of(each) for each in call.operands.values())
            verb = f"{layer}.{call.verb}" if own else f"{layer}.{verb}"
        reads = [self._array(name, each, layer) for name, each in call.reads.items() if each is not None]
        written = [(name, each) for name, each in call.writes.items() if each is not None]
        for name, each in written:
            self._made[each.buffer] = f"%{number}" if len(written) == 1 else f"%{number}.{name}"
            self._layer[each.buffer] = layer
        writes = [self._array(name, each, layer) for name, each in written]
        work = amount(flops(call), "FLOP") if flops(call) else ""
        text = f"{number:5}  {work:>10}  {amount(bytes_of(call), 'B'):>7}  {verb}  "
        text += " ".join([", ".join(reads), "->", ", ".join(writes)]).strip()
        return "  ".join([text, *_options(call)])

    def _array(self, argument, operand, layer):
        name = self._names.get((operand.buffer, operand.offset, operand.shape))
        if name is None:
            name = self._made.get(operand.buffer, "?")
        elif layer and name.startswith(f"{layer}."):
            name = name.removeprefix(f"{layer}.")
        return f"{argument} {name} {shape_of(operand)}"

    def _parameter_of(self, operand):
        """The layer whose parameter, or its gradient or rounded copy, an operand is; None of any other array."""
        name = self._names.get((operand.buffer, operand.offset, operand.shape), "")
        name = name.removesuffix(GRADIENT).removesuffix(ROUNDED)
        return next((name.removesuffix(each) for each in PARAMETERS if name.endswith(each)), None)

    def _layer_of(self, call):
        """The layer whose parameters a call reads or, of a call without, the block in which all lie that made what it
        reads; "" where there is none."""
        for each in call.operands.values():
            if layer := self._parameter_of(each):
                return layer
        makers = [self._layer.get(each.buffer) for each in call.reads.values() if each is not None]
        makers = [each.split(".") for each in makers if each is not None]
        if len(makers) < 2:
            return ""
        common = []
        for parts in zip(*makers):
            if len(set(parts)) > 1:
                break
            common.append(parts[0])
        return ".".join(common)


def _options(call):
    """Those that say what a call does; sizes are in the shapes."""
    shown = {name: value for name, value in call.options.items() if name not in ("rows", "eps")}
    texts = (f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in shown.items())
    return [", ".join(texts)] if shown else []
