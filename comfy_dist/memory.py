"""The main memory that this process may use: the machine's, or its container's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

#: By version of cgroups: where those of memory are, the files of limit and use, and the field of memory.stat that
#: counts what of the use is given back as soon as somebody needs it.
_VERSIONS = {
    1: ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("", "memory.max", "memory.current", "inactive_file"),
}


def main_memory(root: Path = Path("/")) -> tuple[int, int]:
    """Total and available bytes; (0, 0) where the system does not tell without further libraries.

    A container is given less than its machine has. `root` is where /proc and /sys are.
    """
    total, available = _of_machine(root)
    for limit, used in _of_groups(root):
        total = min(total, limit)
        available = min(available, max(limit - used, 0))
    return total, available


def _of_machine(root: Path) -> tuple[int, int]:
    try:
        page, total = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
        free = page * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0, 0
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        pass  # not Linux: what sysconf said
    return page * total, free


def _of_groups(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, use) in bytes of each control group that this process is in and that has a limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        place, limit, use, reclaimed = _VERSIONS[1 if controllers else 2]
        top = root / "sys/fs/cgroup" / place
        group = top / path.lstrip("/")
        # A container may see its own group at the top and read the path that its machine knows.
        for folder in (group, *group.parents):
            try:
                stat = dict(each.split() for each in (folder / "memory.stat").read_text().splitlines())
                used = int((folder / use).read_text()) - int(stat[reclaimed])
                yield int((folder / limit).read_text()), used
            except (OSError, ValueError, KeyError):
                pass  # no such group here, or no limit: "max"
            if folder == top:
                break
