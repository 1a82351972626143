"""``tinydiff export --format web``."""

import dataclasses

import numpy as np
import pytest

from tests.checks import same_bits
from tests.train import tiny
from tinydiff import cli, tensors
from tinydiff.interop.web import cost_of_rounding, export_folder
from tinydiff.program import file
from tinydiff.train import checkpoint as checkpoints


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """The folder of a run, which is the working directory too."""
    monkeypatch.chdir(tmp_path)
    trainer = tiny.trainer()
    trainer.train_step()
    checkpoints.save("mine.safetensors", trainer.checkpoint())
    return trainer


def test_the_command(saved, capsys):
    command = "export mine.safetensors digits --format web --sampler heun ddim --steps 3 4 --count 2".split()
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("wrote digits: ") and " programs; they need " in printed and " MB of memory" in printed
    found = file.read("digits")
    assert {sampler: list(ways) for sampler, ways in found.about["ways"].items()} == {
        "heun": ["3", "4"],
        "ddim": ["3", "4"],
    }
    assert found.arrays["x"].shape == (2, 8, 8, 1) and "train" not in found.programs
    for name, value in saved.checkpoint().parts["average"].items():
        assert same_bits(found.values.get(name, np.zeros_like(value)), value)


def test_the_last_parameters_and_a_training_step(saved):
    assert cli.main("export mine.safetensors digits --format web --weights model --train 40".split()) == 0
    found, parts = file.read("digits"), saved.checkpoint().parts
    name = "conv_in.weight"
    assert same_bits(found.values[name], parts["model"][name])
    assert {"train", "predict"} <= found.programs.keys() and found.arrays["images"].shape == (40, 8, 8, 1)
    assert "mean" in found.values and "average" in found.values, "training goes on"


def test_rounded_to_sixteen_bits(saved, capsys):
    assert cli.main("export mine.safetensors digits --format web --precision bf16 --steps 2".split()) == 0
    printed = capsys.readouterr().out
    assert "rounded to bfloat16: the pixels of 200 images (ddim, 2 steps) differ by " in printed
    found = file.read("digits").values
    for name, value in saved.checkpoint().parts["average"].items():
        assert same_bits(found.get(name, np.zeros_like(value)), tensors.round_to_bf16(value))


def test_digits_are_judged_before_and_after_rounding():
    data = dataclasses.replace(tiny.dataset(), digits=True, images=np.zeros((40, 28, 28, 1), np.uint8))
    trainer = tiny.trainer(data, dict(size=28, channels=(4, 4)))
    said = cost_of_rounding(trainer.checkpoint(), "average", sampler="ddim", steps=1)
    assert "% are recognised, " in said and "% with exact parameters (standard error " in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--format web --count 0", "count must be at least 1, got 0"),
        ("--format web --train 0", "train must be at least 1, got 0"),
        ("--format web --steps 99", "steps must be an integer in [1, 50], the schedule's noise steps, got 99"),
        ("--steps 3", "steps goes with --format web"),
        ("--precision bf16", "precision goes with --format web"),
        ("--format web --what train", "what goes with --format onnx"),
    ],
)
def test_bad_use_ends_in_one_line(arguments, message, saved, capsys):
    assert cli.main(["export", "mine.safetensors", "digits", *arguments.split()]) == cli.BAD_INPUT
    assert capsys.readouterr().err == f"tinydiff: {message}\n"


def test_a_folder_in_use_is_left_alone(saved, tmp_path):
    export_folder(saved.checkpoint(), tmp_path / "digits", count=1, ways={"ddim": [1]})
    with pytest.raises(ValueError, match="is there and not empty"):
        export_folder(saved.checkpoint(), tmp_path / "digits", count=1, ways={"ddim": [1]})
