"""Entries of the history that were asked for lately."""

from __future__ import annotations

from collections import OrderedDict

#: Bytes: the newest 64 entries of large workflows, which pages ask for after every prompt.
LIMIT = 8_000_000


class Recent:
    """Entries as they were sent, by job id; the longest unasked go first. Whole entries do not change."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._entries: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._entries

    def get(self, job_id: str) -> bytes | None:
        if job_id in self._entries:
            self._entries.move_to_end(job_id)
        return self._entries.get(job_id)

    def put(self, job_id: str, entry: bytes) -> None:
        if job_id in self._entries:
            return
        self._entries[job_id] = entry
        self._bytes += len(entry)
        while self._bytes > self._limit:
            self._bytes -= len(self._entries.popitem(last=False)[1])

    def clear(self) -> None:
        self._entries.clear()
        self._bytes = 0
