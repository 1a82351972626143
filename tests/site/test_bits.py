"""Every value that the engine computes in a page or in node has the bits that Python's kernels give it."""

import dataclasses

import numpy as np
import pytest

from tests.checks import same_bits
from tests.site.hosts import Chromium, Node
from tinydiff.data.dataset import Dataset
from tinydiff.model.mlp import MLP, MLPConfig
from tinydiff.noise import schedules
from tinydiff.noise.corrupt import Corruptor
from tinydiff.noise.density import step_quantiles
from tinydiff.program import file, web
from tinydiff.program.record import record
from tinydiff.samplers import SAMPLERS
from tinydiff.train import Trainer
from tinydiff.train.adamw import AdamW
from tinydiff.train.presets import PRESETS
from tinydiff.train.step import training_step

IMAGES, STEPS = 40, 10
SET_LATER = "up_blocks.0.resnets.0.conv1.weight"


def disturbed(parameters):
    """None of them zero, as after training."""
    rng = np.random.default_rng(1)
    parameters.values += rng.standard_normal(parameters.count, dtype=np.float32) * np.float32(0.02)


@pytest.fixture(scope="module")
def laptop(baseline, tmp_path_factory):
    """The network of the laptop preset, as a trainer and as a folder of programs that draw and train."""
    rng = np.random.default_rng(0)
    config = dataclasses.replace(PRESETS["laptop"].config, batch=8)
    images = rng.integers(0, 256, (IMAGES, *config.model.shape)).astype(np.uint8)
    trainer = Trainer(config, Dataset("mnist", images, rng.integers(0, 10, IMAGES), 10), baseline)
    disturbed(trainer.parameters)
    trainer.average[...] = trainer.parameters.values
    folder = tmp_path_factory.mktemp("programs") / "laptop"
    ways = {sampler: [3, 25] for sampler in SAMPLERS}
    file.write(folder, web.of_checkpoint(trainer.checkpoint(), baseline, ways=ways, images=IMAGES))
    return trainer, folder


def test_a_prediction_and_a_sample(host, laptop):
    trainer, folder = laptop
    x = np.random.default_rng(2).standard_normal(trainer.config.model.shape, dtype=np.float32)
    options = dict(sampler="ddim", steps=25, guidance=2)
    loaded, *_, predicted, drawn = host.do(
        ["load", host.address(folder / "program.json")],
        ["set", "x", x],
        ["set", "step", [57]],
        ["set", "labels", [3]],
        ["run", ["predict"]],
        ["get", "prediction"],
        ["draw", dict(labels=[7], seed=5, first=2, **options)],
    )
    assert loaded["threads"] == 1 and loaded["config"]["schedule"] == "cosine"
    want = trainer.averaged_model.predict(x[None], np.full(1, 57, np.float32), np.array([3]))
    assert same_bits(predicted, want.ravel())
    states = list(trainer.trajectory(1, **options).states([7], seed=5, first=2))
    assert [each["step"] for each in drawn] == [state.step for state in states[:-1]]
    for each, state, following in zip(drawn, states, states[1:], strict=False):
        assert same_bits(each["x"], following.x.ravel())
        assert same_bits(each["x0Hat"], (following if each["done"] == each["of"] else state).x0_hat.ravel())


def test_every_sampler_and_guidance(laptop):
    trainer, folder = laptop
    host = Node()
    drawings = [dict(sampler=sampler, steps=3, guidance=guidance) for sampler in SAMPLERS for guidance in (0, 1, 3.5)]
    steps = [["draw", dict(labels=[4], seed=1, **options)] for options in drawings]
    _, *results = host.do(["load", host.address(folder / "program.json")], *steps)
    for options, drawn in zip(drawings, results, strict=True):
        assert same_bits(drawn[-1]["x"], trainer.trajectory(1, **options).draw([4], seed=1).ravel()), options


def test_ten_training_steps_and_a_sample_after_them(host, laptop):
    """One is drawn before, too: what the engine has prepared for it may not be used again."""
    untrained, folder = laptop
    trainer = Trainer(untrained.config, untrained.dataset, untrained.backend)
    trainer.restore(untrained.checkpoint())
    calls, metrics = [], []
    for number in range(1, STEPS + 1):
        trainer.optimizer.prepare(number, trainer.config.learning_rate_at(number + 100))
        given = {name: array.copy() for name, array in trainer.optimizer.each_step.items()}
        calls.append({"program": "train", "set": given, "get": ["loss", "norm"]})
    names = [each.name for each in trainer.parameters]
    drawing = dict(sampler="ddim", steps=3, guidance=1)
    _, before, _, _, trained, after, _, other, *found = host.do(
        ["load", host.address(folder / "program.json")],
        ["draw", dict(labels=[4], **drawing)],
        ["set", "images", trainer.images.ravel()],
        ["set", "train.labels", trainer.labels],
        ["run", calls],
        ["draw", dict(labels=[4], **drawing)],
        ["set", SET_LATER, np.zeros_like(trainer.parameters[SET_LATER].value).ravel()],
        ["draw", dict(labels=[4], **drawing)],
        *[["get", f"train.{name}"] for name in names],
        *[["get", name] for name in names],
    )
    for call in calls:
        for name, array in trainer.optimizer.each_step.items():
            array[...] = call["set"][name]
        made = trainer.one_step()
        metrics.append((made["loss"].item(), made["norm"].item()))
    assert [(each["loss"].item(), each["norm"].item()) for each in trained] == metrics
    parts = trainer.checkpoint().parts
    assert not same_bits(parts["model"]["conv_in.weight"], untrained.parameters["conv_in.weight"].value)
    assert same_bits(before[-1]["x"], untrained.trajectory(1, **drawing).draw([4]).ravel())
    assert same_bits(after[-1]["x"], trainer.trajectory(1, **drawing).draw([4]).ravel())
    trainer.averaged_model.parameters[SET_LATER].value[...] = 0
    assert same_bits(other[-1]["x"], trainer.trajectory(1, **drawing).draw([4]).ravel())
    wanted = [parts[part][name] for part in ("model", "average") for name in names]
    for name, value, want in zip(2 * names, found, wanted, strict=True):
        assert same_bits(value, want.ravel()), name


