"""Whether processes live."""

from __future__ import annotations

import psutil


def alive(pid: int) -> bool:
    """Where nobody asks for an ended process's exit code it stays listed, as a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
