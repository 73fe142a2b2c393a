"""How much main memory there is, in a container too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from comfy_dist.memory import main_memory

GB = 10**9
MACHINE, _ = main_memory()


def machine(root: Path, cgroup: str, groups: Mapping[str, Mapping[str, str]]) -> Path:
    """A file system that says so: /proc/self/cgroup, and the files of each group."""
    files = {
        "proc/meminfo": "MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable: 500000 kB\n",
        "proc/self/cgroup": cgroup,
    }
    files |= {
        f"sys/fs/cgroup/{group}/{name}": text for group, each in groups.items() for name, text in each.items()
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def second(limit: str, current: int, inactive: int = 0) -> dict[str, str]:
    """The files of a group of the second version."""
    stat = f"anon 5\ninactive_file {inactive}\nactive_file 7\n"
    return {"memory.max": f"{limit}\n", "memory.current": f"{current}\n", "memory.stat": stat}


def first(limit: int, usage: int, inactive: int = 0) -> dict[str, str]:
    stat = f"inactive_file 1\ntotal_inactive_file {inactive}\n"
    return {
        "memory.limit_in_bytes": f"{limit}\n",
        "memory.usage_in_bytes": f"{usage}\n",
        "memory.stat": stat,
    }


ALL = (MACHINE, 500_000 * 1024)


@pytest.mark.parametrize(
    ("cgroup", "groups", "expected"),
    [
        ("0::/\n", {}, ALL),
        ("0::/\n", {"": second("max", 1000)}, ALL),
        ("0::/\n", {"": second("300000000", 200_000_000)}, (300_000_000, 100_000_000)),
        ("0::/\n", {"": second("300000000", 200_000_000, 50_000_000)}, (300_000_000, 150_000_000)),
        ("0::/\n", {"": second("300000000", 300_000_001)}, (300_000_000, 0)),
        ("0::/a/b\n", {"a": second("200000000", 150_000_000), "a/b": second("max", 9)}, (200_000_000, 50_000_000)),
        ("0::/known/outside\n", {"": second("300000000", 100_000_000)}, (300_000_000, 200_000_000)),
        (
            "4:cpu,memory:/a\n2:cpu:/b\n0::/\n",
            {"memory": first(1 << 62, 9), "memory/a": first(100_000_000, 90_000_000, 20_000_000)},
            (100_000_000, 30_000_000),
        ),
        ("4:cpu:/a\n", {"memory/a": first(100_000_000, 90_000_000)}, ALL),
    ],
)
def test_no_more_memory_is_counted_than_the_container_may_use(
    tmp_path: Path, cgroup: str, groups: dict[str, dict[str, str]], expected: tuple[int, int]
) -> None:
    assert MACHINE > GB
    assert main_memory(machine(tmp_path, cgroup, groups)) == expected


def test_a_system_without_these_files_tells_what_it_knows(tmp_path: Path) -> None:
    total, available = main_memory(tmp_path)
    assert total == MACHINE
    assert 0 < available <= total
