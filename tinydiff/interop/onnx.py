"""A trained model as an ONNX file, for everybody else's runtimes: ONNX Runtime, OpenVINO, a browser, a phone.

``predict``: one evaluation of the network. ``train``: a whole training step, forward, loss, the hand-written backward,
clipping, AdamW and the average, as one graph. ONNX knows no gradients, and a training step of this engine needs none:
it is nothing but operators on arrays. So whatever can run a network can train it, where there is neither Python nor a
framework that trains: to fine-tune on a device whose data must not leave it, to train in a browser, or to measure a
runtime by the work of training. As far as we know nobody else exports the training of a diffusion model like this.

    session = onnxruntime.InferenceSession("train.onnx")
    state = safetensors.numpy.load_file("step-0001000.safetensors")        # a checkpoint, as it is
    names = [each.name for each in session.get_outputs()]
    for number in range(1001, 2001):
        given = batch() | each_step(number)       # x, target, weight, step, labels; number, learning_rate, average_decay
        found = dict(zip(names, session.run(None, given | state)))
        state = {name: found["next." + name] for name in state}

The state's tensors have the names and layouts of a checkpoint's (``tinydiff.train.checkpoint``), so the last state
saved with a checkpoint's metadata, less the "sha256" of other tensors, is a checkpoint again.
"""

from __future__ import annotations

import json
from pathlib import Path

from tinydiff import backends, files
from tinydiff.model.unet import UNet
from tinydiff.program import onnx, runs
from tinydiff.train.checkpoint import METADATA, PARTS
from tinydiff.train.distill_config import DistillConfig

FORMAT = 1
WHATS = ("predict", "train")
BATCHES = 2, 3  # at which a program is recorded; any two above 1 would do
DOCUMENTS = {
    "x": "noisy images",
    "step": "the noise step of each, 0 .. T - 1",
    "labels": "the class of each; the number of classes itself stands for none",
    "guidance": "of each, of a student alone: 0 ignores the label, 1 follows it, more exaggerates",
    "prediction": "what the network predicts of x: see the metadata",
    "target": "what it should predict",
    "weight": "of each sample in the loss; 1 is plain",
    "number": "of this training step: 1, 2, ...",
    "learning_rate": "of this training step",
    "average_decay": "of the average at this step: min(limit, (1 + number) / (10 + number))",
    "loss": "before the step",
    "norm": "of all gradients, before they are clipped; where it is not finite the step changes nothing",
}


def expect_writable(path):
    """Raise an error unless an ONNX file can be made and written there, before any work."""
    onnx.require()
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"an ONNX file must end in .onnx, got {path}")
    if path.exists():
        raise ValueError(f"{path} already exists")
    files.expect_writable("output", path)


def export_file(checkpoint, path, *, what="predict", part="average"):
    """Write a network with its parameters, or the average of them, or what trains it, as an ONNX file.

    Raises ``ValueError`` for parameters that do not fit, and ``OSError`` if it cannot be written.
    """
    model = train_model(checkpoint) if what == "train" else predict_model(checkpoint, part=part)
    files.write_atomically(path, model.SerializeToString())


def predict_model(checkpoint, *, part="average"):
    """An ``onnx.ModelProto``: x (N, C, H, W), step (N,) and, with classes, labels (N,) int64 -> prediction as x."""
    model = UNet(checkpoint.config.model, backends.get("numpy"))
    model.parameters.load(model.parameters.values, checkpoint.parts[part])
    recordings = [runs.predict(model, count) for count in BATCHES]
    return _model(checkpoint, recordings, "A U-Net of tinydiff", what="predict", part=part)


def train_model(checkpoint):
    """An ``onnx.ModelProto`` of a training step as this checkpoint's run takes it; the state is not in it.

    x and target (N, C, H, W), weight and step (N,), with classes labels (N,) int64; number (1,) int64, learning_rate and
    average_decay (1,); and PART.NAME of every parameter, PART one of ``checkpoint.PARTS``
    -> loss (), norm (1,) and next.PART.NAME.
    What a step draws at random (images, noise, steps, dropped labels) is the caller's to draw: it comes in the batch.
    Raises ``ValueError`` for a model with dropout, which is drawn in the middle of a step, and for a student, which
    learns from another network.
    """
    if isinstance(checkpoint.config, DistillConfig):
        raise ValueError("what must be predict for a student: its training step asks another network, its teacher")
    trainer = runs.without_data(checkpoint.config, backends.get("numpy"))
    trainer.restore(checkpoint)
    recordings = [runs.learn(trainer, count) for count in BATCHES]
    state = [f"{part}.{each.name}" for part in PARTS for each in trainer.parameters]
    about = "A training step of a U-Net of tinydiff: next.NAME is what the step makes of NAME"
    return _model(checkpoint, recordings, about, state, what="train")


def _model(checkpoint, recordings, about, state=(), **description):
    model = onnx.to_model(recordings, state=tuple(state), documents=DOCUMENTS, about=about)
    entry = model.metadata_props.add()
    entry.key = METADATA
    entry.value = json.dumps(
        {"format": FORMAT, **description, "step": checkpoint.step, "config": checkpoint.config.to_dict()}
    )
    return model
