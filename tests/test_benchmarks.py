"""What the benchmarks compare computes the same, and what their tables say is what was timed."""

import importlib
import types

import numpy as np
import pytest

from tests.checks import backend_or_skip
from tests.test_install import ROOT
from tests.train import tiny, tiny_student, tiny_vae
from tests.train.test_run import quiet_run
from tinydiff.model.unet import UNetConfig
from tinydiff.train import checkpoint as checkpoints

TINY = UNetConfig(size=8, channels=(8, 16), groups=2)
SECONDS = {
    "numpy": [4.0, 4.0, 8.0],
    "cpu": [2.0, 1.0, 2.0],
    "cpu, bf16": [1.0, 0.5, 1.0],
    "one": [2.0, 2.0, 4.0],
    "other": [3.0, 3.0, 9.0],
    "other, bf16": [1.0, 1.0, 2.0],
}


@pytest.fixture
def benchmark(monkeypatch):
    """Imports one by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def timed(measure, monkeypatch, names, peers):
    """The columns of what took ``SECONDS``."""
    monkeypatch.setattr(measure, "interleaved", lambda functions, repeats: {name: SECONDS[name] for name in functions})
    return measure.compare({name: lambda: np.ones(3) for name in names}, 3, 1e9, peers)


def test_times_are_divided_by_those_of_the_best_peer_and_of_the_best_in_float32(benchmark, monkeypatch):
    columns = timed(benchmark("measure"), monkeypatch, SECONDS, ["one", "other", "other, bf16"])
    assert {name: each["time / best peer"] for name, each in columns.items()} == {
        "numpy": 4, "cpu": 1, "cpu, bf16": 0.5, "one": 2, "other": 3, "other, bf16": 1,
    }  # fmt: skip
    assert {name: each.get("time / best peer in float32") for name, each in columns.items()} == {
        "numpy": 2, "cpu": 0.5, "cpu, bf16": None, "one": 1, "other": 1.5, "other, bf16": None,
    }  # fmt: skip


def test_without_peers_nothing_is_divided(benchmark, monkeypatch):
    for peers, expected in (([], set()), (["other, bf16"], {"time / best peer"})):
        columns = timed(benchmark("measure"), monkeypatch, ["cpu", *peers], peers)
        assert {name for name in columns["cpu"] if name.startswith("time")} == expected


@pytest.mark.parametrize(
    "name, off, same",
    [
        ("b", 1e-5, True),
        ("b", 1e-3, False),
        ("b, bf16", 1e-2, True),
        ("b, bf16", 0.1, False),
        ("b, bf16", np.nan, False),
    ],
)
def test_what_does_not_compute_the_same_is_not_timed(benchmark, name, off, same):
    """bfloat16 may be off by more, and is never what others are held to."""
    functions = {
        "a, bf16": lambda: np.full(3, 2.02),
        "a": lambda: np.full(3, 2.0),
        name: lambda: np.full(3, 2 + 2 * off),
    }
    if same:
        benchmark("measure").check_same(functions)
    else:
        with pytest.raises(SystemExit, match=f"^{name} does not compute what a does"):
            benchmark("measure").check_same(functions)


def results(rows):
    """The content of a file in which each case is (batch, {with: (ms, columns)})."""
    rows = [
        {"sampling": "one evaluation", "network": "small", "batch": batch, "with": name, "median ms": ms, **columns}
        for batch, case in rows
        for name, (ms, columns) in case.items()
    ]
    train = [
        {"training step": "small", **{name: row[name] for name in row if name not in ("sampling", "network")}}
        for row in rows
    ]
    return {"device": "D", "train_step": {"date": "1", "rows": train}, "sampling": {"date": "2", "rows": rows}}


def test_columns_stand_where_the_rows_that_have_them_do(benchmark):
    rows = [{"run": "a", "time": 1, "FID": 2.5}, {"run": "b", "time": 3, "of it": 4, "FID": 5}, {"batch": 6, "time": 7}]
    assert benchmark("measure")._table(rows).splitlines() == [
        "| batch | run | time | of it | FID |",
        "|---|---|---|---|---|",
        "|  | a | 1 |  | 2.5 |",
        "|  | b | 3 | 4 | 5 |",
        "| 6 |  | 7 |  |  |",
    ]


def test_headlines_set_the_fastest_beside_the_fastest(benchmark):
    def columns(best, in_float32=None):
        like = {} if in_float32 is None else {"time / best peer in float32": in_float32}
        return {"time / best peer": best, **like}

    case = {
        "numpy": (90.0, columns(4.5, 1.8)),
        "cpu": (30.0, columns(1.5, 0.6)),
        "cpu, op by op": (5.0, columns(0.2, 0.1)),
        "cpu, bf16": (10.0, columns(0.5)),
        "openvino": (50.0, columns(2.5, 1.0)),
        "openvino, bf16": (20.0, columns(1.0)),
    }
    without = {name: each for name, each in case.items() if name != "cpu, bf16"}
    text = benchmark("measure").headlines(results([(1, case), (16, without), (64, case)]))
    assert text.splitlines()[2:] == [
        "|  | network | batch | tinydiff, ms | in | fastest other, ms | which is"
        " | time / its time | both in float32 | measured |",
        "|---|---|---|---|---|---|---|---|---|---|",
        "| training step | small | 1 | 10 | bfloat16 | 20 | openvino, bf16 | 0.5 | 0.6 | 1 |",
        "| training step | small | 16 | 30 | float32 | 20 | openvino, bf16 | 1.5 | 0.6 | 1 |",
        "| one evaluation | small | 1 | 10 | bfloat16 | 20 | openvino, bf16 | 0.5 | 0.6 | 2 |",
        "| one evaluation | small | 16 | 30 | float32 | 20 | openvino, bf16 | 1.5 | 0.6 | 2 |",
    ]


def test_headlines_of_results_with_ratios_in_float32_alone(benchmark):
    case = {
        "cpu": (30.0, {"time / best peer in float32": 0.6}),
        "openvino": (50.0, {"time / best peer in float32": 1.0}),
        "openvino, bf16": (20.0, {"time / best peer in float32": 0.4}),
    }
    text = benchmark("measure").headlines(results([(1, case)]))
    assert text.splitlines()[2:] == [
        "|  | network | batch | tinydiff, ms | fastest other, ms | which is | time / its time | measured |",
        "|---|---|---|---|---|---|---|---|",
        "| training step | small | 1 | 30 | 50 | openvino | 0.6 | 1 |",
        "| one evaluation | small | 1 | 30 | 50 | openvino | 0.6 | 2 |",
    ]


def test_a_flag_names_backend_and_precision(benchmark):
    backend_or_skip("emulator", "bf16")
    measure = benchmark("measure")
    args = measure.arguments("", cases=["small"]).parse_args(["--backend", "numpy", "emulator-bf16"])
    assert args.backend == ["numpy", "emulator, bf16"] and all(map(measure.is_ours, args.backend))
    assert [measure.backend(name).precision for name in args.backend] == ["fp32", "bf16"]
    assert measure.arguments("", cases=["small"], precisions=["fp32"]).parse_args([]).backend in (
        ["numpy"],
        ["numpy", "cpu"],
    )


def test_a_step_in_bfloat16_is_that_of_the_reference_and_rounds_its_weights_again(benchmark):
    backend_or_skip("emulator", "bf16")
    train, measure = benchmark("bench_train_step"), benchmark("measure")
    models = {name: train.tinydiff_unet(TINY, name) for name in ("numpy", "emulator, bf16")}
    steps = {name: train.tinydiff_step(model, *train.batch_of(TINY, 2)) for name, model in models.items()}
    before = models["emulator, bf16"].parameters.rounded.copy()
    measure.check_same(steps)
    parameters = models["emulator, bf16"].parameters
    assert not np.array_equal(parameters.rounded, before)
    assert np.array_equal(parameters.rounded, parameters.values[: parameters.decayed].astype(before.dtype))


@pytest.mark.parametrize("work", ["evaluation", "trajectory"])
def test_sampling_in_bfloat16_is_that_of_the_reference(benchmark, monkeypatch, work):
    backend_or_skip("emulator", "bf16")
    sampling, functions = benchmark("bench_sampling"), {}
    monkeypatch.setattr(sampling, "STEPS", 2)
    for name in ("numpy", "emulator, bf16"):
        functions |= getattr(sampling, f"tinydiff_{work}")(sampling.tinydiff_unet(TINY, name), 2)
    assert list(functions) == ["numpy", "emulator, bf16"]
    benchmark("measure").check_same(functions)


@pytest.mark.parametrize("trains", [True, False])
def test_pytorch_computes_the_same_in_every_variant(benchmark, trains):
    """Of those not compiled, which takes a minute each."""
    torch = pytest.importorskip("torch", reason="the extra bench is not installed")
    torch.set_num_threads(1)  # more wait for one another by spinning, which on busy cores takes minutes
    torch_unet, train, sampling = map(benchmark, ("torch_unet", "bench_train_step", "bench_sampling"))
    assert len(torch_unet.variants(every=True)) == 8 and len(torch_unet.variants(every=False)) == 6
    model = train.tinydiff_unet(TINY, "numpy")
    functions = sampling.tinydiff_evaluation(model, 2)
    for name in (name for name in torch_unet.VARIANTS if "eager" in name):
        peer = torch_unet.Peer(name, TINY, trains=trains)
        peer.module.take(model.parameters)
        if trains:
            functions[name] = train.torch_step(peer, *train.batch_of(TINY, 2))
        else:
            functions[name] = sampling.peer_evaluation(peer, model, 2)
        assert peer.module.conv_in.weight.dtype == peer.dtype
        assert (peer.dtype is torch.bfloat16) == ("bf16" in name and not trains)
    benchmark("measure").check_same(functions)


def test_a_teacher_is_measured_in_many_numbers_of_steps_and_a_student_in_its_own(benchmark, tmp_path):
    few_steps, student = benchmark("bench_few_steps"), tiny_student.distiller(consistency_steps=4)
    paths = [tmp_path / f"{name}.safetensors" for name in ("teacher", "halved", "consistent")]
    checkpoints.save(paths[0], tiny_student.teacher())
    checkpoints.save(paths[1], student.checkpoint())
    checkpoints.save(paths[2], student.checkpoint()._replace(step=9))
    rows = [row for path in paths for row in few_steps.ways_of(path)]
    asked = {(row["network"], row["steps"], row["guidance"]): row["evaluations"] for row in rows}
    assert len(rows) == len(asked) == 2 * len(few_steps.STEPS) + 4
    assert asked["teacher", 25, 2] == 50 and asked["teacher", 25, 1] == asked["teacher", 25, 2] / 2
    assert asked["halved", 8, 2] == asked["halved", 8, 1] == 8 and asked["consistent", 2, 2] == 2
    assert {row["sampler"] for row in rows if row["network"] == "consistent"} == {"ddpm"}


def test_what_was_measured_of_few_steps_is_kept(benchmark, tmp_path):
    few_steps, row = benchmark("bench_few_steps"), {"network": "halved", "steps": 4, "guidance": 2}
    judge = lambda: types.SimpleNamespace(columns=lambda of: {"FID": of})
    assert few_steps.quality(row, tmp_path, judge, 12.5) == {"FID": 12.5}
    assert few_steps.quality(row, tmp_path, None, None) == {"FID": 12.5}
    assert few_steps.quality({**row, "guidance": 1}, tmp_path, judge, 3.5) == {"FID": 3.5}


def test_a_row_of_quality_says_what_was_found_and_what_it_cost(benchmark):
    way = {"sampler": "ddim", "steps": 5, "guidance": 2.0}
    drawn = {"checkpoint": "runs/a", "data": "bars", "training_step": 600, "samples": 9, **way}
    fulfilled = {"kinds": 0.5, "colours": 0.4, "places": 0.3, "all": 0.2}
    found = {
        "accuracy": {"value": 0.25, "test": None},
        "digits": "not measured: why",
        "captions": {"known": fulfilled, "new": None, "test": {**fulfilled, "all": 0.9}},
        "fid": {"value": 12.34, "floor": None},
    }
    row = benchmark("bench_quality").row_of({"drawn": drawn, **found}, tiny.trainer(), [0.05, 0.06, 0.09], [0.16, 0.32])
    assert row == {
        "run": "a", "images": "bars, 8x8x1", "in": "pixels", "channels": "(8, 16)", "batch": 8, "training steps": 600,
        "ms a step": 60, "minutes": 0.6, **way, "samples": 9, "recognised, %": 25, "captions, %": 20, "real captions, %": 90,
        "things, %": 50, "in colours, %": 40, "places, %": 30, "FID": 12.3, "ms an image": 15,
    }  # fmt: skip


@pytest.mark.usefixtures("own_cache")
def test_steps_and_images_are_timed_of_runs_like_those_evaluated(benchmark, tmp_path):
    quality, encoded = benchmark("bench_quality"), tiny_vae.encoded(tiny_vae.measured())
    for name, trainer in (("pixels", tiny.trainer(steps=1)), ("latents", tiny_vae.latent_trainer(encoded, steps=1))):
        quiet_run(trainer, tmp_path / name)
        timed = quality.make_trainer(tmp_path / name, trainer.backend)
        assert timed.config == trainer.config and timed.dataset.shape == trainer.dataset.shape
        assert timed.train_step().step == 1
        images = quality.drawing(timed, "ddim", 2, 1.0)()
        assert images.shape == (quality.TIMED, 8, 8, 1)
    assert quality.make_autoencoder_trainer(timed).train_step().step == 1


@pytest.mark.usefixtures("own_cache")
def test_the_minutes_of_an_autoencoder_are_told_beside_those_of_the_run_in_its_latents(benchmark):
    trainer = tiny_vae.latent_trainer(tiny_vae.encoded(tiny_vae.measured(steps=3)))
    drawn = {"checkpoint": "runs/a", "data": "bars", "training_step": 600, "samples": 9}
    drawn |= {"sampler": "ddim", "steps": 5, "guidance": 2.0}
    row = benchmark("bench_quality").row_of({"drawn": drawn}, trainer, [0.05], [0.16], [0.3, 0.6, 12.0])
    assert row["minutes"] == 0.5 and row["minutes of its autoencoder"] == 0.03
