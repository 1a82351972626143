"""ONNX files, run by ONNX Runtime: networks and training steps against the reference."""

import builtins
import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from tests.checks import assert_as_good
from tests.interop.folders import CONFIGS, DROPOUT, POSITIONS, checkpoint, same
from tests.train import tiny
from tinydiff import backends, cli
from tinydiff.interop import onnx as interop
from tinydiff.model.unet import UNet
from tinydiff.program import onnx_ops
from tinydiff.train import Trainer
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.adamw import AdamW
from tinydiff.train.checkpoint import METADATA

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

BATCHES = 1, 3, 5  # 2 and 3 are recorded
NETWORKS = {
    **CONFIGS,
    **POSITIONS,
    **DROPOUT,
    "everything": {"film": True, "positions": 1, "attention_levels": (0, 1), "head_width": 4, "downsample_padding": 0},
    "one pixel at the bottom": {"size": 4, "channels": (8, 8, 16), "film": True},
}


def session_of(model):
    return onnxruntime.InferenceSession(model.SerializeToString())


def to_planes(images):
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def batch_of(model, N, seed=0, labels_of_none=True):
    """x, step and labels (or None) of a ``UNetConfig``."""
    rng = np.random.default_rng(seed)
    x, step = rng.standard_normal((N, *model.shape)), rng.uniform(0, 50, N)
    return (
        x.astype(np.float32),
        step.astype(np.float32),
        rng.integers(0, model.classes + 1, N) if model.classes else None,
    )


def feeds_of(x, step, labels, **more):
    feeds = {"x": to_planes(x), "step": step, **more}
    return feeds if labels is None else {**feeds, "labels": labels}


@pytest.mark.parametrize("changes", NETWORKS.values(), ids=NETWORKS)
def test_the_network(changes):
    saved = checkpoint(changes)
    config = saved.config.model
    session = session_of(interop.predict_model(saved))
    for N in BATCHES:
        x, step, labels = batch_of(config, N, seed=N)
        (found,) = session.run(None, feeds_of(x, step, labels))
        models = [UNet(config, backends.get("numpy"), dtype) for dtype in (np.float64, np.float32)]
        for model in models:
            model.parameters.load(model.parameters.values, saved.parts["average"])
        truth, rival = (
            model.predict(x.astype(dtype), step.astype(dtype), labels)
            for model, dtype in zip(models, (np.float64, np.float32))
        )
        assert_as_good(found, to_planes(truth), to_planes(rival), name=f"the prediction at batch {N}")


def test_what_the_file_says():
    saved = checkpoint({"film": True})
    model = interop.predict_model(saved, part="model")
    assert {each.domain: each.version for each in model.opset_import} == {"": 18}
    shapes = {
        each.name: [axis.dim_param or axis.dim_value for axis in each.type.tensor_type.shape.dim]
        for each in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"x": ["N", 1, 8, 8], "step": ["N"], "labels": ["N"], "prediction": ["N", 1, 8, 8]}
    assert all(each.doc_string for each in (*model.graph.input, *model.graph.output))
    (entry,) = model.metadata_props
    described = json.loads(entry.value)
    assert entry.key == METADATA and described["what"] == "predict" and described["part"] == "model"
    assert described["config"]["prediction"] == "v" and described["step"] == 12
    # the parameters are constants under their names, each once
    held = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    assert np.array_equal(held["conv_in.bias"], saved.parts["model"]["conv_in.bias"])
    values = sum(array.size for array in saved.parts["model"].values())
    assert values <= sum(array.size for array in held.values()) < 1.02 * values + 500


class InFloat64(Trainer):
    """A trainer's ``learn`` in float64, from where the trainer is: the truth."""

    def __init__(self, trainer):
        self.config = config = trainer.config
        self.backend, self.model = trainer.backend, UNet(config.model, trainer.backend, np.float64)
        self.parameters = self.model.parameters
        self.parameters.values[...] = trainer.parameters.values
        options = {name: getattr(config, name) for name in ("clip", "weight_decay", "average_decay")}
        self.average = self.parameters.values.copy()
        self.optimizer = AdamW(self.parameters, average=self.average, **options)
        for name in ("mean", "mean_square", "_learning_rate", "_decay"):
            setattr(self.optimizer, name, getattr(self.optimizer, name).astype(np.float64))


def named(parameters, flat):
    """The tensors of a checkpoint under the names that its file has, as copies."""
    return {
        f"{part}.{name}": array.copy()
        for part, each in flat.items()
        for name, array in parameters.to_numpy(each).items()
    }


