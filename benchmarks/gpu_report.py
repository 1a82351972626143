"""All there is to know of a GPU in one go and in less than 8 minutes: are the kernels right, and how fast are they.

    python benchmarks/gpu_report.py                                  # on a machine with a GPU, CuPy and best PyTorch
    python benchmarks/gpu_report.py --only train_step --minutes 20   # some of the stages, with more time for each
    python benchmarks/gpu_report.py --backend emulator --quick       # tried without a GPU, as small as can be

Stages: the device and its software; the kernels built; their tests; a training run's losses against NumPy's; what copies
and matrix products reach at best; every op in every version; the paper preset trained for a bounded time; the training step
and the sampler, captured and not, against PyTorch. Each has so many seconds and may fail: what it did until
then is kept, the failure is recorded with its traceback, and the next stage goes on.

Writes ``results/<device>.json`` (after every row), ``results/<device>/`` with pictures and ``report.log``, and the
tables of benchmarks/README.md. Single ops are timed by the GPU's clock, captured, with none of their data in the cache;
steps and trajectories by the clock on the wall, in turn with PyTorch's.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import numpy as np

import gpu_cases
import gpu_timing
import measure
import tinydiff
from bench_train_step import forward_flops
from tinydiff import backends, data, report
from tinydiff.backends import launch_table
from tinydiff.data.dataset import Dataset
from tinydiff.model.unet import UNetConfig
from tinydiff.train import TrainConfig, Trainer, run
from tinydiff.train.presets import PRESETS

ROOT = Path(__file__).parents[1]
MINUTES = 7.75
SAMPLING_STEPS, IMAGES = 50, 64
TESTS = ("test_against_reference.py", "test_adamw.py", "test_batches.py", "test_philox.py")
TINY = UNetConfig(size=8, channels=(4, 8), blocks=1, groups=4, head_width=8, classes=2)
MEASURING = 45  # seconds that compilers leave
PATIENCE = 20  # how many times longer a stage may take where the emulator runs it


class OutOfTime(Exception):
    """Something took longer than it may."""

    def __init__(self, message, of=None):
        super().__init__(message)
        self.of = of  # the report whose stage it was


class Report:
    """The JSON file and the log, written as results come."""

    def __init__(self, args):
        self.args, self.quick = args, args.quick
        self.backends = {}
        self.deadline = time.monotonic() + 60 * args.minutes * (PATIENCE if args.quick else 1)
        self.device = f"{describe_device(args.backend)}{' (quick)' if args.quick else ''}"
        slug = re.sub(r"[^a-z0-9]+", "-", self.device.lower()).strip("-")
        self.path, self.folder = args.out / f"{slug}.json", args.out / slug
        self.folder.mkdir(parents=True, exist_ok=True)
        self.content = {"device": self.device}
        if self.path.exists() and args.only:
            self.content = json.loads(self.path.read_text())
        self.repeats = 2 if args.quick else 20
        self.log = open(self.folder / "report.log", "a" if args.only else "w")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.log.close()

    def say(self, text):
        print(text, flush=True)
        print(text, file=self.log, flush=True)

    def backend(self, precision):
        """The backend in this precision, one for all stages."""
        if precision not in self.backends:
            self.backends[precision] = backends.get(self.args.backend, precision)
        return self.backends[precision]

    def add(self, section, **row):
        """One more row of a section."""
        part = self.content.setdefault(section, {"date": measure.today(), "versions": versions(), "rows": []})
        part["rows"].append(row)
        self.say(f"  {row}")
        self.write()

    def write(self):
        self.path.write_text(json.dumps(self.content, indent=1) + "\n")

    def run(self, stage, seconds):
        """One stage, in at most so many seconds. Returns whether it ended well."""
        name, start = stage.__name__, time.monotonic()
        for section in SECTIONS.get(name, (name,)):
            self.content.pop(section, None)
        seconds *= PATIENCE if self.quick else max(1, self.args.minutes / MINUTES)
        seconds = min(seconds, self.deadline - start)
        self.say(f"{name}: at most {max(seconds, 0):.0f} s")
        outcome = {"ok": True}
        try:
            if seconds <= 0:
                raise OutOfTime("no time is left for it", self)
            with limited_to(seconds, self):
                stage(self)
        except (Exception, SystemExit) as error:
            outcome = {"ok": False, "error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
            self.say(outcome["trace"])
        outcome["seconds"] = round(time.monotonic() - start, 1)
        self.content.setdefault("stages", {})[name] = outcome
        self.write()
        return outcome["ok"]


@contextlib.contextmanager
def limited_to(seconds, of=None):
    """Within: ``OutOfTime`` after so many seconds; a limit around this one goes on afterwards."""

    def stop(*_):
        raise OutOfTime(f"it took longer than {seconds:.0f} s", of)

    start = time.monotonic()
    around = signal.setitimer(signal.ITIMER_REAL, 0)[0]
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, min(seconds, around or seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if around:
            signal.setitimer(signal.ITIMER_REAL, max(0.01, around - (time.monotonic() - start)))


def describe_device(backend):
    if backend != "cuda":
        return f"{backend} on {measure.device()}"
    import cupy

    return cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()


def versions():
    found = {"tinydiff": tinydiff.__version__, "python": platform.python_version(), "numpy": np.__version__}
    for name in ("cupy", "torch"):
        with contextlib.suppress(ImportError):
            found[name] = __import__(name).__version__
    return found


def torch_on_gpu(args):
    """The peers of ``torch_gpu``, or None where PyTorch or a GPU for it is missing."""
    try:
        import torch
    except ImportError:
        return None
    if args.backend != "cuda" or not torch.cuda.is_available():
        return None
    import torch_gpu

    return torch_gpu


# Stages


def device(report):
    """What machine this is."""
    found = {"describe": report.backend("fp32").describe(), "platform": platform.platform()}
    if report.args.backend == "cuda":
        import cupy

        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        for name in ("multiProcessorCount", "l2CacheSize", "totalGlobalMem", "clockRate", "memoryClockRate"):
            found[name] = properties.get(name)
        found["capability"] = cupy.cuda.Device().compute_capability
        found["CUDA runtime"] = cupy.cuda.runtime.runtimeGetVersion()
        found["driver"] = cupy.cuda.runtime.driverGetVersion()
    for name, value in {**found, **versions()}.items():
        report.add("device_properties", name=name, value=str(value))


def build(report):
    """Every kernel compiled, and what each takes of a multiprocessor."""
    for precision in backends.PRECISIONS:
        start = time.monotonic()
        compiled = report.backend(precision).launcher.compile_all(precision)
        report.say(f"  {len(compiled)} kernels in {time.monotonic() - start:.1f} s, {precision}")
        part = report.content.setdefault("gpu_kernels", {"versions": versions(), "rows": []})
        part["rows"] += [{"kernel": name, "precision": precision, **takes} for name, takes in compiled.items()]


def tests(report):
    """The tests that compare kernels with their references, on this device."""
    name = report.args.backend
    which = f"{name} and silu" if report.quick else name
    files = [str(ROOT / "tests" / "kernels" / file) for file in (TESTS[:1] if report.quick else TESTS)]
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "-k", which, *files]
    environment = {**os.environ, "TINYDIFF_TEST_DEVICE": name}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    report.say(done.stdout[-4000:] + done.stderr[-2000:])
    report.add("gpu_tests", tests=" ".join(TESTS), result=done.stdout.strip().splitlines()[-1])
    if done.returncode:
        raise RuntimeError("tests failed on the device; see the log")


def agreement(report):
    """A short training run: as close to NumPy's as float32 is, and captured the same bits as not."""
    config = TrainConfig(model=TINY, data="bars", batch=8, steps=20, noise_steps=50, warmup_steps=5)
    dataset = bars()
    truth = losses(config, dataset, backends.get("numpy"))
    for precision in backends.PRECISIONS:
        captured = losses(config, dataset, report.backend(precision))
        plain = losses(config, dataset, report.backend(precision), captured=False)
        off = float(np.max(np.abs(np.array(captured) / truth - 1)))
        report.add(
            "gpu_agreement",
            **{"precision": precision, "steps": len(truth), "largest relative difference of a loss": f"{off:.1e}"},
            **{"captured and not": "same bits" if captured == plain else "different"},
        )
        if captured != plain or not off < {"fp32": 1e-3}.get(precision, 0.1):
            raise RuntimeError(f"training in {precision} is not what it should be")


