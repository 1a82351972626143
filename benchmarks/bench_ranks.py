"""What more processes bring, what they say to each other costs, and how much memory parts of a batch save.

    python benchmarks/bench_ranks.py             # needs mpiexec: pip install 'tinydiff[mpi]'
    python benchmarks/bench_ranks.py --dry-run   # printed and not saved

A training step of the small network, its batch in ``PARTS`` parts, by one process with one thread and with as many as
there are cores, and by ranks of one thread each. All are started anew each round, in turn. The exchange is ``sum_tree``
where nothing is computed. Links are measured between two ranks of this machine, as the time of an exchange in two sizes;
from those follows what a step would take on more ranks (``projected``).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import measure
import numpy as np

from tinydiff import backends
from tinydiff import ranks as processes
from tinydiff.backends.cores import allowed_cores
from tinydiff.model.unet import UNetConfig
from tinydiff.ranks import alone
from tinydiff.train import TrainConfig, Trainer

MODEL, BATCH, PARTS = UNetConfig(channels=(32, 64, 128)), 64, 4
MEMORY_BATCH, MEMORY_PARTS = 128, (1, 2, 4, 8)
STEPS = 5  # timed in a row
SHORT = 1  # floats; an exchange of them is all latency
PROJECTED = (1, 2, 8, 32, 128, 512, 1024)


def make_trainer(batch, parts, ranks):
    dataset = measure.noise(1000, MODEL.shape, MODEL.classes)
    config = TrainConfig(model=MODEL, data=dataset.name, batch=batch, parts=parts)
    return Trainer(config, dataset, backends.get("cpu"), ranks=ranks)


def seconds(function, ranks, count=STEPS):
    """Of each of so many calls, as the slowest of all ranks has it."""
    function()
    ranks.barrier()
    start = time.perf_counter()
    for _ in range(count):
        function()
    ranks.barrier()
    return (time.perf_counter() - start) / count


def measure_rank():
    """Print, on rank 0, what ``run`` reads: the time of a step, of the exchange in it, and of short exchanges."""
    ranks = processes.of_this_process()
    trainer = make_trainer(BATCH, PARTS, ranks)
    flat, short = trainer.parameters.grads, np.zeros(SHORT, np.float32)
    update = lambda: (trainer.optimizer.prepare(1, 0.0), trainer.optimizer.step())
    columns = {"step": seconds(trainer.train_step, ranks), "update": seconds(update, ranks)}
    for name, array, count in (("exchange", flat, 10), ("short exchange", short, 1000)):
        columns[name] = seconds(lambda: ranks.sum_tree(array, ranks.size, lambda part: None), ranks, count)
    columns["add"] = seconds(lambda: np.add(flat, flat, out=flat), ranks, 10)
    columns["bytes"] = flat.nbytes
    if ranks.speaks:
        print(json.dumps(columns))


def run(size, threads):
    """Those columns, of so many ranks of so many threads each."""
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if not mpiexec:
        raise SystemExit("mpiexec is missing: pip install 'tinydiff[mpi]'")
    command = [mpiexec, "-n", str(size), sys.executable, __file__, "--rank"]
    environment = {**os.environ, "TINYDIFF_THREADS": str(threads)}
    return json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout)


def timed(repeats):
    """{(ranks, threads of each): columns of each round}."""
    cores = len(allowed_cores())
    settings = [(1, 1), *((size, 1) for size in (2, 4) if size <= 2 * cores), *((1, n) for n in (2, 4) if n <= cores)]
    rounds = {setting: [] for setting in settings}
    for _ in range(repeats):
        for setting, each in rounds.items():
            each.append(run(*setting))
    return rounds


def rows_of(rounds):
    """A row for each number of ranks and threads."""
    first = [each["step"] for each in rounds[1, 1]]
    rows = []
    for (size, threads), each in rounds.items():
        steps = [columns["step"] for columns in each]
        row = {"ranks": size, "threads of each": threads, "batch": BATCH, "parts": PARTS, **measure.summary(steps)}
        row["images/s"] = measure.short(BATCH / float(np.median(steps)))
        row["times one thread"] = measure.ratio(first, steps)
        if (1, size * threads) in rounds and size > 1:
            row["times one rank with as many threads"] = measure.ratio(
                [columns["step"] for columns in rounds[1, size * threads]], steps
            )
        if size > 1:
            row["exchange, ms"] = measure.short(1e3 * float(np.median([columns["exchange"] for columns in each])))
        rows.append(row)
    return rows


def projected(rounds):
    """Rows for numbers of ranks that this machine has no cores for: a projection, not a measurement.

    Every rank has one part of ``BATCH / PARTS`` images, so that the batch grows with their number. Their exchanges are
    log2(R), of the whole gradient; each takes the latency and the bytes over the bandwidth that were measured between two
    ranks of this machine, through its memory, and an addition. It is assumed that all pairs are joined like that at the
    same time, that every rank has a core as here, and that none waits for a slower one.
    """
    median = lambda setting, name: float(np.median([columns[name] for columns in rounds[setting]]))
    latency, add, size = median((2, 1), "short exchange"), median((2, 1), "add"), rounds[2, 1][0]["bytes"]
    carried = max(median((2, 1), "exchange") - latency - add, 1e-9)
    update = median((1, 1), "update")
    part = (median((1, 1), "step") - update) / PARTS
    rows = []
    for ranks in PROJECTED:
        levels = (ranks - 1).bit_length()
        step = part + levels * (latency + carried + add) + update
        row = {"ranks": ranks, "batch": ranks * BATCH // PARTS, "step, ms": measure.short(1e3 * step)}
        row |= {
            "images/s": measure.short(ranks * BATCH / PARTS / step),
            "of it exchange": f"{1 - (part + update) / step:.0%}",
        }
        rows.append(row | {"latency, us": measure.short(1e6 * latency), "GB/s": measure.short(size / carried / 1e9)})
    return rows


def memory():
    """A row for each number of parts: the peak of a step."""
    flags = {parts: ("--memory-of", str(parts)) for parts in MEMORY_PARTS}
    peaks = {parts: columns.get("peak MB") for parts, columns in measure.peak_memory(flags).items()}
    if peaks[1] is None:
        return []
    trainer = make_trainer(MEMORY_BATCH, 1, alone())
    kept = 1e-6 * 4 * (2 * trainer.parameters.count + sum(flat.size for flat in trainer.state().values()))
    return [
        {
            "batch": MEMORY_BATCH,
            "parts": parts,
            "peak MB": peak,
            "without parameters and what goes with them": round(peak - kept),
            "of one part's": f"{(peak - kept) / (peaks[1] - kept):.0%}",
        }
        for parts, peak in peaks.items()
    ]


def main():
    if sys.argv[1:2] == ["--rank"]:
        return measure_rank()
    if sys.argv[1:2] == ["--memory-of"]:
        return measure.print_peak_memory(lambda: make_trainer(MEMORY_BATCH, int(sys.argv[2]), alone()).train_step)

    args = measure.arguments(__doc__, repeats=5).parse_args()
    rounds = timed(args.repeats)
    for section, rows in (("ranks", rows_of(rounds)), ("projected", projected(rounds)), ("parts", memory())):
        for row in rows:
            print(row)
        measure.save(section, rows, dry_run=args.dry_run)


if __name__ == "__main__":
    main()