class Points:
    """An MLP that learns points of the plane, batch 256."""

    def __init__(self, backend):
        rng = np.random.default_rng(3)
        self.model = MLP(MLPConfig(width=128, classes=3), backend)
        self.model.parameters.initialise(0)
        disturbed(self.model.parameters)
        self.optimizer = AdamW(self.model.parameters)
        self.corrupt = Corruptor(schedules.get("cosine", 200), "v", "simple", backend)
        self.data = rng.standard_normal((1000, 2), dtype=np.float32), rng.integers(0, 3, 1000), step_quantiles(200)

    def step(self):
        options = dict(batch=256, label_dropout=0.1, seed=4)
        made = training_step(self.model, self.optimizer, self.corrupt, *self.data, **options)
        return dict(zip(("loss", "norm", "x", "prediction"), made, strict=True))


def test_an_mlp_in_training(host, baseline, tmp_path):
    points = Points(baseline)
    state = {"parameters": points.model.parameters.values}
    recording = record(points.step, baseline, inputs=points.optimizer.each_step, state=state)
    file.write(tmp_path / "points", file.gather({"train": recording}))
    calls, losses = [], []
    for number in range(1, STEPS + 1):
        points.optimizer.prepare(number, 1e-3)
        given = {name: array.copy() for name, array in points.optimizer.each_step.items()}
        calls.append({"program": "train", "set": given, "get": ["loss"]})
        losses.append(points.step()["loss"].item())
    loaded = ["load", host.address(tmp_path / "points" / "program.json")]
    _, trained, found = host.do(loaded, ["run", calls], ["get", "parameters"])
    assert [each["loss"].item() for each in trained] == losses
    assert same_bits(found, points.model.parameters.values)


@pytest.mark.parametrize("threads", [1, 3])
def test_convolutions_of_every_kind(threads, baseline, tmp_path):
    """Large and small filters, prepared and not, forward and backward: kernels that take scratch memory of all sizes."""
    rng = np.random.default_rng(5)
    cases = [((16, 14, 14, 128), 128), ((16, 7, 7, 256), 256), ((16, 14, 14, 384), 128), ((1, 7, 7, 256), 256)]
    cases += [((1, 7, 7, 64), 8), ((1, 28, 28, 24), 40), ((3, 9, 5, 7), 3), ((1, 4, 4, 16), 8)]
    arrays = [
        [rng.standard_normal(shape, dtype=np.float32) for shape in (x, (3, 3, x[-1], O), (*x[:-1], O))]
        for x, O in cases
    ]

    def run():
        made = {}
        forward = [baseline.conv2d.forward(x, w, padding=1) for x, w, _ in arrays]
        for i, ((y, cache), (_, _, dy)) in enumerate(zip(forward, arrays)):
            dx, dw, _, _ = baseline.conv2d.backward(dy, cache)
            made |= {f"y{i}": y, f"dx{i}": dx, f"dw{i}": dw}
        return made

    file.write(tmp_path / "convolutions", file.gather({"all": record(run, baseline)}))
    node, wanted = Node(), run()
    loaded = ["load", node.address(tmp_path / "convolutions" / "program.json"), {"threads": threads}]
    _, _, _, *found = node.do(loaded, ["run", ["all"]], ["run", ["all"]], *[["get", name] for name in wanted])
    for (name, want), value in zip(wanted.items(), found, strict=True):
        assert same_bits(value, want.ravel()), name


@pytest.mark.parametrize("host", [Node, lambda: Chromium(isolated=True)], ids=["node", "chromium"])
def test_threads_change_no_bit(host, laptop):
    trainer, folder = laptop
    host, options = host(), dict(sampler="ddim", steps=25, guidance=2)
    steps = [["load", host.address(folder / "program.json"), {"threads": 3}], ["draw", dict(labels=[4], **options)]]
    loaded, drawn = host.do(*steps)
    assert loaded["threads"] == 3
    assert same_bits(drawn[-1]["x"], trainer.trajectory(1, **options).draw([4]).ravel())