def bars():
    """Upright and level bars, at the size of the tiny network."""
    images, labels = np.zeros((40, 8, 8, 1), np.uint8), np.arange(40) % 2
    for i, (image, label) in enumerate(zip(images, labels)):
        image[(slice(None), i % 8) if label else i % 8] = 255
    return Dataset("bars", images, labels, 2)


def losses(config, dataset, backend, *, captured=True):
    trainer = Trainer(config, dataset, backend, captured=captured)
    return [trainer.train_step().loss for _ in range(6)]


def ceilings(report):
    """What a copy and the vendor's matrix product reach."""
    timed = gpu_timing.timer(report.backend("fp32"))
    size = dict(bytes=2**20) if report.quick else {}
    rate = gpu_timing.copy_bandwidth(timed, report.repeats, **size)
    report.add("gpu_ceilings", what="copy", **{"GB/s": round(rate / 1e9)})
    for precision in ("fp32", "bf16"):
        size = dict(size=128) if report.quick else {}
        if rate := gpu_timing.matrix_rate(timed, report.repeats, precision, **size):
            report.add("gpu_ceilings", what=f"matrix product, {precision}", **{"TFLOP/s": measure.short(rate / 1e12)})


def ceiling(report, what, unit):
    rows = report.content.get("gpu_ceilings", {"rows": []})["rows"]
    return next((row[unit] for row in rows if row["what"] == what), None)


