"""Files of other machines, kept while there is room: the least recently used go first."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

#: Seconds after which nobody goes on with an unfinished file.
ABANDONED = 86_400


class Cache:
    """Keys are hex digests: of the content, or of a name that means one content only. `limit` in bytes.

    Several processes may share the folder. Times of change are the originals', times of access ours.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        #: Not the process's number: containers that share the folder have the same ones.
        self._own = secrets.token_hex(4)

    def find(self, key: str) -> Path | None:
        """The file, used just now."""
        path = self._folder / key
        try:
            stat = path.stat()
            os.utime(path, ns=(time.time_ns(), stat.st_mtime_ns))
        except OSError:
            return None
        return path

    def part(self, key: str) -> Path:
        """Where the file is put together; what is there already is its beginning."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"{key}-{self._own}.part"

    def keep(self, key: str, part: Path, changed_at: int) -> Path:
        """A finished part under its key. Others go for it where it takes more room than there is."""
        os.utime(part, ns=(time.time_ns(), changed_at))
        path = self._folder / key
        part.replace(path)
        self._make_room(path)
        return path

    def _make_room(self, newest: Path) -> None:
        found = sorted(self._files(), reverse=True)
        room = self._limit
        for used_at, path, size in found:
            room -= size
            abandoned = path.suffix == ".part" and time.time_ns() - used_at > ABANDONED * 10**9
            if abandoned or (room < 0 and path != newest and path.suffix != ".part"):
                path.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[int, Path, int]]:
        for path in self._folder.iterdir():
            # Another process may just have removed it.
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                yield stat.st_atime_ns, path, stat.st_size
