import errno
import json
import os

import numpy as np
import pytest
import safetensors.numpy

from tests.train import tiny
from tinydiff import tensors
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
    assert loaded.step == 1 and loaded.config == trainer.config and loaded.data_set == trainer.dataset.identity
    other = tiny.trainer()
    other.restore(loaded)
    assert tiny.state(other) == tiny.state(trainer)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_read_lazily_it_is_the_same_and_checked_as_well(saved, tmp_path):
    path, _ = saved
    whole, lazily = checkpoints.load(path), checkpoints.load(path, lazily=True)
    assert lazily._replace(parts=None) == whole._replace(parts=None)
    for part, named in whole.parts.items():
        for name, array in named.items():
            assert isinstance(lazily.parts[part][name], tensors.Lazy)
            assert np.array_equal(lazily.parts[part][name], array)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    newest = checkpoints.path_for(tmp_path, 2)
    newest.write_bytes(content)
    with pytest.raises(checkpoints.Damaged, match="its content is not what its checksum was made of"):
        checkpoints.load(newest, lazily=True)
    assert checkpoints.load(tmp_path, lazily=True, say=[].append).step == 1


def test_the_newest_of_a_folder_is_found(saved, tmp_path):
    path, trainer = saved
    checkpoints.save(checkpoints.path_for(tmp_path, 12), trainer.checkpoint())
    assert checkpoints.find(tmp_path).name == "step-0000012.safetensors"
    assert checkpoints.find(path) == path


def test_only_numbered_files_are_checkpoints_and_numbers_are_compared(saved, tmp_path):
    path, trainer = saved
    for step in (999, 10**7, 9_999_999):
        checkpoints.save(checkpoints.path_for(tmp_path, step), trainer.checkpoint())
    for name in ("step-0000012-keep.safetensors", "step-best.safetensors", "step-.safetensors", "step-5.safetensors~"):
        (tmp_path / name).write_bytes(path.read_bytes())
    (tmp_path / "step-99999999.safetensors").mkdir()
    assert [checkpoints.number(file) for file in checkpoints.saved(tmp_path)] == [1, 999, 9_999_999, 10**7]
    assert checkpoints.find(tmp_path).name == "step-10000000.safetensors"


def test_a_flipped_bit_is_noticed(saved):
    """In any tensor, and in the description; not in an older file, which has no checksum."""
    path, _ = saved
    content = path.read_bytes()
    at_step = content.index(b'\\"step\\": 1') + len(b'\\"step\\": ')
    for place in (len(content) - 1, len(content) // 2, at_step):
        flipped = bytearray(content)
        flipped[place] ^= 2
        path.write_bytes(flipped)
        with pytest.raises(checkpoints.Damaged, match="is damaged: its content is not what its checksum was made of"):
            checkpoints.load(path)

    with safetensors.safe_open(path, framework="numpy") as file:
        description = json.loads(file.metadata()[checkpoints.METADATA])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    del description["sha256"], description["data_set"]
    safetensors.numpy.save_file(tensors, path, {checkpoints.METADATA: json.dumps({**description, "step": 1})})
    assert checkpoints.load(path).step == 1 and checkpoints.load(path).data_set is None


def test_an_older_file_knows_neither_dropout_nor_flips(saved):
    path, trainer = saved
    with safetensors.safe_open(path, framework="numpy") as file:
        description = json.loads(file.metadata()[checkpoints.METADATA])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    del description["sha256"], description["config"]["flip"], description["config"]["model"]["dropout"]
    safetensors.numpy.save_file(tensors, path, {checkpoints.METADATA: json.dumps(description)})
    assert checkpoints.load(path).config == trainer.config
    assert not trainer.config.flip and trainer.config.model.dropout == 0


def test_instead_of_a_damaged_one_the_one_before_is_read(saved, tmp_path):
    path, trainer = saved
    newest = checkpoints.path_for(tmp_path, 2)
    newest.write_bytes(path.read_bytes()[:-5])
    said = []
    assert checkpoints.load(tmp_path, say=said.append).step == 1
    assert (
        len(said) == 1
        and said[0].startswith(f"{newest} is truncated")
        and said[0].endswith("step-0000001.safetensors, the one before it, is read instead")
    )
    with pytest.raises(checkpoints.Damaged, match="step-0000002.safetensors is truncated"):
        checkpoints.load(newest)
    path.write_bytes(b"")
    with pytest.raises(checkpoints.Damaged, match="step-0000001.safetensors is truncated"):
        checkpoints.load(tmp_path, say=said.append)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(step=-1), r"step must be an integer in \[0, 20\], got -1"),
        (dict(step=10**30), r"step must be an integer in \[0, 20\], got 10+$"),
        (dict(step="1"), "step must be an integer"),
        (dict(step=True), "step must be an integer"),
        (dict(config=None), ".*"),
        (dict(config={"model": None}), "model must be UNetConfig, got None"),
        (dict(config={"model": {"size": 8.0}}), "size must be an integer, got 8.0"),
        (dict(data_set=[1]), ".*"),
        (dict(data_set={"name": 1}), ".*"),
    ],
)
def test_fields_of_another_kind(saved, change, message):
    path, _ = saved
    with safetensors.safe_open(path, framework="numpy") as file:
        description = json.loads(file.metadata()[checkpoints.METADATA])
    safetensors.numpy.save_file(
        {"model.a": np.ones(1, np.float32)}, path, {checkpoints.METADATA: json.dumps({**description, **change})}
    )
    with pytest.raises(ValueError, match=f"step-0000001.safetensors cannot be read by this version: {message}"):
        checkpoints.load(path)


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