def ops(report):
    """Every op in every version, the fastest first: time, and its share of what the device reaches."""
    cases, peers = gpu_cases.cases(report.quick), torch_on_gpu(report.args)
    for precision in backends.PRECISIONS:
        # what is float32 in any precision is timed once
        mine = [case for case in cases if precision == "fp32" or case.op not in gpu_cases.TRAINING_OPS]
        jobs = [(case, version) for case in mine for version in launch_table.versions(case.op, precision)]
        jobs.sort(key=lambda job: job[1] != launch_table.versions(job[0].op, precision)[-1])
        for case, version in jobs:
            row = {"op": case.op, "of": case.shape, "precision": precision, "version": version}
            with attempted(report, "gpu_ops", **row):
                launch_table.use_version(case.op, version)
                try:
                    time_op(report, row, case)
                finally:
                    launch_table.use_version(case.op)
    if peers:
        flushed = peers.torch.empty(gpu_timing.FLUSHED // 4, device="cuda")
        for case in cases:
            if case.op == "conv2d":
                for verb, work in peers.convolution(case).items():
                    row = {"op": case.op, "of": case.shape, "precision": "bf16", "version": "cuDNN", "verb": verb}
                    report.add("gpu_ops", **row, **microseconds(peers.seconds(work, report.repeats, flushed)))


def time_op(report, row, case):
    """A row for each verb of the version in use."""
    backend, precision = report.backend(row["precision"]), row["precision"]
    copy = ceiling(report, "copy", "GB/s")
    product = ceiling(report, f"matrix product, {precision}", "TFLOP/s")
    timed = gpu_timing.timer(backend)
    for verb, (work, moved, operations) in gpu_cases.works(case, backend).items():
        seconds = timed(work, report.repeats)
        columns = microseconds(seconds) | {"GB/s": round(moved / float(np.median(seconds)) / 1e9)}
        if copy:
            columns["of copy"] = f"{columns['GB/s'] / copy:.0%}"
        if operations:
            rate = operations / float(np.median(seconds)) / 1e12
            columns["TFLOP/s"] = measure.short(rate)
            if product:
                columns["of matrix product"] = f"{rate / product:.0%}"
        report.add("gpu_ops", **row, verb=verb, **columns)


def microseconds(seconds):
    low, median, high = map(measure.short, np.percentile(np.array(seconds) * 1e6, (10, 50, 90)))
    return {"median us": median, "p10": low, "p90": high, "repeats": len(seconds)}


def paper(quick):
    """The run that steps and samples are timed on: its config, its data, and how it is drawn from."""
    preset = PRESETS["paper"]
    if quick:
        config = TrainConfig(model=TINY, data="bars", batch=2, steps=4, warmup_steps=1)
        return config, bars(), {**preset.sampling, "steps": 2}
    dataset = data.load("auto", say=lambda *_: None)
    return dataclasses.replace(preset.config, data=dataset.name), dataset, preset.sampling


def train_step(report):
    """All of a training step, captured and not, in turn with PyTorch's."""
    config, dataset, _ = paper(report.quick)
    functions = {}
    for precision in backends.PRECISIONS:
        for captured in (True, False):
            trainer = Trainer(config, dataset, report.backend(precision), captured=captured)
            functions[f"tinydiff {precision}, {'captured' if captured else 'not captured'}"] = trainer.train_step
    make = lambda peer: peer.train_step(config.batch)
    flops = 3 * forward_flops(config.model, config.batch)
    compare(report, "gpu_train_step", functions, make, config, trainer.parameters, flops, {"batch": config.batch})


def sampling(report):
    """Digits drawn by DDIM, captured and not, in turn with PyTorch's."""
    config, dataset, _ = paper(report.quick)
    N, steps = (2, 2) if report.quick else (IMAGES, SAMPLING_STEPS)
    functions = {}
    labels = np.arange(N) % config.model.classes
    for precision in backends.PRECISIONS:
        backend = report.backend(precision)
        trainer = Trainer(config, dataset, backend)
        trajectory = trainer.trajectory(N, steps=steps)
        functions[f"tinydiff {precision}, captured"] = lambda draw=trajectory.draw: draw(labels)
        functions[f"tinydiff {precision}, not captured"] = lambda trainer=trainer: measured_states(
            trainer, labels, steps
        )
    make = lambda peer: peer.trajectory(trainer.schedule, N, steps)
    flops = steps * forward_flops(config.model, N)
    row = {"images": N, "DDIM steps": steps}
    compare(report, "gpu_sampling", functions, make, config, trainer.parameters, flops, row)


def measured_states(trainer, labels, steps):
    for _ in trainer.sample(labels, steps=steps):
        pass


def compare(report, section, functions, make_peer, config, parameters, flops, row):
    """Time functions in turn with those of PyTorch's peers that can be had, and add a row for each."""
    peers = torch_on_gpu(report.args)
    for mode in peers.MODES if peers else ():
        # a compiler may take minutes, but must leave time to measure
        left = signal.getitimer(signal.ITIMER_REAL)[0]
        with attempted(report, section, **{"with": mode}), limited_to(max(1, left - MEASURING)):
            work = make_peer(peers.Peer(mode, config.model, parameters))
            for _ in range(3):
                work()  # compiles
            functions[mode] = work
    for name, work in list(functions.items()):
        with attempted(report, section, **{"with": name}):
            for _ in range(gpu_timing.WARM_UPS + 1):
                work()
            continue
        del functions[name]
    seconds = measure.interleaved(functions, 1 if report.quick else 10, on_cpu=False)
    theirs = [name for name in functions if not name.startswith("tinydiff")]
    best = min(theirs, key=lambda name: np.median(seconds[name]), default=None)
    for name, each in seconds.items():
        columns = {**measure.summary(each), "TFLOP/s": measure.short(flops / float(np.median(each)) / 1e12)}
        if best:
            columns[f"time / {best}"] = measure.ratio(each, seconds[best])
        report.add(section, **{"with": name, **row, **columns})


@contextlib.contextmanager
def attempted(report, section, **row):
    """Within: what fails is recorded as a row, and the others go on."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OutOfTime) and error.of is report:
            raise
        report.say(traceback.format_exc())
        report.add(section, **row, error=f"{type(error).__name__}: {error}")


def training(report_):
    """The paper preset from the start for a bounded time: its losses, and what it draws."""
    config, dataset, sampling = paper(report_.quick)
    trainer = Trainer(config, dataset, report_.backend(backends.PRECISIONS[-1]))
    folder = report_.folder / "run"
    shutil.rmtree(folder, ignore_errors=True)
    seconds = min(60, report_.deadline - time.monotonic() - 20)
    start = time.monotonic()
    run(trainer, folder, minutes=max(seconds, 1) / 60, checkpoint_every=10**9, sample_every=0, progress=False)
    passed = time.monotonic() - start
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for entry in metrics[:: max(1, len(metrics) // 20)]:
        report_.add("gpu_training", step=entry["step"], loss=measure.short(entry["loss"]))
    per_step = measure.short(1e3 * passed / len(metrics))
    report_.add("gpu_training", step=len(metrics), loss=measure.short(metrics[-1]["loss"]), **{"ms a step": per_step})
    for path in report.write(trainer, folder, sampling):
        shutil.copy(path, report_.folder / path.name)
    shutil.rmtree(folder)


# stage: seconds it may take
STAGES = {
    device: 15,
    build: 60,
    tests: 60,
    agreement: 20,
    ceilings: 15,
    ops: 60,
    training: 80,
    train_step: 150,
    sampling: 90,
}
# stage: the sections it writes, where they are not called as it is
SECTIONS = {
    "device": ("device_properties",),
    "build": ("gpu_kernels",),
    **{
        name: (f"gpu_{name}",)
        for name in ("tests", "agreement", "ceilings", "ops", "train_step", "sampling", "training")
    },
}


def main(argv=None):
    names = [stage.__name__ for stage in STAGES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=["cuda", "emulator"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="everything as small as can be, to try the program")
    parser.add_argument("--only", nargs="+", choices=names, help="these stages; the file keeps what it has of others")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all stages together")
    parser.add_argument("--out", type=Path, default=measure.HERE / "results", metavar="DIR")
    args = parser.parse_args(argv)
    try:
        backends.get(args.backend)
    except ValueError as error:
        raise SystemExit(error) from None
    with Report(args) as written:
        return run_stages(args, written, [stage for stage in STAGES if stage.__name__ in (args.only or names)])


def run_stages(args, written, stages):
    """The exit status."""
    ended = [written.run(stage, STAGES[stage]) for stage in stages]
    if args.out == measure.HERE / "results":
        measure.write_tables()
    written.say(f"wrote {written.path}; {sum(ended)} of {len(ended)} stages ended well")
    return 0 if all(ended) else 1


if __name__ == "__main__":
    sys.exit(main())
