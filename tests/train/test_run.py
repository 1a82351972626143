import json
import os
import signal
import threading

import pytest
from PIL import Image

from tests.train import tiny
from tinydiff.data import Identity
from tinydiff.train import TrainConfig, run
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.folder import read_metrics
from tinydiff.train.run import shown


def quiet_run(trainer, folder, **options):
    return run(trainer, folder, **{"progress": False, "sample_every": 0, **options})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_a_run_leaves(tmp_path):
    trainer = tiny.trainer(steps=7)
    assert run(trainer, tmp_path, checkpoint_every=2, sample_every=3, keep=2, progress=False) is None
    assert names(tmp_path) == ["checkpoints", "config.json", "metrics.jsonl", "samples"]
    assert names(tmp_path / "checkpoints") == ["step-0000006.safetensors", "step-0000007.safetensors"]
    assert names(tmp_path / "samples") == ["step-0000003.png", "step-0000006.png"]
    assert [entry["step"] for entry in read_metrics(tmp_path / "metrics.jsonl")] == list(range(1, 8))
    description = json.loads((tmp_path / "config.json").read_text())
    assert description.pop("tinydiff") == "run"
    assert Identity.from_json(description.pop("data_set")) == trainer.dataset.identity
    assert TrainConfig(**description) == trainer.config
    with Image.open(tmp_path / "samples" / "step-0000003.png") as picture:
        assert picture.width == 2 * (4 * (8 + 2) + 2) and picture.height == 2 * (2 * (8 + 2) + 2)


def test_a_killed_run_trains_again_what_its_checkpoint_does_not_know(tmp_path):
    straight = tiny.trainer(steps=9)
    quiet_run(straight, tmp_path / "straight", checkpoint_every=4)

    killed = tiny.trainer(steps=9)
    (tmp_path / "killed").mkdir()
    monkey = killed.train_step

    def train_step():
        if killed.step == 6:
            raise KeyboardInterrupt  # as good as kill -9: nothing is saved on the way out
        return monkey()

    killed.train_step = train_step
    with pytest.raises(KeyboardInterrupt):
        quiet_run(killed, tmp_path / "killed", checkpoint_every=4)
    with open(tmp_path / "killed" / "metrics.jsonl", "a") as file:
        file.write('{"step": 7, "lo')  # the line that was being written

    resumed = tiny.trainer(steps=9)
    resumed.restore(checkpoints.load(tmp_path / "killed"))
    assert resumed.step == 4
    quiet_run(resumed, tmp_path / "killed", checkpoint_every=4)
    assert tiny.state(resumed) == tiny.state(straight)
    assert (tmp_path / "killed" / "metrics.jsonl").read_bytes() == (
        tmp_path / "straight" / "metrics.jsonl"
    ).read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_with_a_checkpoint(tmp_path, number):
    trainer = tiny.trainer(steps=10**6)
    step = trainer.train_step

    def train_step():
        metrics = step()
        if metrics.step == 3:
            os.kill(os.getpid(), number)
        return metrics

    trainer.train_step = train_step
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert quiet_run(trainer, tmp_path) == number.name
    assert names(tmp_path / "checkpoints") == ["step-0000003.safetensors"]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


def test_a_second_ctrl_c_is_not_caught(tmp_path):
    trainer = tiny.trainer(steps=10**6)

    def train_step():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    trainer.train_step = train_step
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background does without
    try:
        with pytest.raises(KeyboardInterrupt):
            quiet_run(trainer, tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)


def test_it_runs_outside_the_main_thread_too(tmp_path):
    done = []
    thread = threading.Thread(target=lambda: done.append(quiet_run(tiny.trainer(steps=2), tmp_path)))
    thread.start()
    thread.join()
    assert done == [None]


def test_minutes_bound_a_run(tmp_path):
    assert quiet_run(tiny.trainer(steps=10**6), tmp_path, minutes=1e-9) == "minutes"
    assert names(tmp_path / "checkpoints") == ["step-0000001.safetensors"]
    with pytest.raises(ValueError, match="minutes must be positive, got -1"):
        quiet_run(tiny.trainer(), tmp_path, minutes=-1)


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    trainer = tiny.trainer(steps=3)
    quiet_run(trainer, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    assert quiet_run(trainer, tmp_path) is None
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "size, classes, columns, rows, in_a_row",
    [
        (28, 10, 4, 10, 4),
        (28, 0, 10, 1, 10),
        (28, 200, 10, 16, 10),
        (64, 200, 10, 16, 10),
        (128, 200, 10, 16, 4),
        (256, 200, 10, 16, 1),
        (256, 10, 10, 10, 1),
        (256, 0, 10, 1, 10),
        (512, 200, 10, 4, 1),
        (2048, 200, 10, 1, 1),
    ],
)
def test_a_picture_is_bounded_whatever_the_classes_and_the_size(size, classes, columns, rows, in_a_row):
    labels, found = shown(classes, columns, (size, size, 1))
    assert found == in_a_row and labels.tolist() == [row for row in range(rows) for _ in range(in_a_row)]
