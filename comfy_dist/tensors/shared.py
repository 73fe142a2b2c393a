"""Memory shared with processes of the same machine."""

from __future__ import annotations

from pathlib import Path

SHARED = Path("/dev/shm")  # noqa: S108 - what is made in it is opened by its owner alone


def host_id() -> str:
    """The boot id: equal for processes of one running machine. Empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