def assert_trains_alike(trainer, session, steps=10):
    """Steps of a training step's model and of a ``Trainer`` on the same batches: every loss and norm, and in the end
    every parameter, moment and average, must be as near to the truth as NumPy's in float32."""
    truth, config = InFloat64(trainer), trainer.config.model
    names = [each.name for each in session.get_outputs()]
    state = named(trainer.parameters, trainer.state())
    first = state["model.conv_in.weight"]
    for i in range(steps):
        N = BATCHES[i % len(BATCHES)]
        x, step, labels = batch_of(config, N, seed=i)
        rng = np.random.default_rng(100 + i)
        target, weight = rng.standard_normal(x.shape).astype(np.float32), rng.uniform(size=N).astype(np.float32)
        for each in (trainer, truth):
            each.optimizer.prepare(i + 1, 1e-3)
        rival = trainer.learn(x, target, weight, step, labels)
        true = truth.learn(*(each.astype(np.float64) for each in (x, target, weight, step)), labels)
        feeds = feeds_of(x, step, labels, target=to_planes(target), weight=weight)
        found = dict(zip(names, session.run(None, {**feeds, **trainer.optimizer.each_step, **state})))
        for name, right, other in zip(("loss", "norm"), true, rival):
            assert_as_good(found[name], np.asarray(right), other, times=8, name=f"the {name} of step {i + 1}")
        state = {name: found["next." + name] for name in state}
    rival = named(trainer.parameters, trainer.state())
    for name, right in named(truth.parameters, truth.state()).items():
        assert_as_good(state[name], right, rival[name], times=8, name=name)
    assert np.abs(state["model.conv_in.weight"] - first).max() > 1e-3


TRAINED = {
    "plain": ({}, {}),
    "film, positions, attention everywhere": (
        {"film": True, "positions": 1, "attention_levels": (0, 1), "head_width": 4},
        {"weight_decay": 0.1, "clip": 0.1},
    ),
    "no classes, padding after": ({"classes": 0, "downsample_padding": 0}, {"average_decay": 0.5}),
}


def trainer_of(model=None, **changes):
    trainer = tiny.trainer(model=model, **changes)
    # none of its layers at its quiet start
    trainer.parameters.values[...] += 0.05 * np.random.default_rng(3).standard_normal(trainer.parameters.count)
    trainer.average[...] = trainer.parameters.values
    return trainer


@pytest.mark.parametrize("model, changes", TRAINED.values(), ids=TRAINED)
def test_ten_training_steps(model, changes):
    trainer = trainer_of(model, **changes)
    assert_trains_alike(trainer, session_of(interop.train_model(trainer.checkpoint())))


def test_a_planted_error_in_a_gradient_is_found(monkeypatch):
    right = onnx_ops.WRITE["attention.backward"]

    def swapped(*arguments):
        found = right(*arguments)
        return found | {"dq": found["dk"], "dk": found["dq"]}

    monkeypatch.setitem(onnx_ops.WRITE, "attention.backward", swapped)
    trainer = trainer_of()
    with pytest.raises(AssertionError, match="the norm of step 1 is wrong"):
        assert_trains_alike(trainer, session_of(interop.train_model(trainer.checkpoint())))


def test_a_gradient_that_is_not_finite_changes_nothing():
    trainer = trainer_of()
    session = session_of(interop.train_model(trainer.checkpoint()))
    x, step, labels = batch_of(trainer.config.model, 2)
    trainer.optimizer.prepare(1, 1e-3)
    state = named(trainer.parameters, trainer.state())
    for bad in (np.nan, np.inf):
        feeds = feeds_of(x, step, labels, target=np.full_like(to_planes(x), bad), weight=np.ones(2, np.float32))
        found = session.run(None, {**feeds, **trainer.optimizer.each_step, **state})
        found = dict(zip([each.name for each in session.get_outputs()], found))
        assert not np.isfinite(found["loss"]) and not np.isfinite(found["norm"]).any()
        assert all(np.array_equal(found["next." + name], array) for name, array in state.items())


def test_a_step_with_dropout_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    checkpoints.save("step-0000001.safetensors", trainer_of({"dropout": 0.1}).checkpoint())
    arguments = ["export", "step-0000001.safetensors", "--format", "onnx", "--what", "train", "train.onnx"]
    assert cli.main(arguments) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert said.startswith("tinydiff: step-0000001.safetensors: onnx: dropout.forward has no form in ONNX: it draws from")
    assert said.count("\n") == 1 and not list(tmp_path.glob("*.onnx"))


