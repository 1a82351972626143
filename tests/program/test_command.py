import numpy as np
import pytest

from tests.checks import backend_or_skip
from tests.train import tiny
from tinydiff import backends, cli
from tinydiff.backends import PRECISIONS
from tinydiff.data.dataset import Dataset
from tinydiff.program.text import amount
from tinydiff.train import Trainer
from tinydiff.train import checkpoint as checkpoints


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "step-0000000.safetensors"
    checkpoints.save(path, tiny.trainer().checkpoint())
    return path


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ([], ["takes    x (1,8,8,1), step (1,), labels (1,)", "gives    prediction (1,8,8,1)", "conv_in.forward"]),
        (["--batch", "3"], ["takes    x (3,8,8,1)", "down_blocks.0.resnets.0.conv1.forward  x "]),
        (
            ["--what", "train"],
            ["takes    number (1,), learning_rate (1,)", "gives    loss (), norm (1,)", "adamw.forward"],
        ),
        (
            ["--what", "sample", "--steps", "2", "--sampler", "heun"],
            ["takes    labels (1,), sample (1,), seed (1,)", "philox.forward", "array.clip"],
        ),
    ],
    ids=str,
)
def test_program(run, capsys, arguments, expected):
    assert cli.main(["program", str(run), *arguments]) == 0
    whole = capsys.readouterr().out
    for each in expected:
        assert each in whole
    assert cli.main(["program", str(run), *arguments, "--totals"]) == 0
    totals = capsys.readouterr().out.splitlines()
    assert set(totals) < set(whole.splitlines()) and "in all" in totals[-1] and len(totals) < 40


def test_a_program_in_bfloat16(run, capsys):
    """What is stored in it has half the bytes; the operations are the same."""
    backend_or_skip("cpu", "bf16")

    def printed(*arguments):
        assert cli.main(["program", str(run), *arguments]) == 0
        return capsys.readouterr().out.splitlines()

    arguments = ["--precision", "bf16", "--what", "train"]
    lines = printed(*arguments)
    [conv] = [line for line in lines if "  down_blocks.0.resnets.0.conv2.forward  " in line]
    assert "x %16.y (8,8,8,8) bf16, w weight.rounded (3,3,8,8) bf16, b bias (8,), add " in conv
    both = 2 * (3 * 8 * 8 * 8 * 8 + 3 * 3 * 8 * 8) + 4 * 8  # x, add and y, and the filters; the bias is float32
    assert f"{amount(both, 'B'):>7}  down_blocks" in conv and f"{amount(8 * 8 * 8 * 8 * 9 * 8 * 2, 'FLOP')}" in conv
    assert any("copy rounded (43600,) bf16" in line for line in lines) and not any("?" in line for line in lines)

    totals = {precision: printed("--what", "train", "--totals", "--precision", precision) for precision in PRECISIONS}
    in_all = {precision: lines[-1].split() for precision, lines in totals.items()}
    assert in_all["fp32"][2:4] == in_all["bf16"][2:4] and in_all["fp32"][3] == "MFLOP"
    calls = {precision: {line.split()[-1]: line.split() for line in lines[5:]} for precision, lines in totals.items()}
    moved = {precision: float(each["group_norm.backward"][4]) for precision, each in calls.items()}
    assert {each["group_norm.backward"][5] for each in calls.values()} == {"MB", "kB"}
    assert 1000 * moved["fp32"] < 2.1 * moved["bf16"]


def test_info_in_bfloat16(run, capsys):
    backend_or_skip("cpu", "bf16")
    arenas = []
    for precision in PRECISIONS:
        assert cli.main(["info", str(run), "--precision", precision]) == 0
        train = capsys.readouterr().out.splitlines()[-2]
        arenas.append(float(train.partition("an arena of ")[2].split()[0]))
    assert 0.45 < arenas[1] / arenas[0] < 0.6, arenas  # kB


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--batch", "0"], "batch must be at least 1, got 0"),
        (["--batch", "2", "--what", "train"], "batch is the run's own where it trains"),
        (["--steps", "5"], "steps goes with --what sample"),
        (["--what", "train", "--guidance", "1"], "guidance goes with --what sample"),
        (["--what", "sample", "--steps", "51"], r"steps must be an integer in [1, 50]"),
        (["--what", "sample", "--guidance", "-1"], "guidance must be a finite number of at least 0, got -1"),
    ],
    ids=str,
)
def test_bad_arguments(run, capsys, arguments, message):
    assert cli.main(["program", str(run), *arguments]) == cli.BAD_INPUT
    error = capsys.readouterr().err
    assert error.startswith("tinydiff: ") and message in error and error.count("\n") == 1


def test_a_run_that_is_none(tmp_path, capsys):
    for command in ("program", "info"):
        assert cli.main([command, str(tmp_path / "nothing")]) == cli.BAD_INPUT
        assert capsys.readouterr().err == f"tinydiff: checkpoint {tmp_path / 'nothing'} does not exist\n"


def test_info_says_what_memory_a_run_needs(run, capsys):
    assert cli.main(["info", str(run)]) == 0
    train, draw = capsys.readouterr().out.splitlines()[-2:]
    assert train.startswith("to train, batch 8, fp32: ") and "live across runs, and an arena of " in train
    assert draw.startswith("to draw 1024 at a time, guided, fp32: ")


def test_the_memory_said_before_is_that_of_the_training_that_follows():
    backend, config = backend_or_skip("cpu"), tiny.trainer().config
    trainer = Trainer(config, tiny.dataset(40), backend)
    before = trainer.program.arena
    trainer.train_step()
    assert trainer.program.arena == before == trainer._run_step._arena.nbytes
    images = Dataset("bars", np.zeros((1, 8, 8, 1), np.uint8), np.zeros(1, np.int64), 2)
    assert Trainer(config, images, backend).program.arena == before
    assert Trainer(config, tiny.dataset(40), backends.get("numpy")).program is None
