"""Timing, and where its results go: ``results/<device>.json`` and the tables of two pages, both README.md: all of them
in the one beside this file, the headlines in the checkout's."""

from __future__ import annotations

import argparse
import ctypes
import datetime
import gc
import itertools
import json
import platform
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import tinydiff
from tinydiff import backends
from tinydiff.backends.cores import allowed_cores
from tinydiff.backends.kernel_names import PRECISIONS
from tinydiff.data.dataset import Dataset

HERE = Path(__file__).parent
PAGES = HERE.parent / "README.md", HERE / "README.md"

# Seconds of rest before each measurement. For some 25 ms after a product OpenBLAS's threads wait for the next one by
# spinning, OpenMP's for a few: without a rest they do so on the cores of whatever is measured next, which on two cores
# was seen to take up to a hundred times as long.
REST = 0.1
WHILE = 0.1  # seconds

# A virtual machine's two processors are at times two threads of one core, when its host so decides, for seconds or
# minutes: then all threads do little more than one does, products above all (1.5 times as much, 1.9 with a core each; a
# training step took 450 ms instead of 310). What is timed meanwhile is timed again.
PRODUCT, PRODUCTS, WINDOWS = (512, 256, 256), 0.005, 10  # of a product of these sizes, for so many seconds: the fastest
AS_BEFORE = 0.9  # of how many times as fast as one thread all of them were ever seen to be
PATIENCE = 30  # seconds that a measurement is tried for; then it counts as it is
LARGEST_BATCH = 32  # on the first page
BF16 = "bf16"  # what tells in a name that something computes in bfloat16: "cpu, bf16", "torch eager, bf16"

# How far results may lie from the first one's in float32, in parts of its largest value. One rounding to bfloat16 errs
# by at most 2^-9, 0.002. On its way through a network a value is rounded some fifty times, and independent roundings
# add up as their root: to 7 of one at the worst, 0.014, of which PyTorch was seen to take a third to two thirds. So
# much hides small terms (without attention the small network is off by 0.003): that a library has the network right is
# what its float32 shows. In bfloat16 it is enough to find images or weights that lie in the wrong places: 0.3 and more.
FLOAT32, BFLOAT16 = 1e-4, 3e-2

# Columns of ``compare``: times divided by those of the fastest peer, of all peers, and like with like
TO_BEST, TO_BEST_IN_FLOAT32 = "time / best peer", "time / best peer in float32"


