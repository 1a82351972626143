"""``tinydiff distill``, and all that takes a student."""

import dataclasses
import json
import shlex

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from tests.data.test_folder import save
from tests.test_cli import failure, newest
from tinydiff import backends, cli, terminal
from tinydiff.commands import distill
from tinydiff.interop.folder import import_folder
from tinydiff.model.unet import UNet
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.distill_config import DistillConfig
from tinydiff.train.folder import read_metrics
from tinydiff.train.presets import DISTILL_PRESETS

pytestmark = pytest.mark.usefixtures("module_cache")
TEACHER = ["--channels", "4,8", "--groups", "2", "--batch", "4", "--noise-steps", "20", "--no-pictures"]
TEACHER += ["--data", "folder", "--image-size", "16"]
SMALL = ["--batch", "4", "--sample-every", "2", "--checkpoint-every", "2"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Two classes of colour images, in noise."""
    folder, rng = tmp_path_factory.mktemp("data") / "pets", np.random.default_rng(0)
    for i in range(6):
        for name in ("cat", "dog"):
            save(folder / name / f"{i}.png", rng.integers(0, 256, (16, 16, 3)).astype(np.uint8))
    return ["--data-dir", str(folder)]


@pytest.fixture(scope="module")
def teacher(data_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "teacher"
    assert cli.main(["train", *TEACHER, *data_dir, "--steps", "4", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def student(teacher, data_dir, tmp_path_factory):
    """Of 4 steps, in two stages."""
    out = tmp_path_factory.mktemp("runs") / "student"
    arguments = ["distill", str(teacher), *SMALL, *data_dir, "--training-steps", "4", "--out", str(out)]
    assert cli.main(arguments) == 0
    return out


def test_what_is_left(student, teacher):
    names = {path.name for path in student.iterdir()}
    assert names == {
        "checkpoints",
        "samples",
        "config.json",
        "metrics.jsonl",
        "samples.png",
        "denoising.gif",
        "loss.png",
    }
    with Image.open(student / "samples" / "step-0000002.png") as picture:  # a teacher beside the student
        assert picture.size == (2 * 2 * (4 * 18 + 2) + 12, 2 * (2 * 18 + 2))
    loaded, of = checkpoints.load(student), checkpoints.load(teacher)
    config = loaded.config
    assert isinstance(config, DistillConfig) and config.teacher == checkpoints.digest(of)
    assert [stage.steps for stage in config.stages] == [8, 4] and config.restarts == (2,)
    assert config.model == dataclasses.replace(of.config.model, guidance_width=32)
    assert len(read_metrics(student / "metrics.jsonl")) == 4 and loaded.data_set == of.data_set


def test_every_knob_of_a_run_is_a_flag():
    settable = {flag.replace("-", "_") for flag in distill.OVERRIDES}
    fields = {field.name for field in dataclasses.fields(DistillConfig)}
    as_teacher = {*distill.AS_TEACHER, "model", "data"} - settable
    assert (
        fields - settable == as_teacher | {"restarts", "teacher", "from_student", "step_power"} and settable <= fields
    )


@pytest.mark.parametrize("steps, teacher_steps", [(4, 16), (1, 16), (2, 16), (3, 12), (10, 20)])
def test_stages_are_as_long_however_many_there_are(teacher, steps, teacher_steps):
    preset = DISTILL_PRESETS["laptop"].config
    config = distill.student_of(checkpoints.load(teacher), preset, {"sampling_steps": steps})
    assert config.teacher_steps == teacher_steps and config.stages[-1].steps == steps
    lasts = [0, *(stage.last for stage in config.stages)]
    assert {*np.diff(lasts)} == {preset.steps / len(preset.stages)}


def test_stopped_and_resumed_ends_bit_identical(teacher, student, data_dir, tmp_path, capsys):
    out = tmp_path / "stopped"
    arguments = [
        "distill",
        str(teacher),
        *SMALL,
        *data_dir,
        "--training-steps",
        "4",
        "--out",
        str(out),
        "--no-pictures",
    ]
    assert cli.main([*arguments, "--minutes", "1e-9"]) == 0
    said = capsys.readouterr().out
    assert " for its teacher" in said and f"tinydiff distill --resume {out} --preset laptop" in said
    assert checkpoints.load(out).step == 1
    assert cli.main(["distill", "--resume", str(out), *data_dir, "--no-pictures"]) == 0
    assert newest(out).read_bytes() == newest(student).read_bytes()
    assert (out / "metrics.jsonl").read_bytes() == (student / "metrics.jsonl").read_bytes()


def test_it_can_be_taught_longer(student, data_dir, tmp_path, capsys):
    out = str(tmp_path / "longer")
    arguments = ["distill", "--resume", str(student), "--training-steps", "6", "--out", out, *data_dir, "--no-pictures"]
    assert cli.main(arguments) == 0
    assert "made longer, from 4 to 6 steps" in capsys.readouterr().out
    assert checkpoints.load(out).config.restarts == (2, 4)


def test_the_command_it_prints_draws_in_its_steps(student, data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["distill", "--resume", str(student), *data_dir, "--no-pictures"]) == 0
    command = capsys.readouterr().out.splitlines()[-1].strip()
    assert command.startswith(terminal.own_command("sample", student))
    command = shlex.split(command.partition("tinydiff ")[2])

    def drawn(*more):
        assert cli.main([*command, "--count", "1", *more]) == 0
        said = capsys.readouterr().out
        with Image.open("more.png") as picture:
            return np.asarray(picture), said

    plain, said = drawn()
    assert np.array_equal(plain, drawn("--steps", "4", "--guidance", "2")[0]) and "taught" not in said
    other, said = drawn("--steps", "5")
    assert not np.array_equal(plain, other)
    assert "this student was taught to draw in 4 steps of ddim, not in 5 steps of ddim" in said
    assert "not in 4 steps of heun" in drawn("--sampler", "heun")[1]


def test_evaluate_draws_in_its_steps(student, data_dir, tmp_path, capsys):
    path = tmp_path / "measured.json"
    assert cli.main(["evaluate", str(student), *data_dir, "--samples", "4", "--json", str(path)]) == 0
    drawn = json.loads(path.read_text())["drawn"]
    assert (drawn["steps"], drawn["guidance"], drawn["sampler"]) == (4, 2.0, "ddim")
    assert cli.main(["evaluate", str(student), *data_dir, "--samples", "4", "--steps", "0"]) == cli.BAD_INPUT


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--steps", "0"], "steps of a student must be at least 1, got 0"),
        (["--steps", "-3"], "steps of a student must be at least 1, got -3"),
        (["--steps", "11"], "steps of a student must be at most half of the noise steps of its teacher, 20, got 11"),
        (
            ["--teacher-steps", "12"],
            "teacher_steps must be twice, four times, ... the 4 that they are halved to, got 12",
        ),
        (["--training-steps", "1"], "steps of training must be at least one for each of 2 stages, got 1"),
        (["--guidance-range", "4,1"], "guidance_range must be two numbers that rise from at least 0, got (4.0, 1.0)"),
        (["--batch", "1000"], "folder has 12 images, fewer than a batch of 1000; choose a smaller batch"),
        (["--data", "strokes"], "the model was trained on folder, not on strokes"),
        (
            ["--resume", "there"],
            "run, the teacher, goes with a new student, and resume with one that goes on: give one of them",
        ),
    ],
)
def test_bad_input(teacher, data_dir, tmp_path, capsys, arguments, message):
    said = failure(["distill", str(teacher), *data_dir, "--out", str(tmp_path / "out"), *arguments], capsys)
    assert said == message and not (tmp_path / "out").exists()


def test_runs_that_are_no_teachers(teacher, student, data_dir, tmp_path, capsys):
    def refused(run, *more):
        return failure(["distill", str(run), *data_dir, *more, "--out", str(tmp_path / "out")], capsys)

    assert refused(tmp_path / "nowhere") == f"checkpoint {tmp_path / 'nowhere'} does not exist"
    said = failure(["distill", *data_dir], capsys)
    assert said == "run, the teacher, goes with a new student, and resume with one that goes on: give one of them"
    most = "steps of a student must be at most half of the steps of this teacher, a student itself, 4, got"
    assert refused(student, "--steps", "4") == f"{most} 4" and refused(student, "--steps", "3") == f"{most} 3"
    said = refused(student, "--steps", "1", "--guidance-range", "1,9")
    assert said == "guidance_range must lie in that of this teacher, [0, 4]"
    eps = tmp_path / "eps"
    assert cli.main(["train", *TEACHER, *data_dir, "--steps", "1", "--prediction", "eps", "--out", str(eps)]) == 0
    assert refused(eps).startswith("prediction eps cannot be distilled: where there is next to no signal")
    vae = tmp_path / "vae"
    small = [
        "--channels",
        "4,8",
        "--groups",
        "2",
        "--batch",
        "4",
        "--steps",
        "1",
        "--data",
        "folder",
        "--image-size",
        "16",
    ]
    assert cli.main(["train-vae", *small, *data_dir, "--no-pictures", "--out", str(vae)]) == 0
    assert (
        refused(vae) == f"{newest(vae)} is of the kind autoencoder (tinydiff train-vae), not diffusion (tinydiff train)"
    )
    assert not (tmp_path / "out").exists()


def test_a_student_goes_on_as_a_student(teacher, student, data_dir, capsys):
    said = failure(["train", "--resume", str(student), *data_dir], capsys)
    assert said == f"{student} is a student; tinydiff distill --resume goes on with it"
    said = failure(["distill", "--resume", str(teacher), *data_dir], capsys)
    assert said == f"{newest(teacher)} is of the kind diffusion (tinydiff train), not student (tinydiff distill)"
    said = failure(["distill", "--resume", str(student), "--steps", "2", *data_dir], capsys)
    assert said == f"{student} was trained with sampling_steps 4, not 2"


def test_a_guidance_that_it_was_not_taught(student, data_dir, tmp_path, capsys):
    message = "guidance must lie in [0, 4], which this student was taught, got 5"
    for command in (
        ["sample", str(student), "--out", str(tmp_path / "x.png")],
        ["evaluate", str(student), *data_dir],
        ["export", str(student), str(tmp_path / "out")],
    ):
        assert failure([*command, "--guidance", "5"], capsys) == message
    assert not list(tmp_path.iterdir())


def test_a_student_teaches_one_of_fewer_steps(student, data_dir, tmp_path):
    out = tmp_path / "two"
    arguments = ["distill", str(student), *SMALL, "--steps", "2", "--training-steps", "2", "--no-pictures", *data_dir]
    assert cli.main([*arguments, "--out", str(out)]) == 0
    config = checkpoints.load(out).config
    assert config.from_student and [stage[1:] for stage in config.stages] == [(4, 2, False, True)]


def test_it_is_exported_to_diffusers_at_one_guidance(student, tmp_path, capsys):
    """To a network that is not told it and predicts the same."""
    backend, loaded = backends.get("numpy"), checkpoints.load(student)
    told = UNet(loaded.config.model, backend)
    rng = np.random.default_rng(0)
    named = {
        name: rng.standard_normal(value.shape).astype(np.float32) / 4 for name, value in loaded.parts["average"].items()
    }
    checkpoints.save(tmp_path / "step-0000004.safetensors", loaded._replace(parts={**loaded.parts, "average": named}))
    assert (
        cli.main(["export", str(tmp_path / "step-0000004.safetensors"), str(tmp_path / "out"), "--guidance", "3"]) == 0
    )
    assert "a student, with guidance 3, to be asked once a step: it draws in 4 steps of ddim" in capsys.readouterr().out
    imported = import_folder(tmp_path / "out").checkpoint
    assert imported.config.model.guidance_width == 0
    plain = UNet(imported.config.model, backend)
    plain.parameters.load(plain.parameters.values, imported.parts["average"])
    told.parameters.load(told.parameters.values, named)
    x, step, labels = (
        rng.standard_normal((2, 16, 16, 3)).astype(np.float32),
        np.array([3.0, 17.0], np.float32),
        np.array([1, 2]),
    )
    by = [told.predict(x, step, labels, guidance=np.full(2, w, np.float32)) for w in (3, 1)]
    found = plain.predict(x, step, labels)
    assert np.abs(found - by[0]).max() < 1e-5 < 1e-3 < np.abs(found - by[1]).max()


def test_other_formats(student, teacher, tmp_path, capsys):
    assert cli.main(["export", str(student), str(tmp_path / "page"), "--format", "web"]) == 0
    said = failure(["export", str(student), str(tmp_path / "other"), "--format", "web", "--train", "2"], capsys)
    assert said == "train does not go with a student: its training step asks another network, its teacher"
    said = failure(["export", str(teacher), str(tmp_path / "other"), "--guidance", "2"], capsys)
    assert said == "guidance goes with a student: any other model is guided as it draws"
    onnx = pytest.importorskip("onnx")
    assert cli.main(["export", str(student), str(tmp_path / "net.onnx"), "--format", "onnx"]) == 0
    inputs = [each.name for each in onnx.load(tmp_path / "net.onnx").graph.input]
    assert inputs == ["x", "step", "labels", "guidance"]
    said = failure(["export", str(student), str(tmp_path / "t.onnx"), "--format", "onnx", "--what", "train"], capsys)
    assert "what must be predict for a student: its training step asks another network, its teacher" in said


def test_programs_and_memory(student, capsys):
    for what in ("predict", "sample", "train"):
        assert cli.main(["program", str(student), "--what", what, "--totals"]) == 0
    assert cli.main(["info", str(student)]) == 0
    said = capsys.readouterr().out
    assert "to train, batch 4, " in said and "to draw" in said


def test_a_damaged_teacher_in_a_students_checkpoint(student, data_dir, tmp_path, capsys):
    path = tmp_path / "step-0000004.safetensors"
    path.write_bytes(newest(student).read_bytes())
    named = safetensors.numpy.load_file(path)
    assert any(name.startswith("teacher.") for name in named)
    named["teacher.conv_in.bias"] = named["teacher.conv_in.bias"] + 1
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    safetensors.numpy.save_file(named, path, metadata)
    assert failure(["sample", str(path), "--out", str(tmp_path / "x.png")], capsys).endswith(
        "what its checksum was made of"
    )


def test_a_student_of_two_steps_is_made_consistent_and_draws_with_fresh_noise(teacher, data_dir, tmp_path, capsys):
    out, measured = tmp_path / "two", tmp_path / "measured.json"
    arguments = ["distill", str(teacher), *SMALL, "--steps", "2", "--training-steps", "2", *data_dir, "--out", str(out)]
    assert cli.main(arguments) == 0
    loaded = checkpoints.load(out)
    assert [stage[1:4] for stage in loaded.config.stages] == [(16, 8, False), (8, 2, True)]
    assert cli.main(["evaluate", str(out), *data_dir, "--samples", "4", "--json", str(measured)]) == 0
    drawn = json.loads(measured.read_text())["drawn"]
    assert (drawn["steps"], drawn["sampler"]) == (2, "ddpm")
    said = failure(["distill", str(out), "--steps", "1", *data_dir, "--out", str(tmp_path / "one")], capsys)
    assert said == "a student made consistent draws in one step as it is: there is nothing that it could teach"


def test_a_student_of_a_stage_is_one_of_its_steps(teacher, data_dir, tmp_path, capsys):
    """What a run has by the way draws, and teaches, as what it is by then."""
    out = tmp_path / "run"
    arguments = [
        "distill",
        str(teacher),
        *SMALL,
        "--training-steps",
        "4",
        "--no-pictures",
        *data_dir,
        "--out",
        str(out),
    ]
    assert cli.main(arguments) == 0
    early = checkpoints.saved(out / "checkpoints")[0]
    assert cli.main(["sample", str(early), "--count", "1", "--steps", "4", "--out", str(tmp_path / "x.png")]) == 0
    assert "was taught to draw in 8 steps of ddim, not in 4 steps" in capsys.readouterr().out
    again = ["distill", str(early), *SMALL, "--steps", "4", "--training-steps", "1", "--no-pictures", *data_dir]
    assert cli.main([*again, "--out", str(tmp_path / "again")]) == 0
    assert checkpoints.load(tmp_path / "again").config.teacher_steps == 8


@pytest.mark.parametrize(
    "of, steps, expected", [(8, 1, [(8, 1, True)]), (8, 4, [(8, 4, False)]), (4, 1, [(4, 2, False), (2, 1, False)])]
)
def test_stages_of_a_students_student(teacher, of, steps, expected):
    checkpoint, preset = checkpoints.load(teacher), DISTILL_PRESETS["laptop"].config
    student = checkpoint._replace(config=distill.student_of(checkpoint, preset, {"sampling_steps": of}))
    student = student._replace(step=student.config.steps)
    assert [stage[1:4] for stage in distill.student_of(student, preset, {"sampling_steps": steps}).stages] == expected
