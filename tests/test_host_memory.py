"""How much memory is free: what the machine says, and every limit of the groups that the process lies in."""

import pytest

from tests.kernels.test_threads import write
from tinydiff.backends import host_memory

MB = 10**6
MACHINE = "MemTotal: 8000 kB\nMemFree: 100 kB\nMemAvailable: 5000 kB\nCached: 4000 kB"
V2 = dict(memory__max=4 * MB, memory__current=3 * MB, memory__stat="anon 5\ninactive_file 500000\nactive_file 9")
NO_LIMIT = dict(memory__max="max", memory__current=MB)
V1 = dict(
    memory__limit_in_bytes=2 * MB,
    memory__usage_in_bytes=MB,
    memory__stat="inactive_file 1\ntotal_inactive_file 300000",
)


@pytest.mark.parametrize(
    "groups, files, free",
    [
        ("", {}, 1024 * 5000),
        ("0::/", {"": NO_LIMIT}, 1024 * 5000),
        ("0::/", {"": V2}, 1_500_000),
        ("0::/a/b", {"a": V2, "a/b": NO_LIMIT}, 1_500_000),  # the smallest on the way up
        ("0::/a", {"": dict(memory__max=10 * MB, memory__current=2 * MB), "a": NO_LIMIT}, 1024 * 5000),
        ("0::/", {"": dict(memory__max=MB, memory__current=3 * MB)}, 0),
        ("4:memory:/", {"memory": V1}, 1_300_000),
        ("4:memory:/of/the/host", {"memory": V1}, 1_300_000),  # which a container does not see
        ("4:memory:/", {"memory": dict(memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=MB)}, 1024 * 5000),
        ("4:cpu:/", {"cpu": V1}, 1024 * 5000),
        ("4:memory:/a\n0::/b", {"memory/a": V1, "unified/b": V2}, 1_300_000),
        ("0::/", {"": dict(memory__max="nonsense", memory__current="")}, 1024 * 5000),
    ],
)
def test_what_is_free(tmp_path, groups, files, free):
    write(tmp_path / "proc", meminfo=MACHINE)
    write(tmp_path / "proc" / "self", cgroup=groups)
    for folder, texts in files.items():
        write(tmp_path / "cgroup" / folder, **texts)
    assert host_memory.available(tmp_path / "proc", tmp_path / "cgroup") == free


def test_a_system_that_does_not_say(tmp_path):
    assert host_memory.available(tmp_path, tmp_path) is None