def arguments(doc, *, repeats=10, cases=None, peers=("torch",), precisions=PRECISIONS):
    """The flags of a benchmark: those of every one, and with ``cases`` those that compare whole networks, ours with
    those of ``peers``. By default ours are numpy and cpu, in those of the ``precisions`` that they have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--dry-run", action="store_true", help="print the rows and write nothing")
    if cases:
        parser.add_argument("--peer", nargs="+", choices=peers, default=[])
        ours = [variant(name, precision) for name in ("numpy", "cpu") for precision in precisions]
        parser.add_argument(
            "--backend",
            nargs="+",
            type=lambda flag: variant(*flag.split("-")),
            default=[each for each in ours if _works(each)],
            help="numpy, cpu, ..., in bfloat16 with -bf16 behind it: cpu-bf16",
        )
        parser.add_argument("--case", nargs="+", choices=cases, default=cases)
    return parser


def variant(backend, precision="fp32"):
    """How a row names a backend: "cpu", and "cpu, bf16"."""
    return backend if precision == "fp32" else f"{backend}, {precision}"


def backend(named):
    """The backend that a row names so."""
    name, _, precision = named.partition(", ")
    return backends.get(name, precision or "fp32")


def is_ours(name):
    """Whether a row is one of tinydiff; with other names come peers."""
    return name.partition(", ")[0] in backends.NAMES


def _works(named):
    try:
        return bool(backend(named))
    except ValueError:
        return False


def interleaved(functions, repeats, *, on_cpu=True):
    """Time functions in turn, A B C A B C ..., so that a machine that slows down slows all of them.

    {name: function} -> {name: seconds of each repeat}. The first round is not counted. After its rest each function
    runs for a while, at least once, before its time counts: threads are awake and caches filled, as in a run of many
    steps. What counts is the mean of as many calls in a row as fill the same while, and of work ``on_cpu`` one in which
    all cores were there (``_Cores``).
    """
    undisturbed = _Cores().undisturbed if on_cpu and _works("cpu") else lambda measure: measure()
    seconds = {name: [] for name in functions}
    for _ in range(1 + repeats):
        for name, function in functions.items():
            seconds[name].append(undisturbed(lambda: _one_time(function)))
    return {name: each[1:] for name, each in seconds.items()}


def _one_time(function):
    time.sleep(REST)
    _calls(function)
    return _calls(function)


class _Cores:
    """Knows by the time of a product whether all threads have as many cores to themselves as ever."""

    def __init__(self):
        self._most = max(self._speedup() for _ in range(10))

    def undisturbed(self, measure):
        """What ``measure()`` returns, called again while before or after it the cores were fewer than they have been."""
        until = time.monotonic() + PATIENCE
        while True:
            before, measured, after = self._are_all(), measure(), self._are_all()
            if before and after:
                return measured
            if time.monotonic() > until:
                print(f"for {PATIENCE} s threads had fewer cores than before: measured all the same", file=sys.stderr)
                return measured

    def _are_all(self):
        speedup = self._speedup()
        self._most = max(self._most, speedup)
        return speedup >= AS_BEFORE * self._most

    def _speedup(self):
        """How many times as fast as one thread all of them are."""
        from tinydiff.backends import cpu

        rows, inner, columns = PRODUCT
        x, w = np.ones((rows, inner), np.float32), np.ones((inner, columns), np.float32)
        linear, threads, seconds = backend("cpu").linear, cpu.threads(), []
        try:
            for count in (1, threads):
                cpu.use_threads(count)
                seconds.append(min(_calls(lambda: linear.forward(x, w), PRODUCTS) for _ in range(WINDOWS)))
        finally:
            cpu.use_threads(threads)
        return min(threads, seconds[0] / seconds[1])


def _calls(function, seconds=WHILE):
    """Seconds a call, of one call or as many as fill so many seconds."""
    count, start = 0, time.perf_counter()
    while True:
        function()
        count += 1
        passed = time.perf_counter() - start
        if passed >= seconds:
            return passed / count


def summary(seconds):
    """Median and 10th to 90th percentile, in milliseconds."""
    low, median, high = np.percentile(np.array(seconds) * 1e3, (10, 50, 90))
    return {"median ms": short(median), "p10": short(low), "p90": short(high), "repeats": len(seconds)}


def short(number):
    """Three digits say all that such a number knows."""
    return float(f"{number:.3g}")


def ratio(seconds, other):
    """Median over rounds of one time divided by another of the same round."""
    return round(float(np.median(np.array(seconds) / np.array(other))), 2)


def compare(functions, repeats, flops, peers=()):
    """Time functions that do the same work, of so many operations: {name: function} -> {name: columns of its row}.

    Every function returns an array; all must return what the first in float32 does, those in bfloat16 within what
    their roundings cost. The times are divided by those of the fastest of the peers, the one with the smallest median;
    times in float32 also by those of the fastest in float32.
    """
    check_same(functions)
    seconds = interleaved(functions, repeats)
    in_float32 = [name for name in peers if BF16 not in name]
    best, best_in_float32 = (
        min(names, key=lambda name: np.median(seconds[name]), default=None) for names in (peers, in_float32)
    )
    columns = {}
    for name, each in seconds.items():
        rate = round(flops / float(np.median(each)) / 1e9)
        columns[name] = {**summary(each), "GFLOP": short(flops / 1e9), "GFLOP/s": rate}
        if best:
            columns[name][TO_BEST] = ratio(each, seconds[best])
        if best_in_float32 and BF16 not in name:
            columns[name][TO_BEST_IN_FLOAT32] = ratio(each, seconds[best_in_float32])
    return columns


def check_same(functions):
    """Raise ``SystemExit`` that names the first function which does not compute what the others do."""
    reference = next((name for name in functions if BF16 not in name), next(iter(functions)))
    truth = np.array(functions[reference]())
    for name, function in functions.items():
        if name == reference:
            continue
        tolerance = BFLOAT16 if BF16 in name or BF16 in reference else FLOAT32
        if not np.allclose(function(), truth, rtol=0, atol=tolerance * np.abs(truth).max()):
            raise SystemExit(f"{name} does not compute what {reference} does")


def peak_memory(flags_of):
    """{name: its flags} -> {name: the column that this program, started anew with these flags, prints by
    ``print_peak_memory``}."""
    if platform.libc_ver()[0] != "glibc":  # how to measure it is known on Linux with glibc alone
        return dict.fromkeys(flags_of, {})

    def one(flags):
        run = subprocess.run([sys.executable, sys.argv[0], *flags], check=True, stdout=subprocess.PIPE, text=True)
        return {"peak MB": int(run.stdout)}

    with ThreadPoolExecutor(2) as pool:  # what a process takes is the same however many run
        return dict(zip(flags_of, pool.map(one, flags_of.values()), strict=True))


def print_peak_memory(make_step):
    """Print by how many MB the peak of resident memory in two steps exceeds what the process held before.

    A step before them, in which PyTorch may compile, is not counted. The peak is not ``ru_maxrss``: that cannot be
    reset, and a process begins with the one of its parent.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else the steps take what is held but free, and it is not counted
    before = resident("VmRSS")
    step = make_step()
    step()
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    step()
    step()
    print(round((resident("VmHWM") - before) / 1e6))


