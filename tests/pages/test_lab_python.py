"""What the lab computes in a tab is what Python computes: training, samples, fields and distances."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from tests.checks import same_bits
from tests.pages.test_all_pages import WEIGHTS
from tests.site.hosts import Node
from tinydiff.data import points2d
from tinydiff.generate import Trajectory
from tinydiff.metrics import mmd
from tinydiff.noise import schedules
from tinydiff.noise.guidance import guided
from tinydiff.noise.predictions import eps_of
from tinydiff.ops import philox
from tinydiff.pages import PREDICTIONS, SAMPLERS, build, lab
from tinydiff.train.adamw import AdamW

SCHEDULE = schedules.get("cosine", lab.NOISE_STEPS)
RATE, SEED = 0.003, 4_000_000_000
CLOSE = dict(rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Does things with the modules of the lab, its programs loaded; ``about`` is what their file says."""
    host = Node(driver=Path(__file__).parent / "lab_driver.js")
    folder = tmp_path_factory.mktemp("lab")
    _, files = lab.make(None)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    address = host.address(folder / lab.FOLDER / "program.json")

    def do(*steps):
        results = host.do(["load", address], *steps)
        assert "error" not in results[0], results[0]
        do.about = results[0]
        return results[1:]

    return do


class Lab:
    """The same training in Python."""

    def __init__(self, backend, points, labels, *, width, prediction, seed):
        self.kind = prediction
        self.data = lab.Data.empty(backend, prediction)
        self.data.images[...], self.data.labels[...] = points[: lab.TRAINED], labels[: lab.TRAINED]
        self.data.seed[...] = seed
        self.model, self.averaged = lab.network(width, backend)
        self.model.parameters.initialise(seed)
        self.optimizer = AdamW(self.model.parameters, average=self.averaged.parameters.values)

    def train(self, count, rate=RATE):
        losses = []
        for number in range(1, count + 1):
            self.optimizer.prepare(number, rate)
            losses.append(self.data.step(self.model, self.optimizer).item())
        return losses

    def draw(self, labels, seed, **options):
        options = dict(clip=lab.CLIP, **options)
        return Trajectory(self.averaged, SCHEDULE, self.kind, lab.COUNT, **options).draw(labels, seed=seed)


@pytest.mark.parametrize(
    "name, how, count",
    [
        ("mixture", dict(width=64, prediction="v", seed=0), 200),
        ("ring", dict(width=32, prediction="eps", seed=SEED), 40),
        ("checkerboard", dict(width=128, prediction="x0", seed=7), 20),
    ],
)
def test_every_loss_and_every_parameter(node, baseline, name, how, count):
    width = how["width"]
    _, losses, parameters, average, _, again = node(
        ["begin", name, how],
        ["train", count, RATE],
        ["get", f"parameters.{width}"],
        ["get", f"average.{width}"],
        ["begin", name, how],
        ["trainInRuns", count, RATE],
    )
    trained = Lab(baseline, *lab.points(name), **how)
    assert losses == trained.train(count) and len(set(losses)) == count
    assert again == losses
    assert same_bits(parameters, trained.model.parameters.values)
    assert same_bits(average, trained.averaged.parameters.values)


