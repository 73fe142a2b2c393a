"""Waiting for prompts to end, by the websocket's news while there is one and by asking while there is none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from comfy_dist.client.listener import Listener
from comfy_dist.client.sentences import failure
from comfy_dist.client.server import Server
from comfy_dist.errors import ServerUnreachable

#: Seconds between two looks at the queue: connected, and without a socket.
QUIET_SECONDS = 10.0
POLL_SECONDS = 1.0
#: Seconds between two looks at the history of a prompt whose end was told but is not written yet.
SOON_SECONDS = 0.1
#: Seconds a prompt may be in neither queue nor history: frontends learn of a submission one after another.
GRACE_SECONDS = 3.0
#: Seconds a server may be away (a restart) before the client gives up.
PATIENCE_SECONDS = 60.0


class Status(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Outcome:
    status: Status
    #: {node: what its page element shows}, as in the history.
    outputs: dict[str, Any]
    #: Why it did not succeed.
    reason: str = ""


GONE = Outcome(Status.CANCELLED, {}, "It was cancelled before it started.")


class Waiting:
    """The prompts that have not ended yet."""

    def __init__(self, server: Server, listener: Listener | None = None) -> None:
        self._server = server
        self._listener = listener
        self.open: set[str] = set()
        #: Since when a prompt is in neither queue nor history.
        self._missing: dict[str, float] = {}
        self._away_since: float | None = None
        self._looked_at = float("-inf")

    async def ended(self) -> AsyncIterator[tuple[str, Outcome]]:
        """Each prompt as it ends. Raises ServerUnreachable when the server stays away."""
        while self.open:
            for id_, outcome in await self._look():
                self.open.discard(id_)
                yield id_, outcome
            if self.open:
                await self._news()

    async def _look(self) -> list[tuple[str, Outcome]]:
        try:
            told = self._listener.ended & self.open if self._listener else set()
            found = await self._from_history(told)
            if self._due():
                found += await self._from_queue(self.open - {id_ for id_, _ in found})
        except ServerUnreachable:
            now = time.monotonic()
            self._away_since = self._away_since or now
            if now - self._away_since > PATIENCE_SECONDS:
                raise
            await asyncio.sleep(POLL_SECONDS)
            return []
        self._away_since = None
        return found

    def _due(self) -> bool:
        listener = self._listener
        connected = listener is not None and listener.connected
        past = time.monotonic() - self._looked_at
        moved = listener is not None and listener.queue_moved
        return past >= (QUIET_SECONDS if connected and not moved and not self._missing else POLL_SECONDS)

    async def _from_history(self, ids: Collection[str]) -> list[tuple[str, Outcome]]:
        found = []
        for id_ in ids:
            entry = (await self._server.get(f"/history/{id_}") or {}).get(id_)
            if entry is not None:
                found.append((id_, outcome_of(entry)))
        return found

    async def _from_queue(self, ids: Collection[str]) -> list[tuple[str, Outcome]]:
        self._looked_at = now = time.monotonic()
        if self._listener is not None:
            self._listener.queue_moved = False
        queue = await self._server.get("/queue")
        there = {item[1] for part in ("queue_running", "queue_pending") for item in queue[part]}
        absent = set(ids) - there
        # The queue first: what left it since is in the history by now.
        found = await self._from_history(absent)
        absent -= {id_ for id_, _ in found}
        self._missing = {id_: self._missing.get(id_, now) for id_ in absent}
        return found + [(id_, GONE) for id_, since in self._missing.items() if now - since >= GRACE_SECONDS]

    async def _news(self) -> None:
        listener = self._listener
        if listener is None:
            await asyncio.sleep(POLL_SECONDS)
            return
        written_soon = bool(listener.ended & self.open)
        wait = SOON_SECONDS if written_soon else POLL_SECONDS
        with suppress(TimeoutError):
            await asyncio.wait_for(listener.news.wait(), wait)
        listener.news.clear()


def outcome_of(entry: dict[str, Any]) -> Outcome:
    """An entry of the history."""
    status = entry.get("status") or {}
    outputs = entry.get("outputs") or {}
    if status.get("status_str", "success") == "success":
        return Outcome(Status.SUCCEEDED, outputs)
    events = {event for event, _ in status.get("messages") or ()}
    kind = Status.CANCELLED if "execution_interrupted" in events else Status.FAILED
    return Outcome(kind, outputs, failure(status, entry["prompt"][2]))
