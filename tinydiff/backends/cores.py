"""How many cores this process may use: those it may run on, and of a container no more than its share of time."""

from __future__ import annotations

import math
import os
from fractions import Fraction

from tinydiff.backends.control_groups import groups, text


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

    ``proc`` and ``cgroup`` as for ``control_groups.groups``: version 2 says it in ``cpu.max``, version 1 in
    ``cpu.cfs_quota_us``.
    """
    limit_of = {1: _limit_v1, 2: _limit_v2}
    limits = [limit_of[version](group) for version, group in groups("cpu", proc, cgroup)]
    return min((limit for limit in limits if limit is not None), default=None)


def _limit_v2(group):
    quota, _, period = text(group / "cpu.max").partition(" ")
    return _cores(quota, period)


def _limit_v1(group):
    return _cores(text(group / "cpu.cfs_quota_us"), text(group / "cpu.cfs_period_us"))


def _cores(quota, period):
    """Microseconds of computing in each period, as cores; None for no limit ("max", -1) and for what is not a limit."""
    try:
        quota, period = int(quota), int(period)
    except ValueError:
        return None
    return -(-quota // period) if quota > 0 and period > 0 else None
