"""The machine's main memory."""

from __future__ import annotations

import os
from pathlib import Path


def main_memory() -> tuple[int, int]:
    """Total and available bytes; (0, 0) where the system does not tell without further libraries."""
    try:
        page, total = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
        free = page * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0, 0
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        pass  # not Linux: what sysconf said
    return page * total, free
