"""The commands as a user gives them: what they leave, and how bad input ends."""

import dataclasses
import os
import random
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tqdm import tqdm

from tests.data import idx
from tests.train import tiny
from tinydiff import backends, cli, report
from tinydiff.model.unet import UNetConfig
from tinydiff.train import TrainConfig
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.run import read_metrics

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
    assert command.startswith("tinydiff sample 'my run' --label 7")
    assert cli.main(shlex.split(command)[1:]) == 0
    with Image.open(tmp_path / "more.png") as picture:
        assert picture.size == (2 * (8 * 30 + 2), 2 * (30 + 2))


def test_the_example_runs(tmp_path, data_dir):
    done = subprocess.run(
        [sys.executable, EXAMPLE, *train_arguments(data_dir, tmp_path / "run", "--steps", "2")[1:]],
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


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_at_a_random_step_and_resumed_ends_bit_identical(tmp_path, data_dir, number):
    steps = ["--steps", "40", "--checkpoint-every", "7"]
    assert cli.main(train_arguments(data_dir, tmp_path / "straight", *steps)) == 0

    out = tmp_path / "stopped"
    process = start(train_arguments(data_dir, out, *steps))
    wait_for_steps(process, out, random.randint(8, 25))
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number and "Traceback" not in stderr
        assert f"tinydiff train --resume {out} --preset laptop" in stdout
        assert newest(out).name == f"step-{len(read_metrics(out / 'metrics.jsonl')):07d}.safetensors"
    assert len(read_metrics(out / "metrics.jsonl")) < 40

    assert (
        cli.main(
            ["train", "--resume", str(out), "--data-dir", data_dir, "--sample-every", "0", "--checkpoint-every", "7"]
        )
        == 0
    )
    assert newest(out).read_bytes() == newest(tmp_path / "straight").read_bytes()
    assert (out / "metrics.jsonl").read_bytes() == (tmp_path / "straight" / "metrics.jsonl").read_bytes()


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


@pytest.mark.parametrize(
    "change, message",
    [
        (["--channels", "4,8,8,8"], "size must be divisible by 8, as 4 levels halve it 3 times, got 28"),
        (["--channels", "4,9"], "groups must divide every width in (4, 9), got 2"),
        (["--schedule", "sine"], "schedule must be one of linear, cosine, got 'sine'"),
        (["--prediction", "score"], "prediction must be one of eps, x0, v, got 'score'"),
        (["--batch", "0"], "batch must lie in [1, inf], got 0"),
        (["--steps", "-5"], "steps must lie in [1, inf], got -5"),
        (["--learning-rate", "nan"], "learning_rate must be positive and finite, got nan"),
        (["--minutes", "0"], "minutes must be positive, got 0"),
    ],
)
def test_bad_training_arguments(tmp_path, data_dir, capsys, change, message):
    assert failure(train_arguments(data_dir, tmp_path / "run", "--steps", "2", *change), capsys) == message
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_precision_that_a_backend_has_not(tmp_path, data_dir, capsys):
    said = failure(train_arguments(data_dir, tmp_path / "run", "--backend", "numpy", "--precision", "bf16"), capsys)
    assert said.startswith("backend 'numpy' has no precision 'bf16'; 'cuda' and 'emulator' have")


def test_a_backend_that_is_missing(tmp_path, data_dir, capsys, monkeypatch):
    monkeypatch.setattr(backends, "CpuBackend", None)
    said = failure(train_arguments(data_dir, tmp_path / "run", "--backend", "cpu"), capsys)
    assert said.startswith("backend 'cpu' needs its C++ kernels")


def test_every_knob_of_a_run_is_a_flag(tmp_path, data_dir):
    flags = ["--decay", "constant", "--clip", "0.5", "--average-decay", "0.9", "--label-dropout", "0.2", "--film", "on"]
    flags += ["--attention-levels", "0,1", "--head-width", "2", "--blocks", "2", "--loss-weight", "min_snr"]
    assert cli.main(train_arguments(data_dir, tmp_path / "run", "--steps", "1", *flags)) == 0
    config = checkpoints.load(tmp_path / "run").config
    assert (config.decay, config.clip, config.average_decay, config.label_dropout) == ("constant", 0.5, 0.9, 0.2)
    assert config.model.film and config.model.attention_levels == (0, 1) and config.model.blocks == 2
    settable = {flag.replace("-", "_") for flag in (*cli.RUN_OVERRIDES, *cli.MODEL_OVERRIDES)}
    fields = {field.name for kind in (TrainConfig, UNetConfig) for field in dataclasses.fields(kind)}
    # the data set decides the size, channels and classes of the images
    assert fields - settable == {"model", "data", "size", "image_channels", "classes", "eps", "downsample_padding"}


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
    monkeypatch.setattr("tinydiff.data.download.tqdm", lambda **options: tqdm(disable=True, **options))
    message = failure(["train", *SMALL, "--data", "mnist", "--out", str(tmp_path / "run")], capsys)
    assert "the content has the wrong checksum" in message


def test_an_output_folder_that_cannot_be_written(tmp_path, data_dir, capsys):
    (tmp_path / "file").write_text("")
    assert "Not a directory" in failure(train_arguments(data_dir, tmp_path / "file" / "run"), capsys)


def test_an_output_folder_that_holds_a_run(trained, data_dir, capsys):
    message = failure(train_arguments(data_dir, trained), capsys)
    assert message == f"{trained} already holds a run; resume it with --resume {trained}, or choose another --out"


def test_resume_under_another_architecture(trained, data_dir, capsys):
    message = failure(["train", "--resume", str(trained), "--data-dir", data_dir, "--channels", "8,16"], capsys)
    assert message.endswith("was trained with channels (4, 8), not (8, 16)")
    old, new = checkpoints.saved(trained / "checkpoints")
    message = failure(["train", "--resume", str(old), "--data-dir", data_dir], capsys)
    assert message == f"{old} is older than {new}; copy it to a new folder to go on from it there"
    message = failure(["train", "--resume", str(trained), "--data-dir", data_dir, "--out", "x"], capsys)
    assert message == "out goes with a new run; a resumed one goes on in its own folder"


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


@pytest.mark.parametrize(
    "change, message",
    [
        (["--label", "10"], "label must lie in [0, 9], got 10"),
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
    monkeypatch.chdir(tmp_path)
    assert failure(["sample", str(trained), "--steps", "4", *change], capsys) == message
    assert not list(tmp_path.iterdir())


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
