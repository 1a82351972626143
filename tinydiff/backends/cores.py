"""How many cores this process may use: those it may run on, and of a container no more than its share of time."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from pathlib import Path, PurePosixPath


def usable_cores():
    """At least 1."""
    cores, share = len(allowed_cores()), share_of_cores()
    return cores if share is None else min(cores, share)


def allowed_cores():
    """The numbers of the cores that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def fair_share(allowed, own):
    """How many cores, at least 1, process ``own`` should use of several that work on one machine at once.

    allowed  [the ``allowed_cores`` of each]: those that some have in common they share, those of a launcher that gave
             each its own they do not
    """
    cores = sum(Fraction(1, sum(core in each for each in allowed)) for core in allowed[own])
    share = share_of_cores()
    return max(1, math.floor(cores if share is None else min(cores, Fraction(share, len(allowed)))))


def share_of_cores(proc="/proc/self", cgroup="/sys/fs/cgroup"):
    """The cores whose time this process's control groups may take together, rounded up; None without a limit.

    A group may take no more than those it lies in, so the smallest limit on the way up holds. Inside a container the
    way up may be one of the host, of which only the container's own group is to be seen, as the root.

    ``proc`` and ``cgroup`` are where Linux shows the process and its control groups (cgroups(7)): version 2 with
    ``cpu.max`` in one tree, version 1 with ``cpu.cfs_quota_us`` in a tree of controllers, and both side by side.
    """
    limits = []
    for line in _text(Path(proc, "cgroup")).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            roots, limit_of = (Path(cgroup), Path(cgroup, "unified")), _limit_v2
        elif "cpu" in controllers.split(","):
            roots, limit_of = (Path(cgroup, "cpu"), Path(cgroup, controllers)), _limit_v1
        else:
            continue
        way_up = PurePosixPath(path.lstrip("/")), *PurePosixPath(path.lstrip("/")).parents
        limits += [limit_of(root / group) for root in roots for group in way_up]
    return min((limit for limit in limits if limit is not None), default=None)


def _limit_v2(group):
    quota, _, period = _text(group / "cpu.max").partition(" ")
    return _cores(quota, period)


def _limit_v1(group):
    return _cores(_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us"))


def _cores(quota, period):
    """Microseconds of computing in each period, as cores; None for no limit ("max", -1) and for what is not a limit."""
    try:
        quota, period = int(quota), int(period)
    except ValueError:
        return None
    return -(-quota // period) if quota > 0 and period > 0 else None


def _text(path):
    try:
        return path.read_text("utf-8", "surrogateescape").strip()
    except OSError:
        return ""