def resident(field):
    """Bytes of memory by a field of proc_pid_status(5): VmRSS, now, or VmHWM, at its peak."""
    return 1024 * int(re.search(rf"{field}:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])


def noise(count, shape, classes, *, name="noise"):
    """A ``Dataset`` of so many images (H, W, C) of noise, of each class as many, to time training steps with."""
    images = np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.uint8)
    return Dataset(name, images, np.arange(count) % classes, classes)


def device():
    """The CPU's name and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        name = found.group(1).strip() if found else name
    return f"{name}, {len(allowed_cores())} cores"


def save(section, rows, *, dry_run=False, **versions):
    """Put one benchmark's rows into the file of this device and rewrite all tables, unless ``dry_run``."""
    if dry_run:
        return
    path = HERE / "results" / f"{re.sub(r'[^a-z0-9]+', '-', device().lower()).strip('-')}.json"
    content = json.loads(path.read_text()) if path.exists() else {"device": device()}
    content[section] = {
        "date": today(),
        "versions": {
            "tinydiff": tinydiff.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            **versions,
        },
        "rows": rows,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    write_tables()
    print(f"wrote {path}")


def today():
    return datetime.date.today().isoformat()


def write_tables():
    """Regenerate the tables of all pages."""
    for page in PAGES:
        page.write_text(with_tables(page.read_text()))


def with_tables(text):
    """The text with every table between ``<!-- table: SECTION -->`` and ``<!-- end -->`` as the results have it."""
    results = [json.loads(path.read_text()) for path in sorted((HERE / "results").glob("*.json"))]

    def table(match):
        section = match[1]
        if section == "browser":
            parts = [browser(content) for content in results if "web" in content]
        elif section == "headlines":
            parts = [headlines(content) for content in results if "train_step" in content and "sampling" in content]
        else:
            parts = [markdown(content, section) for content in results if section in content]
        return f"<!-- table: {section} -->\n" + "\n\n".join(parts) + "\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->.*?<!-- end -->", table, text, flags=re.DOTALL)


def markdown(content, section):
    """The table of a section, under a line that says on what it was measured, when and with which versions."""
    part = content[section]
    versions = ", ".join(f"{name} {version}" for name, version in part["versions"].items())
    return f"{content['device']}, {part['date']}; {versions}\n\n{_table(part['rows'])}"


def headlines(content):
    """tinydiff at its fastest beside the fastest other, of either precision, wherever both were timed, but for large
    batches: what the first page shows of a device."""
    rows = []
    for section in ("train_step", "sampling"):
        for case in _cases(content[section]["rows"]):
            ours = [row for row in case if row["with"] in ("cpu", variant("cpu", BF16))]
            theirs = [row for row in case if not is_ours(row["with"])]
            if not any(TO_BEST in row for row in case):  # results in which the ratios are those in float32
                ours, theirs = ([row for row in each if BF16 not in row["with"]] for each in (ours, theirs))
            if ours and theirs and ours[0]["batch"] <= LARGEST_BATCH:
                rows.append({**_headline(ours, theirs), "measured": content[section]["date"]})
    return f"{content['device']}\n\n{_table(rows)}"


def _headline(ours, theirs):
    """The columns of a case, of the rows of tinydiff and those of the others."""
    row, other = (min(rows, key=lambda row: row["median ms"]) for rows in (ours, theirs))
    columns = {
        "": row.get("sampling", "training step"),
        "network": row.get("network", row.get("training step")),
        "batch": row["batch"],
        "tinydiff, ms": row["median ms"],
    }
    if TO_BEST in row:
        columns["in"] = "bfloat16" if BF16 in row["with"] else "float32"
    columns |= {"fastest other, ms": other["median ms"], "which is": other["with"]}
    columns["time / its time"] = next(value for name, value in row.items() if name.startswith("time / best"))
    if TO_BEST in row:
        in_float32 = next((each for each in ours if TO_BEST_IN_FLOAT32 in each), {})
        columns["both in float32"] = in_float32.get(TO_BEST_IN_FLOAT32, "")
    return columns


def browser(content):
    """What the first page shows of the engine in a browser, beside onnxruntime-web where that does the same."""
    shown = {
        ("one evaluation", 1): ("one evaluation of the site's network for digits, ms", "median ms"),
        ("DDIM, 25 steps, guidance 1", 1): ("a digit in 25 steps, ms", "median ms"),
        ("training step", 256): ("training steps a second: MLP of the lab, batch 256", "a second"),
        ("training step", 8): ("training steps a second: U-Net of the laptop preset, batch 8", "a second"),
        ("loading", 1): ("to load for that, kB gzipped", "kB gzipped"),
    }
    rows = {words: {"in Chromium, one thread": words} for words, _ in shown.values()}
    for row in content["web"]["rows"]:
        words, column = shown.get((row["work"], row["batch"]), (None, None))
        if words and (row["network"] == "the site's digits" or row["work"] == "training step"):
            rows[words][row["with"]] = row[column]
    return f"{content['device']}, {content['web']['date']}\n\n{_table(list(rows.values()))}"


def _cases(rows):
    """The rows of each case, which agree in all columns before "with"."""
    cases = {}
    for row in rows:
        case = tuple(itertools.takewhile(lambda item: item[0] != "with", row.items()))
        cases.setdefault(case, []).append(row)
    return cases.values()


def _table(rows):
    columns = _columns(rows)
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def _columns(rows):
    """All that rows have, each where the first row that has it does: behind the same column."""
    columns = []
    for row in rows:
        behind = 0
        for column in row:
            if column not in columns:
                columns.insert(behind, column)
            behind = columns.index(column) + 1
    return columns


def _cell(value):
    return f"{value:g}" if isinstance(value, float) else str(value)
