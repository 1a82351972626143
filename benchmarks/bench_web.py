"""How fast the engine is in a browser: evaluations in turn with onnxruntime-web, drawing, training steps; one thread.

    python benchmarks/bench_web.py                       # in Chromium
    python benchmarks/bench_web.py --host node --case laptop --dry-run

onnxruntime-web comes from npm into a temporary folder; it gets the same network as ``tinydiff export --format onnx``
writes it (extra ``onnx``). That both compute the same evaluation is checked.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import measure
import tinydiff
from bench_train_step import CASES
from tinydiff import backends
from tinydiff.interop.onnx import export_file
from tinydiff.model.mlp import MLP, MLPConfig
from tinydiff.noise import schedules
from tinydiff.noise.corrupt import Corruptor
from tinydiff.noise.density import step_quantiles
from tinydiff.pages import shipped
from tinydiff.program import file, runs, web
from tinydiff.program.record import record
from tinydiff.train import TrainConfig
from tinydiff.train.adamw import AdamW
from tinydiff.train.step import training_step

sys.path.append(str(measure.HERE.parent))
from tests.site.hosts import HOSTS  # noqa: E402

RIVAL = "1.30.0"  # of onnxruntime-web
NETWORKS = ("laptop", "reference", "shipped")
SHIPPED = "the site's digits"
BATCHES, TRAINED, GUIDANCES = (1, 16), 8, (1, 2)
IMAGES = 64  # of noise, to train on
SAME = 1e-3


def install(folder):
    """onnxruntime-web in a folder; the path of the file to import."""
    command = ["npm", "install", "--silent", "--prefix", folder, f"onnxruntime-web@{RIVAL}"]
    subprocess.run(command, check=True)
    return Path(folder) / "node_modules/onnxruntime-web/dist"


def checkpoint_of(case):
    """(name, checkpoint): the shipped one, or of random parameters, none of them zero."""
    if case == "shipped":
        return SHIPPED, shipped.load()
    name, model, _ = CASES[case]
    config = TrainConfig(model=model, batch=TRAINED)
    trainer = runs.without_data(config, backends.get("numpy"))
    values = np.random.default_rng(1).standard_normal(trainer.parameters.count, dtype=np.float32)
    trainer.parameters.values[...] = trainer.average[...] = 0.05 * values
    return name, trainer.checkpoint()


def network_cases(folder, host, cases):
    """(columns, what the page is asked for) of every evaluation, of drawing and of a training step of U-Nets."""
    for case in cases:
        name, checkpoint = checkpoint_of(case)
        model = checkpoint.config.model
        onnx = folder / f"{case}.onnx"
        export_file(checkpoint, onnx, what="predict", part="average")
        for batch in BATCHES:
            programs = folder / f"{case}-{batch}"
            trained = IMAGES if (case, batch) == ("laptop", 1) else 0
            made = web.of_checkpoint(
                checkpoint, backends.get("numpy"), count=batch, ways={"ddim": [25]}, images=trained
            )
            if trained:
                images = np.random.default_rng(2).integers(0, 256, (IMAGES, *model.shape)).astype(np.uint8)
                made = made._replace(values={**made.values, "images": images})
            file.write(programs, made)
            asked = dict(programs=host.address(programs / file.PROGRAM), batch=batch, shape=(batch, *model.shape))
            columns = {"network": name, "batch": batch}
            yield {"work": "one evaluation", **columns}, asked | dict(work="evaluate", onnx=host.address(onnx))
            if batch == 1 and case != "reference":
                for guidance in GUIDANCES:
                    drawn = {"work": f"DDIM, 25 steps, guidance {guidance}", **columns}
                    yield drawn, asked | dict(work="draw", guidance=guidance)
            if trained:
                yield {"work": "training step", "network": name, "batch": TRAINED}, asked | dict(work="train")


def loading(folder, dist):
    """The rows of what must be loaded before the site's network computes."""
    site = Path(tinydiff.__file__).parent / "site"
    modules = ("engine", "engine_worker", "machine", "filters", "program_file")
    programs = folder / "shipped-1"
    ours = [
        site / "engine.wasm",
        *(site / f"{name}.js" for name in modules),
        programs / file.PROGRAM,
        programs / file.WEIGHTS,
    ]
    theirs = [dist / "ort.wasm.min.mjs", dist / "ort-wasm-simd-threaded.mjs", dist / "ort-wasm-simd-threaded.wasm"]
    theirs.append(folder / "shipped.onnx")
    columns = {"work": "loading", "network": SHIPPED, "batch": 1}
    for name, files in (("tinydiff", ours), ("onnxruntime-web", theirs)):
        contents = [path.read_bytes() for path in files]
        packed = sum(len(gzip.compress(content)) for content in contents)
        yield {**columns, "with": name, "kB": round(sum(map(len, contents)) / 1e3), "kB gzipped": round(packed / 1e3)}


def points_case(folder, host, *, width=128, batch=256):
    """A training step of an MLP on points."""
    backend, rng = backends.get("numpy"), np.random.default_rng(3)
    model = MLP(MLPConfig(width=width), backend)
    model.parameters.initialise(0)
    optimizer, quantiles = AdamW(model.parameters), step_quantiles(200)
    corrupt = Corruptor(schedules.get("cosine", 200), "v", "simple", backend)
    data = rng.standard_normal((4096, 2), dtype=np.float32), np.zeros(4096, np.int64)

    def step():
        loss, *_ = training_step(model, optimizer, corrupt, *data, quantiles, batch=batch, label_dropout=0, seed=0)
        return {"loss": loss}

    recording = record(step, backend, inputs=optimizer.each_step)
    file.write(folder / "points", file.gather({"train": recording}))
    columns = {"work": "training step", "network": f"MLP, width {width}", "batch": batch}
    return columns, dict(programs=host.address(folder / "points" / file.PROGRAM), batch=batch, work="train")


def main():
    parser = measure.arguments(__doc__, repeats=5)
    parser.add_argument("--host", choices=HOSTS, default="chromium")
    parser.add_argument("--case", nargs="+", choices=(*NETWORKS, "points"), default=(*NETWORKS, "points"))
    args = parser.parse_args()
    host = HOSTS[args.host](driver=measure.HERE / "bench_web.js")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        dist = install(folder)
        cases = list(network_cases(folder, host, [case for case in args.case if case in NETWORKS]))
        cases += [points_case(folder, host)] if "points" in args.case else []
        ort = host.address(dist / ("ort.node.min.mjs" if args.host == "node" else "ort.wasm.min.mjs"))
        asked = {"ort": ort, "repeats": args.repeats, "cases": [each for _, each in cases]}
        results = host.do(asked)
        sizes = list(loading(folder, dist)) if "shipped" in args.case else []
    if "error" in results[0]:
        raise SystemExit(results[0]["error"])
    for (columns, _), result in zip(cases, results, strict=True):
        if result["difference"] > SAME:
            raise SystemExit(f"{columns}: onnxruntime-web does not compute what the engine does")
        for name, seconds in result["seconds"].items():
            row = {**columns, "with": name, **measure.summary(seconds)}
            if columns["work"] == "training step":
                row["a second"] = measure.short(1 / float(np.median(seconds)))
            if len(result["seconds"]) > 1:
                row["time / onnxruntime-web"] = measure.ratio(seconds, result["seconds"]["onnxruntime-web"])
            rows.append(row)
            print(row)
    rows += sizes
    measure.save("web", rows, dry_run=args.dry_run, **{args.host: version(host), "onnxruntime-web": RIVAL})


def version(host):
    """Of node or of the browser."""
    return subprocess.run([host.program, "--version"], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
