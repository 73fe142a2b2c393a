"""What files contain, as sha256; read once while they do not change."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

#: Files whose digests are known; older ones are read again.
REMEMBERED = 10_000


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Digests:
    def __init__(self) -> None:
        #: By path, size and time of change in ns.
        self._known: dict[tuple[Path, int, int], str] = {}

    async def of(self, path: Path) -> str:
        """In hex. Raises OSError."""
        stat = await asyncio.to_thread(path.stat)
        key = path, stat.st_size, stat.st_mtime_ns
        if (known := self._known.get(key)) is None:
            known = self._known[key] = await asyncio.to_thread(digest_of, path)
            if len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]
        return known
