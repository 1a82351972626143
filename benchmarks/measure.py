"""Timing, and where its results go: ``results/<device>.json`` and the tables of README.md."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from pathlib import Path

import numpy as np

import tinydiff

HERE = Path(__file__).parent
README = HERE.parent / "README.md"


def interleaved(functions, repeats, warmups=2):
    """Time functions in turn, A B C A B C ..., so that a machine that slows down slows all of them.

    {name: function} -> {name: seconds of each repeat}. The warm-up rounds are not counted.
    """
    seconds = {name: [] for name in functions}
    for round_ in range(warmups + repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if round_ >= warmups:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def summary(seconds):
    """Median and 10th to 90th percentile, in milliseconds."""
    low, median, high = np.percentile(np.array(seconds) * 1e3, (10, 50, 90))
    return {"median ms": _short(median), "p10": _short(low), "p90": _short(high), "repeats": len(seconds)}


def _short(milliseconds):
    """Three digits say all that such a measurement knows."""
    return float(f"{milliseconds:.3g}")


def ratio(seconds, other):
    """Median over rounds of one time divided by another of the same round."""
    return round(float(np.median(np.array(seconds) / np.array(other))), 2)


def device():
    """The CPU's name and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        name = found.group(1).strip() if found else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def save(section, rows, **versions):
    """Put one benchmark's rows into the file of this device and rewrite the README's tables."""
    path = HERE / "results" / f"{re.sub(r'[^a-z0-9]+', '-', device().lower()).strip('-')}.json"
    content = json.loads(path.read_text()) if path.exists() else {"device": device()}
    content[section] = {
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


def write_tables():
    """Regenerate every table between ``<!-- table: SECTION -->`` and ``<!-- end -->`` in the README."""
    results = [json.loads(path.read_text()) for path in sorted((HERE / "results").glob("*.json"))]

    def table(match):
        parts = [markdown(content, match[1]) for content in results if match[1] in content]
        return f"<!-- table: {match[1]} -->\n" + "\n\n".join(parts) + "\n<!-- end -->"

    README.write_text(re.sub(r"<!-- table: (\w+) -->.*?<!-- end -->", table, README.read_text(), flags=re.DOTALL))


def markdown(content, section):
    rows, versions = content[section]["rows"], content[section]["versions"]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [f"{content['device']}; " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "\n"]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value):
    return f"{value:g}" if isinstance(value, float) else str(value)