def test_from_a_checkpoint_to_a_checkpoint(tmp_path, monkeypatch, capsys):
    """As the docstring of tinydiff.interop.onnx has it."""
    monkeypatch.chdir(tmp_path)
    trainer = trainer_of()
    trainer.train_step()
    checkpoints.save("step-0000001.safetensors", trainer.checkpoint())
    assert cli.main(["export", "step-0000001.safetensors", "--format", "onnx", "--what", "train", "train.onnx"]) == 0
    assert cli.main(["export", "step-0000001.safetensors", "--format", "onnx", "net.onnx", "--weights", "model"]) == 0
    out = capsys.readouterr().out
    assert out == (
        "wrote train.onnx: the training step; a checkpoint is its first state, tensor by tensor\n"
        "wrote net.onnx: the network, which predicts v; schedule cosine, 50 noise steps\n"
    )
    session = onnxruntime.InferenceSession("train.onnx")
    state = safetensors.numpy.load_file("step-0000001.safetensors")
    taken = {each.name for each in session.get_inputs()}
    numbers = {"number", "learning_rate", "average_decay"}
    assert taken == {"x", "target", "weight", "step", "labels", *numbers, *state}
    trainer.optimizer.prepare(2, 1e-3)
    x, step, labels = batch_of(trainer.config.model, 4)
    feeds = feeds_of(x, step, labels, target=to_planes(x), weight=np.ones(4, np.float32))
    found = session.run(None, {**feeds, **trainer.optimizer.each_step, **state})
    found = dict(zip([each.name for each in session.get_outputs()], found))
    with safetensors.safe_open("step-0000001.safetensors", framework="numpy") as file:
        description = json.loads(file.metadata()[METADATA])
    del description["sha256"]
    after = {name: found["next." + name] for name in state}
    safetensors.numpy.save_file(after, "step-0000002.safetensors", {METADATA: json.dumps(description)})
    trainer.learn(x, x, np.ones(4, np.float32), step, labels)
    after = checkpoints.load("step-0000002.safetensors")
    for name, array in trainer.checkpoint().parts["model"].items():
        assert np.allclose(after.parts["model"][name], array, atol=1e-5)
    assert not same(after.parts["model"], checkpoints.load("step-0000001.safetensors").parts["model"])


def test_bad_input(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved = checkpoint()
    checkpoints.save(tmp_path / "mine.safetensors", saved)
    del saved.parts["average"]["conv_in.bias"]
    checkpoints.save(tmp_path / "holes.safetensors", saved)
    (tmp_path / "there.onnx").write_text("")

    def refuses(message, *arguments):
        capsys.readouterr()
        assert cli.main(["export", *arguments]) == cli.BAD_INPUT
        assert capsys.readouterr().err == f"tinydiff: {message}\n"

    to_onnx = "--format", "onnx"
    refuses("what goes with --format onnx", "mine.safetensors", "out", "--what", "train")
    refuses(
        "weights goes with --what predict: a training step is given all of a checkpoint's",
        *("mine.safetensors", "a.onnx", *to_onnx, "--what", "train", "--weights", "average"),
    )
    # the output is looked at before anything else
    refuses("there.onnx already exists", "nowhere", "there.onnx", *to_onnx)
    refuses("an ONNX file must end in .onnx, got out", "nowhere", "out", *to_onnx)
    refuses("output: the folder no does not exist", "nowhere", "no/a.onnx", *to_onnx)
    refuses("/proc/a.onnx: No such file or directory", "nowhere", "/proc/a.onnx", *to_onnx)
    refuses("checkpoint nowhere does not exist", "nowhere", "a.onnx", *to_onnx)
    missing = "holes.safetensors: parameter conv_in.bias is missing"
    refuses(missing, "holes.safetensors", "a.onnx", *to_onnx)
    refuses(missing, "holes.safetensors", "a.onnx", *to_onnx, "--what", "train")

    with monkeypatch.context() as patch:

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, "fsync", full)
        refuses("a.onnx: No space left on device", "mine.safetensors", "a.onnx", *to_onnx)
    assert sorted(path.name for path in tmp_path.glob("*.onnx")) == ["there.onnx"]

    real_import = builtins.__import__

    def without(name, *arguments, **options):
        if name == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    refuses("ONNX files need the package onnx: pip install 'tinydiff[onnx]'", "nowhere", "a.onnx", *to_onnx)


def test_nothing_else_needs_the_package():
    code = "import sys; sys.modules['onnx'] = None; import tinydiff.cli"
    subprocess.run([sys.executable, "-c", code], check=True)