def test_another_seed_is_another_curve(node):
    how = dict(width=32, prediction="v")
    curves = node(
        *(step for seed in (0, 1) for step in (["begin", "ring", how | {"seed": seed}], ["train", 3, RATE])),
    )[1::2]
    assert not set(curves[0]) & set(curves[1])


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_samples_of_every_sampler(node, baseline, kind):
    how = dict(width=32, prediction=kind, seed=1)
    labels = (np.arange(lab.COUNT) % (lab.CLASSES + 1)).tolist()
    asked = [dict(sampler=sampler, steps=8, guidance=guidance) for sampler in SAMPLERS for guidance in (0, 1, 3.5)]
    asked += [dict(sampler="heun", steps=128, guidance=1), dict(sampler="ddpm", steps=64, guidance=1)]
    drawings = [["draw", options | {"labels": labels, "seed": 3}] for options in asked]
    _, _, *drawn = node(["begin", "two_moons", how], ["train", 20, RATE], *drawings)
    trained = Lab(baseline, *lab.points("two_moons"), **how)
    trained.train(20)
    for options, x in zip(asked, drawn, strict=True):
        assert same_bits(x, trained.draw(labels, 3, **options).ravel()), options
    assert len({x.tobytes() for x in drawn}) == len(drawn)


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("guidance", [0, 1, 2.5])
def test_the_field_of_the_network(node, baseline, kind, guidance):
    how, level, label = dict(width=32, prediction=kind, seed=2), 120, 3
    _, _, lattice = node(["begin", "mixture", how], ["train", 20, RATE], ["lattice", 16, 1.6])
    x = np.zeros((lab.COUNT, 2), np.float32)
    x[:256] = lattice.reshape(-1, 2)
    _, _, found = node(["begin", "mixture", how], ["train", 20, RATE], ["noiseIn", x.ravel(), level, label, guidance])
    trained = Lab(baseline, *lab.points("mixture"), **how)
    trained.train(20)

    def predict(x, step, labels):
        return trained.averaged.predict(x, np.full(len(x), step, np.float32), labels)

    labels = np.full(lab.COUNT, label)
    prediction = guided(predict, labels, lab.CLASSES, guidance, baseline)(x, level)
    assert same_bits(found, eps_of(kind, prediction, x, *map(np.float32, SCHEDULE.rates(level))).ravel())


def test_the_lattice(node):
    [lattice] = node(["lattice", 16, 1.6])
    centres = (2 * np.arange(16) + 1) / 16 * 1.6 - 1.6
    x = lattice.reshape(16, 16, 2)
    np.testing.assert_allclose(x[:, :, 0], np.tile(centres, (16, 1)), rtol=1e-6)
    np.testing.assert_allclose(x[:, :, 1].T, x[:, :, 0], rtol=1e-6)


def test_the_exact_field(node):
    """Of the page's mixture, and of one whose normals are not all of one size."""
    other = points2d.Mixture([1, 2], [[0, 0.5], [-1, 0]], [[[0.2, 0.1], [0.1, 0.3]], [[0.01, 0], [0, 0.02]]])
    at = np.random.default_rng(0).standard_normal((100, 2)).astype(np.float32)
    for mixture in (points2d.MIXTURE, other):
        given = {name: getattr(mixture, name).tolist() for name in ("weights", "means", "covariances")}
        rates = [SCHEDULE.rates(level) for level in (0, 80, 199)]
        found = node(*(["score", given, at.ravel(), *rate, label, 2.5] for rate in rates for label in (None, 1)))
        assert mixture is other or node.about["mixture"] == given
        for i, (a, s) in enumerate(rates):
            whole = mixture.score(at, a, s)
            towards = whole + 2.5 * (mixture.component(1).score(at, a, s) - whole)
            np.testing.assert_allclose(found[2 * i], whole.ravel(), **CLOSE)
            np.testing.assert_allclose(found[2 * i + 1], towards.ravel(), **CLOSE)


def test_the_error_of_a_field(node):
    exact, field = np.random.default_rng(0).standard_normal((2, 256, 2)).astype(np.float32)
    [found] = node(["errors", field.ravel(), exact.ravel()])
    want = np.linalg.norm(field - exact, axis=1) / np.sqrt((exact**2).sum(axis=1).mean())
    np.testing.assert_allclose(found, want, rtol=1e-5)


class Counters:
    """Halves as the page draws them: in the order of random numbers from the counters."""

    def __init__(self, uniform):
        self._rows = iter(uniform)

    def permutation(self, half):
        y = np.empty_like(half)
        y[np.argsort(next(self._rows), kind="stable")] = half
        return y


