"""The commands as a user gives them: what they leave, and how bad input ends."""

import dataclasses
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.checks import backend_or_skip
from tests.data import idx
from tests.train import tiny
from tinydiff import backends, cli, report, terminal
from tinydiff.commands import train
from tinydiff.model.unet import UNetConfig
from tinydiff.train import TrainConfig
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.folder import read_metrics

EXAMPLE = Path(__file__).parents[1] / "examples" / "train_mnist.py"
SMALL = ["--channels", "4,8", "--groups", "2", "--batch", "4", "--noise-steps", "5", "--sample-every", "0"]


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch):
    """At the end of a run of a test's own; ``trained`` has as many as anyone's."""
    monkeypatch.setattr(report, "COLUMNS", 1)


@pytest.fixture
def data_dir(tmp_path):
    idx.write(tmp_path / "data")
    return str(tmp_path / "data")


def train_arguments(data_dir, out, *more):
    return ["train", *SMALL, "--data-dir", data_dir, "--out", str(out), *more]


def start(arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "tinydiff", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for_steps(process, out, steps):
    """Until the run has written that many metrics."""
    while len(read_metrics(Path(out) / "metrics.jsonl")) < steps:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def newest(out):
    return checkpoints.saved(Path(out) / "checkpoints")[-1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a few steps, by the command."""
    folder = tmp_path_factory.mktemp("trained")
    idx.write(folder / "data")
    assert (
        cli.main(train_arguments(str(folder / "data"), folder / "run", "--steps", "6", "--checkpoint-every", "4")) == 0
    )
    return folder / "run"


def test_train_leaves_everything(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"samples.png", "denoising.gif", "metrics.jsonl", "config.json", "checkpoints", "samples"} <= names
    with Image.open(trained / "samples.png") as picture:
        assert picture.size == (2 * (10 * 30 + 2),) * 2
    with Image.open(trained / "denoising.gif") as gif:
        assert gif.n_frames > 5
    assert len(read_metrics(trained / "metrics.jsonl")) == 6


def test_the_command_it_prints_draws(tmp_path, data_dir, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(train_arguments(data_dir, "my run", "--steps", "2")) == 0
    lines = capsys.readouterr().out.splitlines()
    command = lines[lines.index("to draw more:") + 1].strip()
    assert command.startswith(terminal.own_command("sample", "my run", "--label", "7"))
    assert subprocess.run(shlex.split(command), capture_output=True).returncode == 0
    with Image.open(tmp_path / "more.png") as picture:
        assert picture.size == (2 * (8 * 30 + 2), 2 * (30 + 2))


@pytest.mark.parametrize("precision", backends.PRECISIONS)
def test_the_example_runs(tmp_path, data_dir, precision):
    backend_or_skip("auto", precision)
    arguments = train_arguments(data_dir, tmp_path / "run", "--steps", "2", "--precision", precision)
    done = subprocess.run(
        [sys.executable, EXAMPLE, *arguments[1:]],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "tinydiff sample" in done.stdout and (tmp_path / "run" / "samples.png").exists()


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "heun", "dpm++"])
def test_sample(trained, tmp_path, sampler):
    def draw(out, *more):
        path = tmp_path / f"{out}.png"
        arguments = ["sample", str(trained), "--label", "7", "--label", "1", "--count", "3", "--steps", "4"]
        assert cli.main([*arguments, "--sampler", sampler, "--seed", "3", "--out", str(path), *more]) == 0
        with Image.open(path) as picture:
            return np.asarray(picture)

    one = draw("one")
    assert one.shape == (2 * (2 * 30 + 2), 2 * (3 * 30 + 2))
    assert np.array_equal(one, draw("two"))
    assert not np.array_equal(one, draw("three", "--seed", "4"))
    assert not np.array_equal(one, draw("four", "--weights", "model"))


def test_sample_in_bfloat16(trained, tmp_path):
    backend_or_skip("auto", "bf16")

    def draw(out, *more):
        path = tmp_path / f"{out}.png"
        assert cli.main(["sample", str(trained), "--count", "2", "--steps", "4", "--out", str(path), *more]) == 0
        with Image.open(path) as picture:
            return np.asarray(picture, np.float32)

    drawn, rounded = draw("fp32"), draw("bf16", "--precision", "bf16")
    assert np.array_equal(rounded, draw("again", "--precision", "bf16")) and not np.array_equal(rounded, drawn)
    assert np.abs(rounded - drawn).mean() < 2  # of 255


@pytest.mark.parametrize("missing", [False, True])
def test_info_says_which_precisions_there_are(capsys, monkeypatch, missing):
    backend_or_skip("cpu", "bf16")
    if missing:
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert cli.main(["info"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("backend ")]
    said = {line.split(":")[0].removeprefix("backend "): line for line in lines}
    assert said["numpy"].endswith("; precision fp32")
    lacking = "; precision fp32; precision 'bf16' needs ml_dtypes: pip install ml_dtypes"
    assert said["cpu"].endswith(lacking if missing else "; precisions fp32 and bf16")
    assert failure(["info", "--precision", "bf16"], capsys) == "precision goes with a run, whose memory it decides"


def test_info(capsys):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert (
        "tinydiff 0." in out
        and "backend numpy: ready" in out
        and "backend cuda: not available" in out
        and "MNIST: " in out
    )


def test_default_folders_never_overwrite(tmp_path, data_dir, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert cli.main(["train", *SMALL, "--data-dir", data_dir, "--steps", "1"]) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["mnist-laptop", "mnist-laptop-2"]


@pytest.mark.parametrize(
    "number, precision",
    [
        *((number, "fp32") for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)),
        *((number, "bf16") for number in (signal.SIGKILL, signal.SIGINT)),
    ],
)
def test_stopped_at_a_random_step_and_resumed_ends_bit_identical(tmp_path, data_dir, number, precision):
    backend_or_skip("auto", precision)
    steps = ["--steps", "40", "--checkpoint-every", "7", "--precision", precision]
    assert cli.main(train_arguments(data_dir, tmp_path / "straight", *steps)) == 0

    out = tmp_path / "stopped"
    heard = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)  # though these tests were begun by nohup
    process = start(train_arguments(data_dir, out, *steps), preexec_fn=heard)
    wait_for_steps(process, out, random.randint(8, 25))
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number and "Traceback" not in stderr
        assert f"tinydiff train --resume {out} --preset laptop" in stdout
        assert stdout.endswith(f"--precision {precision}\n")
        assert newest(out).name == f"step-{len(read_metrics(out / 'metrics.jsonl')):07d}.safetensors"
    assert len(read_metrics(out / "metrics.jsonl")) < 40

    again = ["train", "--resume", str(out), "--data-dir", data_dir, "--sample-every", "0", "--checkpoint-every", "7"]
    assert cli.main(again) == 0  # in the precision of the run
    assert newest(out).read_bytes() == newest(tmp_path / "straight").read_bytes()
    assert (out / "metrics.jsonl").read_bytes() == (tmp_path / "straight" / "metrics.jsonl").read_bytes()


def test_a_run_goes_on_in_the_other_precision(tmp_path, data_dir, capsys, monkeypatch):
    """Checkpoints are float32 in both; in bfloat16 the same run comes out almost the same, not to the bit."""
    backend_or_skip("auto", "bf16")
    arguments = [*"--steps 6 --checkpoint-every 3 --keep 2 --no-pictures --precision".split()]
    runs = {each: tmp_path / each for each in ("fp32", "bf16")}
    for precision, out in runs.items():
        assert cli.main(train_arguments(data_dir, out, *arguments, precision)) == 0
        assert f", {precision}; folder " in capsys.readouterr().out
    losses = [np.array([entry["loss"] for entry in read_metrics(out / "metrics.jsonl")]) for out in runs.values()]
    assert not np.array_equal(*losses) and np.allclose(*losses, rtol=0.02)

    for precision, out in runs.items():  # in its own where nothing is said
        half, again = checkpoints.saved(out / "checkpoints")[0], tmp_path / f"{precision} again"
        assert (
            cli.main(["train", "--resume", str(half), "--data-dir", data_dir, "--no-pictures", "--out", str(again)])
            == 0
        )
        assert newest(again).read_bytes() == newest(out).read_bytes()
        assert cli.main(["info", str(out)]) == 0
        said = capsys.readouterr().out
        assert "so far" not in said and f"to train, batch 4, {precision}: " in said and "guided, fp32: " in said
    resume = ["train", "--resume", str(half), "--data-dir", data_dir, "--out", str(tmp_path / "without")]
    with monkeypatch.context() as without_kernels:
        without_kernels.setattr(backends, "CpuBackend", None)
        assert "is 'numpy' here, which has no precision 'bf16'" in failure(resume, capsys)

    for there, here in (("fp32", "bf16"), ("bf16", "fp32")):
        half, out = checkpoints.saved(runs[there] / "checkpoints")[0], tmp_path / f"{there} then {here}"
        again = ["train", "--resume", str(half), "--data-dir", data_dir, "--no-pictures", "--out", str(out)]
        assert cli.main([*again, "--precision", here]) == 0
        assert f"trained in {there} so far, it goes on in {here}: not to the bits" in capsys.readouterr().out
        found = np.array([entry["loss"] for entry in read_metrics(out / "metrics.jsonl")])[-3:]
        assert all(not np.array_equal(found, each[3:]) and np.allclose(found, each[3:], rtol=0.02) for each in losses)


def test_a_run_that_nohup_began_outlives_its_terminal(tmp_path, data_dir):
    process = start(
        train_arguments(data_dir, tmp_path / "run", "--steps", "30", "--no-pictures"),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    wait_for_steps(process, tmp_path / "run", 2)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0 and newest(tmp_path / "run").name == "step-0000030.safetensors"


def test_a_second_process_on_a_run_ends_in_one_line(tmp_path, data_dir, capsys):
    out = tmp_path / "run"
    process = start(train_arguments(data_dir, out, "--steps", "100000", "--checkpoint-every", "1"))
    try:
        wait_for_steps(process, out, 2)
        said = failure(["train", "--resume", str(out), "--data-dir", data_dir], capsys)
        assert said.startswith(f"{out} is in use: process {process.pid} on ") and said.endswith(" trains there")
        assert failure(train_arguments(data_dir, out, "--overwrite"), capsys) == said
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    steps = [entry["step"] for entry in read_metrics(out / "metrics.jsonl")]
    assert steps == list(range(1, len(steps) + 1))


def test_a_finished_run_is_trained_longer(tmp_path, data_dir, capsys):
    """On a cosine from the averaged parameters, on a second cosine; and interrupted then, to the same bits."""

    def longer(out, *more):
        copied = tmp_path / out
        shutil.copytree(tmp_path / "run", copied)
        arguments = ["train", "--resume", str(copied), "--data-dir", data_dir, "--no-pictures", *more]
        assert cli.main([*arguments, "--steps", "9"]) == 0
        return copied

    assert (
        cli.main(train_arguments(data_dir, tmp_path / "run", *"--steps 4 --warmup-steps 0 --no-pictures".split())) == 0
    )
    once = longer("once")
    assert "made longer, from 4 to 9 steps: the learning rate rises and falls once more" in capsys.readouterr().out
    loaded = checkpoints.load(once)
    assert (loaded.step, loaded.config.steps, loaded.config.restarts) == (9, 9, (4,))
    rates = [entry["learning_rate"] for entry in read_metrics(once / "metrics.jsonl")]
    assert len(rates) == 9 and rates[3] < rates[4] and rates[8] < rates[4]
    twice = longer("twice", "--minutes", "1e-9")
    assert checkpoints.load(twice).step == 5
    assert cli.main(["train", "--resume", str(twice), "--data-dir", data_dir, "--no-pictures"]) == 0
    assert newest(twice).read_bytes() == newest(once).read_bytes()

    said = failure(["train", "--resume", str(twice), "--data-dir", data_dir, "--steps", "3"], capsys)
    assert said.endswith("was trained with steps 9, not 3")


def test_a_run_on_a_cosine_is_finished_before_it_is_made_longer(tmp_path, data_dir, capsys):
    out = tmp_path / "run"
    assert cli.main(train_arguments(data_dir, out, "--steps", "4", "--minutes", "1e-9")) == 0
    said = failure(["train", "--resume", str(out), "--data-dir", data_dir, "--steps", "9"], capsys)
    assert said.startswith("a run whose learning rate falls on a cosine can be made longer when it is finished")


def test_resume_with_out_goes_on_in_a_new_folder(trained, tmp_path, data_dir, capsys):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    old = checkpoints.saved(trained / "checkpoints")[0]
    arguments = ["train", "--resume", str(old), "--data-dir", data_dir, "--no-pictures", "--out", str(tmp_path / "new")]
    assert cli.main(arguments) == 0
    assert newest(tmp_path / "new").read_bytes() == newest(trained).read_bytes()
    assert before == {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    assert "already holds a run" in failure(arguments, capsys)


def test_overwrite_begins_anew_and_touches_nothing_else(tmp_path, data_dir, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["train", *SMALL, "--data-dir", data_dir, "--no-pictures"]
    assert cli.main([*arguments, "--steps", "3"]) == 0
    (tmp_path / "runs" / "mnist-laptop" / "notes.txt").write_text("mine")
    assert cli.main([*arguments, "--steps", "2", "--overwrite"]) == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["mnist-laptop"]
    run = tmp_path / "runs" / "mnist-laptop"
    assert checkpoints.load(run).step == 2 and (run / "notes.txt").read_text() == "mine"
    assert len(checkpoints.saved(run / "checkpoints")) == 1 and len(read_metrics(run / "metrics.jsonl")) == 2


def test_resume_passes_over_a_damaged_checkpoint(trained, tmp_path, data_dir, capsys):
    out = tmp_path / "run"
    shutil.copytree(trained, out)
    damaged = newest(out)
    damaged.write_bytes(damaged.read_bytes()[:-9])
    arguments = ["train", "--resume", str(out), "--data-dir", data_dir, "--no-pictures", "--keep", "1"]
    assert cli.main([*arguments, "--checkpoint-every", "1"]) == 0
    assert "step-0000004.safetensors, the one before it, is read instead" in capsys.readouterr().out
    assert newest(out).read_bytes() == newest(trained).read_bytes()


def test_no_pictures(tmp_path, data_dir):
    arguments = ["--steps", "2", "--sample-every", "1", "--no-pictures"]
    assert cli.main(train_arguments(data_dir, tmp_path / "run", *arguments)) == 0
    assert not list(tmp_path.glob("run/**/*.png")) and not (tmp_path / "run" / "denoising.gif").exists()


def test_a_full_disk_ends_in_one_line_and_the_previous_checkpoint_survives(tmp_path, data_dir):
    """The disk is full, to this process, at a file size between that of the metrics and of a checkpoint."""
    out = tmp_path / "run"
    assert cli.main(train_arguments(data_dir, out, "--steps", "4", "--checkpoint-every", "2", "--keep", "1")) == 0
    path = newest(out)  # as if it had been killed before step 4
    checkpoints.save(out / "checkpoints" / "step-0000002.safetensors", checkpoints.load(path)._replace(step=2))
    path.unlink()
    before = newest(out).read_bytes()

    limit = len(before) // 2
    process = start(
        ["train", "--resume", str(out), "--data-dir", data_dir, "--sample-every", "0"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == cli.BAD_INPUT and "Traceback" not in stderr
    failed = out / "checkpoints" / "step-0000004.safetensors"
    assert stderr.strip().splitlines()[-1] == f"tinydiff: {failed}: File too large"
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-0000002.safetensors"]
    assert newest(out).read_bytes() == before


def failure(arguments, capsys):
    """The one line on standard error with which a command fails."""
    capsys.readouterr()
    assert cli.main(arguments) == cli.BAD_INPUT
    lines = [line for line in capsys.readouterr().err.splitlines() if line and "step/s" not in line]
    assert len(lines) == 1 and lines[0].startswith("tinydiff: "), lines
    return lines[0].removeprefix("tinydiff: ")


@pytest.mark.parametrize("command", ["train", "train-vae"])
def test_numbers_are_refused_before_data_are_read(command, tmp_path, capsys):
    nowhere = ["--data", "folder", "--data-dir", str(tmp_path / "nowhere"), "--image-size", "8"]
    message = failure([command, *nowhere, "--out", str(tmp_path / "run"), "--clip", "-1"], capsys)
    assert message == "clip must be positive and finite, got -1.0"


@pytest.mark.parametrize(
    "change, message",
    [
        (["--channels", "4,8,8,8"], "size must be divisible by 8, as 4 levels halve it 3 times, got 28"),
        (["--channels", "4,9"], "groups must divide every width in (4, 9), got 2"),
        (["--schedule", "sine"], "schedule must be one of linear, cosine, flow, scaled_linear, got 'sine'"),
        (["--prediction", "score"], "prediction must be one of eps, x0, v, flow, got 'score'"),
        (["--batch", "0"], "batch must lie in [1, inf], got 0"),
        (["--steps", "-5"], "steps must lie in [1, 1000000000], got -5"),
        (["--learning-rate", "nan"], "learning_rate must be positive and finite, got nan"),
        (["--minutes", "0"], "minutes must be positive, got 0"),
    ],
)
def test_bad_training_arguments(tmp_path, data_dir, capsys, change, message):
    assert failure(train_arguments(data_dir, tmp_path / "run", "--steps", "2", *change), capsys) == message
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_precision_that_a_backend_has_not(tmp_path, data_dir, capsys):
    said = failure(train_arguments(data_dir, tmp_path / "run", "--backend", "numpy", "--precision", "bf16"), capsys)
    assert said.startswith("backend 'numpy' has no precision 'bf16'; 'cpu', 'cuda' and 'emulator' have")


def test_a_backend_that_is_missing(tmp_path, data_dir, capsys, monkeypatch):
    monkeypatch.setattr(backends, "CpuBackend", None)
    said = failure(train_arguments(data_dir, tmp_path / "run", "--backend", "cpu"), capsys)
    assert said.startswith("backend 'cpu' needs its C++ kernels")


def test_every_knob_of_a_run_is_a_flag(tmp_path, data_dir):
    flags = ["--decay", "constant", "--clip", "0.5", "--average-decay", "0.9", "--label-dropout", "0.2", "--film", "on"]
    flags += ["--dropout", "0.1", "--flip", "on"]
    flags += ["--attention-levels", "0,1", "--head-width", "2", "--blocks", "2", "--loss-weight", "min_snr"]
    assert cli.main(train_arguments(data_dir, tmp_path / "run", "--steps", "1", *flags)) == 0
    config = checkpoints.load(tmp_path / "run").config
    assert (config.decay, config.clip, config.average_decay, config.label_dropout) == ("constant", 0.5, 0.9, 0.2)
    assert config.flip and config.model.dropout == 0.1
    assert config.model.film and config.model.attention_levels == (0, 1) and config.model.blocks == 2
    settable = {flag.replace("-", "_") for flag in (*train.RUN_OVERRIDES, *train.MODEL_OVERRIDES)}
    fields = {field.name for kind in (TrainConfig, UNetConfig) for field in dataclasses.fields(kind)}
    # the data set decides the size, channels and classes of the images
    assert fields - settable == {"model", "data", "size", "image_channels", "classes", "eps", "downsample_padding"} | {
        "restarts",
        "autoencoder",
        "text",  # of the encoder that is given, as is the next
        "context_width",
        "guidance_width",  # of a student
    }


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda path: path.unlink(), "train-images-idx3-ubyte.gz or train-images-idx3-ubyte is not in"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "train-images-idx3-ubyte.gz is truncated or damaged"),
        (
            lambda path: path.write_bytes(b"\0\0\x08\x01rest"),
            "is not an idx file of bytes with 3 axes: begins 00000801, not 00000803",
        ),
    ],
)
def test_bad_data_files(tmp_path, data_dir, capsys, damage, message):
    damage(Path(data_dir) / "train-images-idx3-ubyte.gz")
    assert message in failure(train_arguments(data_dir, tmp_path / "run"), capsys)


def test_a_download_with_a_bad_checksum(tmp_path, capsys, monkeypatch):
    idx.write(tmp_path / "mirror")
    monkeypatch.delenv("TINYDIFF_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TINYDIFF_MIRROR", (tmp_path / "mirror").as_uri())
    message = failure(["train", *SMALL, "--data", "mnist", "--out", str(tmp_path / "run")], capsys)
    assert "the content has the wrong checksum" in message


def test_an_output_folder_that_cannot_be_written(tmp_path, data_dir, capsys):
    (tmp_path / "file").write_text("")
    assert "Not a directory" in failure(train_arguments(data_dir, tmp_path / "file" / "run"), capsys)


def test_an_output_folder_that_holds_a_run(trained, data_dir, capsys):
    message = failure(train_arguments(data_dir, trained), capsys)
    assert message == (
        f"{trained} already holds a run, at step 6; --resume {trained} goes on with it, --overwrite begins it anew"
    )


def test_resume_under_another_architecture(trained, data_dir, capsys):
    message = failure(["train", "--resume", str(trained), "--data-dir", data_dir, "--channels", "8,16"], capsys)
    assert message.endswith("was trained with channels (4, 8), not (8, 16)")
    old, new = checkpoints.saved(trained / "checkpoints")
    message = failure(["train", "--resume", str(old), "--data-dir", data_dir], capsys)
    assert message == f"{old} is older than {new}; --out names a new folder to go on from it in"
    message = failure(["train", "--resume", str(trained), "--data-dir", data_dir, "--overwrite"], capsys)
    assert message == "overwrite begins a run anew; with resume it needs out, the folder to begin it in"


def test_a_checkpoint_under_another_name_resumes_where_it_lies(trained, tmp_path, data_dir):
    copied = tmp_path / "elsewhere" / "mine.safetensors"
    copied.parent.mkdir()
    copied.write_bytes(checkpoints.saved(trained / "checkpoints")[0].read_bytes())
    assert cli.main(["train", "--resume", str(copied), "--data-dir", data_dir, "--sample-every", "0"]) == 0
    assert newest(copied.parent).read_bytes() == newest(trained).read_bytes()


def test_a_loss_that_is_not_finite(tmp_path, data_dir, capsys):
    message = failure(train_arguments(data_dir, tmp_path / "run", "--learning-rate", "1e30", "--steps", "50"), capsys)
    assert "training step" in message and "the first tensor that is not finite is" in message
    assert not checkpoints.saved(tmp_path / "run" / "checkpoints")


WEBP = (
    "out: a picture of 18004 x 604 pixels is too large for .webp, whose sides may be 16383; choose .png or fewer images"
)


@pytest.mark.parametrize(
    "change, message",
    [
        (["--label", "10"], "label must lie in [0, 9], got 10"),
        (["--label", "cat"], "label must be one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, got 'cat'"),
        (["--count", "300", "--out", "x.webp"], WEBP),
        (["--out", "/proc/x.png"], "/proc/x.png: No such file or directory"),
        (["--out", "folder.png"], "folder.png: Is a directory"),
        (["--label", "-1"], "label must lie in [0, 9], got -1"),
        (["--steps", "6"], "steps must be an integer in [1, 5], the schedule's noise steps, got 6"),
        (["--steps", "0"], "steps must be an integer in [1, 5], the schedule's noise steps, got 0"),
        (["--guidance", "-1"], "guidance must be a finite number of at least 0, got -1.0"),
        (["--eta", "2"], "eta must lie in [0, 1], got 2.0"),
        (["--variance", "beta"], "variance is not an option of the sampler ddim"),
        (["--out", "x.txt"], "out must end in .png or another picture format, got x.txt"),
        (["--out", "nowhere/x.png"], "out: the folder nowhere does not exist"),
    ],
)
def test_bad_sampling_arguments(trained, capsys, monkeypatch, tmp_path, change, message):
    """All of them before anything is drawn, but those that only the sampler knows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    if not any(name in message for name in ("steps", "guidance", "eta", "variance")):
        monkeypatch.setattr("tinydiff.commands.sample.draw", lambda *_: pytest.fail("it was drawn first"))
    assert failure(["sample", str(trained), "--steps", "4", *change], capsys) == message
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_bad_checkpoints(trained, tmp_path, capsys):
    assert failure(["sample", str(tmp_path / "none")], capsys) == f"checkpoint {tmp_path / 'none'} does not exist"
    content = newest(trained).read_bytes()
    for path, damaged, message in (
        ("cut.safetensors", content[:-100], "is truncated or not a safetensors file"),
        ("text.safetensors", b"hello", "is truncated or not a safetensors file"),
    ):
        (tmp_path / path).write_bytes(damaged)
        assert message in failure(["sample", str(tmp_path / path)], capsys)

    loaded = checkpoints.load(trained)
    wider = TrainConfig(model=UNetConfig(**{**tiny.MODEL, "size": 28, "channels": (8, 8)}), noise_steps=5)
    checkpoints.save(tmp_path / "other.safetensors", loaded._replace(config=wider))
    assert "parameter" in failure(["sample", str(tmp_path / "other.safetensors"), "--steps", "4"], capsys)

    loaded.parts["average"]["conv_in.weight"][0] = np.nan
    checkpoints.save(tmp_path / "nan.safetensors", loaded)
    assert "tensor average.conv_in.weight holds a value that is not finite" in failure(
        ["sample", str(tmp_path / "nan.safetensors")], capsys
    )


def test_a_traceback_on_request(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYDIFF_TRACEBACK", "1")
    with pytest.raises(ValueError):
        cli.main(["sample", str(tmp_path / "none")])


def test_unknown_arguments_end_in_usage(capsys):
    for arguments in (
        [],
        ["fly"],
        ["train", "--preset", "huge"],
        ["train", "--keep", "0"],
        ["train", "--steps", "many"],
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        assert stopped.value.code == 2
        assert "usage: tinydiff" in capsys.readouterr().err


def test_no_output_leaks_when_the_reader_leaves(trained):
    """tinydiff info | head -1"""
    process = start(["info"], env={**os.environ, "PYTHONUNBUFFERED": "1"})
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
