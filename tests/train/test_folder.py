import errno
import fcntl
import json
import os
import subprocess
import sys

import pytest

from tests.train import tiny
from tests.train.test_run import names, quiet_run
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.folder import RunFolder, read_metrics


@pytest.fixture
def finished(tmp_path):
    quiet_run(tiny.trainer(steps=3), tmp_path / "run", checkpoint_every=1)
    return tmp_path / "run"


def test_a_new_run_takes_only_a_folder_in_which_nothing_can_be_lost(tmp_path, finished):
    RunFolder(tmp_path / "nowhere").expect_new()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").touch()
    RunFolder(tmp_path / "empty").expect_new()
    (tmp_path / "empty" / "notes.txt").touch()
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="empty is not the folder of a run, as it holds notes.txt; choose a new"):
            RunFolder(tmp_path / "empty").expect_new(overwrite=overwrite)

    (finished / "notes.txt").write_text("mine")  # in the folder of a run anyone may keep notes
    with pytest.raises(ValueError, match="run already holds a run, at step 3; --resume .*, --overwrite"):
        RunFolder(finished).expect_new()
    RunFolder(finished).expect_new(overwrite=True)
    kept = finished / "checkpoints" / "step-0000002-keep.safetensors"
    kept.touch()
    RunFolder(finished).clear()
    RunFolder(finished).expect_new()
    assert (finished / "notes.txt").read_text() == "mine" and names(finished / "checkpoints") == [kept.name]


@pytest.mark.parametrize(
    "config", [{"mine": 1}, [], "text", {"_class_name": "UNet2DModel"}, {"model": {"size": 8}, "colour": "red"}]
)
def test_somebody_elses_config_json_is_never_overwritten(tmp_path, finished, config):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = folder / "step-0000003.safetensors"
    checkpoint.write_bytes((finished / "checkpoints" / "step-0000003.safetensors").read_bytes())
    before = (folder / "config.json").read_bytes()
    for action in (
        lambda: RunFolder(folder).expect_new(overwrite=True),
        lambda: RunFolder.of(checkpoint),
        lambda: quiet_run(tiny.trainer(steps=1), folder),
    ):
        with pytest.raises(ValueError, match="mine is not the folder of a run, as it holds config.json"):
            action()
    assert (folder / "config.json").read_bytes() == before
    assert names(folder) == ["config.json", "step-0000003.safetensors"]


def test_folders_of_older_versions_and_imports_are_runs(tmp_path, finished):
    description = json.loads((finished / "config.json").read_text())
    del description["tinydiff"], description["data_set"]
    (finished / "config.json").write_text(json.dumps(description))
    assert RunFolder.of(finished).path == finished
    assert RunFolder.of(finished / "checkpoints" / "step-0000003.safetensors").path == finished
    for name in ("config.json", "metrics.jsonl"):
        (finished / name).unlink()
    (finished / "samples").rmdir()
    assert RunFolder.of(finished).path == finished
    (finished / "holiday.png").touch()
    with pytest.raises(ValueError, match="it holds holiday.png; --out names a new one to go on in"):
        RunFolder.of(finished)


def test_rotation_lets_go_of_its_own_alone(tmp_path):
    trainer = tiny.trainer(steps=6)
    quiet_run(trainer, tmp_path, checkpoint_every=2, keep=2)
    for name in ("step-0000002-keep.safetensors", "step-best.safetensors", "step-0000009.safetensors"):
        (tmp_path / "checkpoints" / name).touch()  # the last as after a damaged one, which does not count
    RunFolder(tmp_path).save(trainer.checkpoint()._replace(step=8), keep=2)
    assert names(tmp_path / "checkpoints") == [
        "step-0000002-keep.safetensors",
        "step-0000006.safetensors",
        "step-0000008.safetensors",
        "step-0000009.safetensors",
        "step-best.safetensors",
    ]


HOLD = """
import sys, time
from tinydiff.train.folder import RunFolder
with RunFolder(sys.argv[1]).locked():
    print("locked", flush=True)
    time.sleep(600)
"""


def test_one_process_at_a_time_and_a_dead_one_leaves_no_lock(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(ValueError, match=f"{tmp_path} is in use: process {other.pid} on .* trains there"):
            quiet_run(tiny.trainer(steps=1), tmp_path)
        assert names(tmp_path) == ["lock"]
    finally:
        other.kill()
        other.communicate()
    quiet_run(tiny.trainer(steps=1), tmp_path)
    assert "lock" not in names(tmp_path) and names(tmp_path / "checkpoints") == ["step-0000001.safetensors"]


def test_within_a_process_the_lock_can_be_entered_again(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.locked():
        with folder.locked():
            pass
        with pytest.raises(ValueError, match="is in use: process"), RunFolder(tmp_path).locked():
            pass
    with RunFolder(tmp_path).locked():
        pass


def test_a_lock_that_was_removed_while_it_was_asked_for_is_no_lock(tmp_path, monkeypatch):
    flock, removed = fcntl.flock, []

    def flock_after_removal(file, operation):
        if not removed:
            removed.append(os.unlink(file.name))
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock_after_removal)
    with RunFolder(tmp_path).locked():
        assert removed and names(tmp_path) == ["lock"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    said = []
    with RunFolder(tmp_path, say=said.append).locked():
        pass
    assert len(said) == 1 and "no lock can be had" in said[0] and os.strerror(number) in said[0]


def test_a_torn_metrics_file_is_read_as_far_as_it_goes(tmp_path, finished):
    path = finished / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_bytes(b"\n".join([lines[0].encode(), b'{"step": 2, "lo', b"\xff\0", b"[]", b'{"step": 1}', b""]))
    assert [entry["step"] for entry in read_metrics(path)] == [1]
    assert read_metrics(tmp_path / "none") == []
    trainer = tiny.trainer(steps=5)
    trainer.restore(checkpoints.load(finished)._replace(config=trainer.config))
    quiet_run(trainer, finished)
    assert [entry["step"] for entry in read_metrics(path)] == [1, 4, 5]
