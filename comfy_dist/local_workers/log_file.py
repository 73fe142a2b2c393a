"""A worker's log on disk: the newest part of it, never more than a few megabytes."""

from __future__ import annotations

import contextlib
from collections import deque
from pathlib import Path

from comfy_dist.masking import without_secrets

#: Bytes of each of the two files.
MOST_BYTES = 2 * 2**20
#: Lines that are shown at most, and characters of each.
MOST_LINES = 10_000
LONGEST = 2000


class LogFile:
    """`path`, and beside it what was there before: it begins anew when it is full."""

    def __init__(self, path: Path, most: int = MOST_BYTES) -> None:
        self._path = path
        self._before = path.with_name(path.name + ".1")
        self._most = most

    def append(self, text: bytes) -> None:
        """Raises OSError, as where the disk is full."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.open("ab") as file:
            if file.tell() + len(text) <= self._most:
                file.write(text)
                return
        self._path.replace(self._before)
        self._path.write_bytes(text[-self._most :])

    def last(self, count: int) -> list[str]:
        """The newest so many lines, the oldest of them first, without what looks like a secret."""
        lines: deque[str] = deque(maxlen=max(0, min(count, MOST_LINES)))
        for path in (self._before, self._path):
            with contextlib.suppress(FileNotFoundError):
                lines.extend(path.read_text("utf-8", "replace").splitlines())
        return [without_secrets(line[:LONGEST]) for line in lines]

    def remove(self) -> None:
        for path in (self._path, self._before):
            path.unlink(missing_ok=True)
