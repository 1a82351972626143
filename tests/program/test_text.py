import numpy as np

from tests.checks import normal
from tests.train import tiny
from tinydiff import backends
from tinydiff.program import runs, text
from tinydiff.program.record import record


def test_a_program_reads_as_text():
    backend = backends.get("numpy")
    x, w = normal(0, 1, 4, 4, 2, dtype=np.float32), normal(0, 3, 3, 2, 5, dtype=np.float32)

    def function():
        h, cache = backend.conv2d.forward(x, w, padding=1)
        y = backend.silu.forward(h)[0]
        return {"y": y, "dx": backend.conv2d.backward(y, cache)[0]}

    program = record(function, backend, inputs={"x": x}, state={"conv.weight": w}).program
    assert str(program).splitlines() == [
        "3 calls",
        "takes    x (1,4,4,2)",
        "gives    y (1,4,4,5), dx (1,4,4,2)",
        "memory   1.34 kB: 512 B that live across runs, and an arena of 832 B for 4 arrays of 1.13 kB in all, of which "
        "808 B live at one time",
        "",
        "    0  2.88 kFLOP    808 B  conv.forward  x x (1,4,4,2), w weight (3,3,2,5) -> y %0 (1,4,4,5)  "
        "stride 1, padding (1, 1)",
        "    1                640 B  silu.forward  x %0 (1,4,4,5) -> y y (1,4,4,5)",
        "    2  5.76 kFLOP   1.3 kB  conv.backward  dy y (1,4,4,5), x x (1,4,4,2), w weight (3,3,2,5) -> "
        "dx dx (1,4,4,2), dw %2.dw (3,3,2,5)  stride 1, padding (1, 1)",
        "",
        "    1 calls  5.76 kFLOP   1.3 kB  conv2d.backward",
        "    1 calls  2.88 kFLOP    808 B  conv2d.forward",
        "    1 calls      0 FLOP    640 B  silu.forward",
        "    3 calls  8.64 kFLOP  2.74 kB  in all",
    ]


def test_calls_have_the_models_names():
    config = tiny.trainer().config
    lines = text.lines(runs.of_config(config, backends.get("numpy"), "train").program)
    verbs = [line[26:].split()[0] for line in lines]
    for expected in (
        "conv_in.forward",
        "time_embedding.linear_1.forward",
        "down_blocks.1.resnets.0.conv1.forward",
        "mid_block.attentions.0.attention.forward",
        "mid_block.attentions.0.attention.backward",
        "up_blocks.0.attentions.1.to_out.0.backward",
        "class_embedding.backward",
        "adamw.forward",
    ):
        assert expected in verbs, expected
    assert any("dw weight.grad (3,3,8,16)" in line for line in lines)
    assert not any("?" in line for line in lines)


def test_operations_are_those_of_the_convolutions_linear_layers_and_attention():
    config = tiny.trainer().config
    calls = runs.of_config(config, backends.get("numpy"), "predict", count=3).program.calls
    by_op = {op: sum(text.flops(call) for call in calls if call.op == op) for op in ("linear", "conv2d", "attention")}
    # attention at 4x4 pixels: in the lowest level down, in the middle, and twice up
    assert by_op["attention"] == 4 * (4 * 3 * 16 * 16 * 16)
    assert sum(text.flops(call) for call in calls) == sum(by_op.values())
    training = runs.of_config(config, backends.get("numpy"), "train").program.calls
    forward, backward = (
        sum(text.flops(call) for call in training if (call.op, call.verb) == ("conv2d", verb))
        for verb in ("forward", "backward")
    )
    assert backward == 2 * forward and forward * 3 == by_op["conv2d"] * config.batch


def test_amounts():
    assert [text.amount(n, "B") for n in (0, 999, 1000, 123456, 1e6, 2.5e9)] == [
        "0 B",
        "999 B",
        "1 kB",
        "123 kB",
        "1 MB",
        "2.5 GB",
    ]
