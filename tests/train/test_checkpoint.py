import errno
import json
import os

import numpy as np
import pytest
import safetensors.numpy

from tests.train import tiny
from tinydiff.train import checkpoint as checkpoints


@pytest.fixture
def saved(tmp_path):
    trainer = tiny.trainer()
    trainer.train_step()
    path = checkpoints.path_for(tmp_path, 1)
    checkpoints.save(path, trainer.checkpoint())
    return path, trainer


def test_round_trip(saved):
    path, trainer = saved
    loaded = checkpoints.load(path)
    assert loaded.step == 1 and loaded.config == trainer.config
    other = tiny.trainer()
    other.restore(loaded)
    assert tiny.state(other) == tiny.state(trainer)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_newest_of_a_folder_is_found(saved, tmp_path):
    path, trainer = saved
    checkpoints.save(checkpoints.path_for(tmp_path, 12), trainer.checkpoint())
    assert checkpoints.find(tmp_path).name == "step-0000012.safetensors"
    assert checkpoints.find(path) == path


@pytest.mark.parametrize("keep", [0, 7, 300, -1])
def test_truncated(saved, keep):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="step-0000001.safetensors is truncated or not a safetensors file"):
        checkpoints.load(path)


def test_missing(tmp_path):
    with pytest.raises(ValueError, match="checkpoint .*nowhere does not exist"):
        checkpoints.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no checkpoint"):
        checkpoints.load(tmp_path)


def test_somebody_elses_safetensors(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"a": np.ones(2)}, path)
    with pytest.raises(ValueError, match="is a safetensors file, but not a tinydiff checkpoint"):
        checkpoints.load(path)


def test_values_that_are_not_finite(saved):
    path, trainer = saved
    trainer.average[3] = np.nan
    checkpoints.save(path, trainer.checkpoint())
    with pytest.raises(ValueError, match="tensor average.* holds a value that is not finite"):
        checkpoints.load(path)


def test_another_architecture(saved):
    path, _ = saved
    wider = tiny.trainer(model={"channels": (8, 24)})
    with pytest.raises(ValueError, match=r"parameter .* must have shape .*, got"):
        wider.restore(checkpoints.load(path))


def test_a_checkpoint_of_the_future(saved):
    path, trainer = saved
    config = {**trainer.config.to_dict(), "dropout": 0.1}
    tensors = {"model.a": np.ones(1, np.float32)}

    for description, message in (
        ({"format": checkpoints.FORMAT, "step": 1, "config": config}, ".*dropout"),
        ({"format": 99, "step": 1, "config": config}, "its format is 99, not 1"),
        ({}, "'format'"),
    ):
        safetensors.numpy.save_file(tensors, path, {checkpoints.METADATA: json.dumps(description)})
        with pytest.raises(ValueError, match=f"cannot be read by this version: {message}"):
            checkpoints.load(path)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_previous_checkpoint(saved, monkeypatch, failing):
    path, trainer = saved
    before = path.read_bytes()
    trainer.train_step()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, full)
        with pytest.raises(OSError, match="No space left on device"):
            checkpoints.save(path, trainer.checkpoint())
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
