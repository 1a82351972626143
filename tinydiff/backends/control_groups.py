"""The control groups of this process, by which Linux limits what it and others take together (cgroups(7))."""

from __future__ import annotations

from pathlib import Path, PurePosixPath


def groups(controller, proc="/proc/self", cgroup="/sys/fs/cgroup"):
    """(version, folder) of every group that may limit this process by the controller, "cpu" or "memory".

    A group may take no more than those it lies in, so all on the way up count. Inside a container the way up may be one
    of the host, of which only the container's own group is to be seen, as the root.

    ``proc`` and ``cgroup`` are where Linux shows the process and its groups: version 2 in one tree, version 1 in a tree of
    controllers, and both side by side. A folder may be missing, or lack the files of the controller.
    """
    found = []
    for line in text(Path(proc, "cgroup")).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            version, roots = 2, (Path(cgroup), Path(cgroup, "unified"))
        elif controller in controllers.split(","):
            version, roots = 1, (Path(cgroup, controller), Path(cgroup, controllers))
        else:
            continue
        way_up = PurePosixPath(path.lstrip("/")), *PurePosixPath(path.lstrip("/")).parents
        found += [(version, root / group) for root in roots for group in way_up]
    return found


def number(path):
    """The whole number in a file; None where there is no file or no number in it, as "max"."""
    try:
        return int(text(path))
    except ValueError:
        return None


def text(path):
    """What a file says; "" where there is none."""
    try:
        return path.read_text("utf-8", "surrogateescape").strip()
    except OSError:
        return ""