def test_mmd_its_floor_and_its_band(node):
    real = lab.points("spiral")[0][lab.TRAINED :]
    n = lab.FRESH // 2
    samples = points2d.load("spiral", n, seed=9).images + np.float32(0.05)
    index = 2 * (lab.TRAINED + lab.FRESH) + np.arange(mmd.SPLITS * lab.FRESH)
    uniform = philox.forward(0, "data", index, 0, (1,), kind="uniform").ravel()
    [halvings] = node(["halvings"])
    assert same_bits(halvings, uniform)
    bandwidths = mmd.median_bandwidths(real)
    found, value, floor = node(
        ["bandwidths", real.ravel()],
        ["squaredMmd", samples.ravel(), real[:n].ravel(), bandwidths],
        ["floorOf", real.ravel(), uniform, bandwidths],
    )
    np.testing.assert_allclose(found, bandwidths, **CLOSE)
    assert value == pytest.approx(mmd.squared_mmd(samples, real[:n], bandwidths), abs=1e-12)
    counters = Counters(uniform.reshape(mmd.SPLITS, lab.FRESH))
    splits = mmd._splits(np.asarray(real, np.float64), bandwidths, counters, mmd.BATCH)
    assert floor["floor"] == pytest.approx(splits.mean(), abs=1e-12)
    assert floor["band"] == pytest.approx(np.quantile(splits, mmd.BAND), abs=1e-12)
    pythons = mmd.mmd(samples, real)  # with other halves, as many
    width = pythons.band[1] - pythons.band[0]
    assert value == pytest.approx(pythons.value, abs=1e-12)
    assert floor["band"] == pytest.approx(pythons.band, abs=0.3 * width)
    assert abs(floor["floor"] - pythons.floor) < 0.2 * width


def test_mmd_of_points_that_are_all_the_same_says_so(node):
    [found] = node(["bandwidths", np.zeros(400, np.float32)])
    assert "median distance between two of them is 0" in found["error"]


def test_the_points_are_those_of_python(node):
    found = node(*(["set", name] for name in points2d.SHAPES))
    assert node.about["sets"] == {name: shape.classes for name, shape in points2d.SHAPES.items()}
    for name, each in zip(points2d.SHAPES, found, strict=True):
        points, labels = lab.points(name)
        assert same_bits(each["points"], points.ravel()) and each["labels"].tolist() == labels.tolist()
        assert np.abs(points - points2d.load(name, len(points)).images).max() <= lab.GRAIN / 2
        assert np.abs(points).max() < lab.CLIP[1]


def test_a_drawing_as_text_and_as_points(node):
    dabs = [[0, 0, 63], [7, 63, 0], [2, 31, 40]]
    wrong = ["A", "8AA", "0A!", "0AA0", "0AA" * 401]
    [text, points, again] = node(["encode", dabs], ["pointsOf", dabs], ["pointsOf", dabs])
    [decoded, *errors] = node(["decode", text], *(["decode", each] for each in wrong))
    assert text == "0A_7_A2fo" and decoded == dabs
    assert all("a class and two letters" in each["error"] for each in errors)
    assert same_bits(points["points"], again["points"])
    at, labels = points["points"].reshape(-1, 2), points["labels"]
    assert len(at) == lab.TRAINED + lab.FRESH and set(labels) == {0, 7, 2}
    place = {label: (2 * np.array([column, row]) / 63 - 1) * 1.4 for label, column, row in dabs}
    for label in place:
        own = at[labels == label]
        assert len(own) > len(at) / 4
        assert np.abs(own.mean(axis=0) - place[label]).max() < 0.005
        assert abs((own - place[label]).std() - 0.03) < 0.002
    assert np.abs(at).max() < lab.CLIP[1] + 0.05


def test_both_curves_of_the_loss(node):
    losses = np.random.default_rng(0).random(333).tolist()
    found, recent = node(["curves", losses], ["recent", losses])
    assert found["stride"] == 4 and found["raw"][-1] == [333, losses[-1]] and len(found["raw"]) <= 100
    for (step, loss), (same, mean) in zip(found["raw"], found["averaged"], strict=True):
        assert step == same and loss == losses[step - 1]
        assert mean == pytest.approx(np.mean(losses[max(0, step - 50) : step]))
    assert recent == pytest.approx(np.mean(losses[-50:]))


def test_every_step_has_its_rates(node):
    node()
    ways, rates = node.about["ways"], node.about["rates"]
    steps = {str(step) for counts in ways.values() for way in counts.values() for _, step, _ in way}
    assert steps <= rates.keys() and {str(step) for step in range(lab.NOISE_STEPS)} <= rates.keys()
    for step, found in rates.items():
        assert same_bits(np.float32(found), np.float32(SCHEDULE.rates(float(step))))


def test_its_files_are_small():
    _, files = lab.make(None)
    assert sum(len(gzip.compress(content, build.HARDEST)) for content in files.values()) < 100_000
    weights = next(content for name, content in files.items() if name.endswith(WEIGHTS))
    header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    assert not any("parameters" in name or "average" in name for name in header)  # all is learned in the tab
