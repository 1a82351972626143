"""How much memory of this machine a process may still take: what is free, and of a container no more than its limit."""

from __future__ import annotations

import re
from pathlib import Path

from tinydiff.backends.control_groups import groups, number, text

FILES = {  # version: what holds a group's limit, its use and, in memory.stat, what of that is files' unused pages
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def available(proc="/proc", cgroup="/sys/fs/cgroup"):
    """Bytes that can be taken before the machine, or a control group of this process, has none left to give; None where
    the system does not say.

    What files are cached in counts as free, as it is given up where memory is wanted. ``proc`` and ``cgroup`` are where
    Linux shows the machine, the process and its groups: ``MemAvailable`` (proc_meminfo(5)); ``memory.max`` of version 2,
    ``memory.limit_in_bytes`` of version 1.
    """
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", text(Path(proc, "meminfo")), re.MULTILINE)
    rooms = [1024 * int(found[1])] if found else []
    for version, group in groups("memory", Path(proc, "self"), cgroup):
        rooms.append(_room(group, *FILES[version]))
    return min((room for room in rooms if room is not None), default=None)


def _room(group, limit, usage, cached):
    """Bytes between a group's limit and what it cannot give up; None without a limit."""
    limit, used = number(group / limit), number(group / usage)
    if limit is None or used is None:
        return None
    found = re.search(rf"^{cached} (\d+)$", text(group / "memory.stat"), re.MULTILINE)
    return max(0, limit - used + (int(found[1]) if found else 0))
