"""What the engine says and does besides numbers: errors in one sentence, progress, being stopped."""

import json
import shutil

import numpy as np
import pytest

from tests.checks import same_bits
from tests.site.hosts import SITE, Chromium, Node
from tests.train import tiny
from tinydiff import backends
from tinydiff.program import file, web


@pytest.fixture(scope="module")
def bars(tmp_path_factory):
    """A tiny U-Net's programs."""
    trainer = tiny.trainer(seed=2**63 + 5)
    for _ in range(3):  # before the first the network predicts zeros
        trainer.train_step()
    ways = {"ddim": [2, 40]}
    made = web.of_checkpoint(trainer.checkpoint(), backends.get("numpy"), ways=ways, images=40)
    folder = tmp_path_factory.mktemp("programs") / "bars"
    file.write(folder, made)
    return folder


@pytest.fixture
def copied(bars, tmp_path):
    return shutil.copytree(bars, tmp_path / "bars")


def change(folder, change_it):
    path = folder / file.PROGRAM
    found = json.loads(path.read_text())
    change_it(found)
    path.write_text(json.dumps(found))


def cut(folder, name, length):
    (folder / name).write_bytes((folder / name).read_bytes()[:length])


def test_every_answer_and_every_error(host, bars):
    results = host.do(
        ["get", "x"],
        ["load", host.address(bars / "program.json")],
        ["set", "labels", [1, 2]],
        ["set", "nothing", [1]],
        ["get", "nothing"],
        ["run", ["nothing"]],
        ["set", "labels", [3]],
        ["run", ["predict"]],
        ["set", "labels", [2]],
        ["run", [{"program": "predict", "set": {"step": [7]}, "get": ["prediction"]}, "predict"]],
        ["get", "prediction"],
        ["draw", {"labels": [1], "steps": 3}],
        ["draw", {"labels": [1], "steps": 2, "guidance": -1}],
        ["progress", ["predict", {"program": "predict", "get": ["step"]}]],
    )
    errors = [each.get("error") if isinstance(each, dict) else None for each in results]
    assert errors[2] == "labels has shape (1), 1 values, got 2: a program is written for one size of batch"
    assert errors[3] == errors[4] == "there is no array nothing"
    assert errors[5].startswith("there is no program nothing; there are start, ")
    assert errors[7] == "class_embedding: labels must lie in [0, 3), got 3"
    assert errors[11] == "these programs have no way of 3 steps for ddim; they have ddim of 2, 40"
    assert errors[12] == "guidance must be at least 0, got -1"
    assert all(each is None or "\n" not in each for each in errors)
    assert results[1]["count"] == 1 and results[1]["classes"] == 2
    [first, second] = results[9]
    assert same_bits(first["prediction"], results[10]) and second == {}
    assert [(each["done"], each["all"]) for each in results[13]] == [(1, 2), (2, 2)]
    assert results[13][1]["got"]["step"].tolist() == [7]


BAD_FILES = [
    (lambda folder: change(folder, lambda it: it.update(version=2)), "has version 2 of its format; version 1 is read"),
    (lambda folder: change(folder, lambda it: it.update(format="")), "program.json is not a program of tinydiff"),
    (lambda folder: cut(folder, "program.json", 5000), "program.json is truncated or not a program"),
    (
        lambda folder: cut(folder, "weights.safetensors", 20_000),
        "weights.safetensors is truncated or not a safetensors",
    ),
    (
        lambda folder: cut(folder, "weights.safetensors", 5),
        "weights.safetensors is truncated or not a safetensors file",
    ),
    (lambda folder: change(folder, lambda it: it["weights"].pop()), "does not go with program.json: "),
    (
        lambda folder: change(folder, lambda it: it["arrays"]["conv_in.weight"].update(shape=[3, 3, 8, 1])),
        "conv_in.weight must be float32 (3, 3, 8, 1), got float32 (3, 3, 1, 8)",
    ),
    (
        lambda folder: change(folder, lambda it: it["programs"]["start"]["calls"].append(["fft"])),
        "a program calls fft, which this engine does not have",
    ),
    (
        lambda folder: change(folder, lambda it: it.update(memory=2**40)),
        "MB of memory, which the browser does not give",
    ),
    (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors cannot be read: "),
    (lambda folder: (folder / "program.json").unlink(), "program.json cannot be read: "),
]


def test_a_bad_file_is_refused_in_one_line(host, bars, tmp_path):
    steps = []
    for number, (break_it, _) in enumerate(BAD_FILES):
        folder = shutil.copytree(bars, tmp_path / str(number))
        break_it(folder)
        steps.append(["load", host.address(folder / "program.json")])
    for result, (_, message) in zip(host.do(*steps), BAD_FILES, strict=True):
        assert message in result["error"] and "\n" not in result["error"]


def test_what_the_engine_needs_is_said_before_anything_is_loaded(host, bars):
    _, result = host.do(["pretend", "no SIMD"], ["load", host.address(bars / "program.json")])
    assert (
        result["error"] == "this browser has no WebAssembly with SIMD, which the engine needs; those since 2023 have it"
    )


def test_a_page_opened_as_a_file_says_so(bars):
    node = Node()
    _, result = node.do(["pretend", "a file"], ["load", node.address(bars / "program.json")])
    assert result["error"].startswith(
        "this page was opened as a file, where browsers start no Worker: serve its folder"
    )


def test_a_damaged_engine_says_so(host, bars, tmp_path):
    site = shutil.copytree(SITE, tmp_path / "site")
    cut(site, "engine.wasm", 1000)
    [result] = host.do(["load", host.address(bars / "program.json")], site=site)
    assert result["error"] == "engine.wasm is damaged: load the page again"


def test_a_run_is_stopped_soon_and_the_engine_goes_on(host, bars):
    _, stopped, _, after = host.do(
        ["load", host.address(bars / "program.json")],
        ["stop", ["predict"] * 100_000, 300],
        ["run", [{"program": "predict", "set": {"labels": [1], "step": [7]}}]],
        ["get", "prediction"],
    )
    assert stopped["name"] == "AbortError" and stopped["ms"] < 300
    assert np.isfinite(after).all()


def test_runs_asked_for_at_once_are_done_one_after_another(host, bars):
    """Each has the memory for itself, although one that takes long takes breaths."""
    many = [{"program": "predict", "set": {"step": [7], "labels": [1]}, "get": ["prediction"]}] * 100
    other = [{"program": "predict", "set": {"step": [40], "labels": [0]}, "get": ["prediction"]}]
    loaded = ["load", host.address(bars / "program.json")]
    _, [alone], [[first, *_], [after]] = host.do(loaded, ["run", other], ["at once", [many, other]])
    assert same_bits(after["prediction"], alone["prediction"])
    assert not same_bits(first["prediction"], after["prediction"])


def test_threads_are_for_isolated_pages(bars):
    page = Chromium()
    [result] = page.do(["load", page.address(bars / "program.json"), {"threads": 2}])
    assert result["error"].startswith("threads need a page that is cross-origin isolated")


def test_a_finished_run_leaves_nothing_behind(host, bars):
    """A second run is not stopped by the signal that stopped the first."""
    _, _, again = host.do(
        ["load", host.address(bars / "program.json")],
        ["stop", ["predict"] * 100_000, 50],
        ["run", [{"program": "predict", "get": ["step"]}] * 3],
    )
    assert len(again) == 3
