"""The report of a GPU, tried on the emulator: every stage runs, and one that fails or takes too long loses no other."""

import importlib
import json
import time

import pytest

from tests.checks import backend_or_skip
from tests.test_install import ROOT


@pytest.fixture
def gpu_report(monkeypatch):
    backend_or_skip("emulator")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("gpu_report")


def run(gpu_report, folder, *arguments):
    """(exit status, the file's content, the folder of pictures)."""
    status = gpu_report.main(["--backend", "emulator", "--quick", "--out", str(folder), *arguments])
    [path] = folder.glob("*.json")
    return status, json.loads(path.read_text()), folder / path.stem


@pytest.mark.slow
def test_every_stage_runs(gpu_report, tmp_path):
    pages = [page.read_bytes() for page in gpu_report.measure.PAGES]
    status, content, pictures = run(gpu_report, tmp_path)
    assert {name: stage.get("trace") for name, stage in content["stages"].items()} == {
        stage.__name__: None for stage in gpu_report.STAGES
    }
    assert status == 0 and [page.read_bytes() for page in gpu_report.measure.PAGES] == pages
    timed = {(row["op"], row["verb"], row["version"]) for row in content["gpu_ops"]["rows"] if "error" not in row}
    for op, verbs in gpu_report.launch_table.TABLE.items():
        assert {(op, "forward", version) for version in gpu_report.launch_table.versions(op)} <= timed, op
    for section in (
        "gpu_kernels",
        "gpu_tests",
        "gpu_agreement",
        "gpu_ceilings",
        "gpu_ops",
        "gpu_train_step",
        "gpu_sampling",
    ):
        assert content[section]["rows"] and not any("error" in row for row in content[section]["rows"]), section
    assert {"report.log", "samples.png", "denoising.gif"} <= {path.name for path in pictures.iterdir()}
    assert gpu_report.measure.markdown(content, "gpu_train_step").count("\n") >= 4


def test_a_stage_that_fails_or_hangs_loses_no_other(gpu_report, tmp_path, monkeypatch):
    def build(report):
        report.add("gpu_kernels", kernel="first")
        raise RuntimeError("planted")

    def tests(report):
        time.sleep(60)

    monkeypatch.setattr(gpu_report, "STAGES", {build: 10, tests: 0.2, gpu_report.device: 10})
    status, content, _ = run(gpu_report, tmp_path)
    stages = content["stages"]
    assert status == 1 and [stage["ok"] for stage in stages.values()] == [False, False, True]
    assert stages["build"]["error"] == "RuntimeError: planted" and "planted" in stages["build"]["trace"]
    assert content["gpu_kernels"]["rows"] == [{"kernel": "first"}]
    assert stages["tests"]["error"].startswith("OutOfTime: it took longer than") and stages["tests"]["seconds"] < 30


def test_without_a_gpu_it_says_so(gpu_report):
    try:
        gpu_report.backends.get("cuda")
    except ValueError as error:
        with pytest.raises(SystemExit, match="backend 'cuda' needs"):
            gpu_report.main([])
        assert "needs" in str(error)
