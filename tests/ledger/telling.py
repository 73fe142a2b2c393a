"""Events as the log has them, told to a ledger."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

from comfy_dist.ledger import Change, Ledger, Search
from comfy_dist.messages import Event, Finished, Job, Started, Submitted
from comfy_dist.transport import Bookmark, Recorded

PROMPT = {"1": {"class_type": "EmptyImage", "inputs": {"width": 8}}}
_offsets = itertools.count(1)


def submitted(id_: str, number: float = 1, **more: Any) -> Submitted:
    return Submitted.of(Job(id=id_, number=number, **({"prompt": PROMPT, "outputs_to_execute": ("1",)} | more)))


def started(id_: str, worker: str = "w") -> Started:
    return Started(job_id=id_, worker=worker, attempt=1)


def finished(id_: str, **more: Any) -> Finished:
    return Finished(**({"job_id": id_, "worker": "w"} | more))


async def tell(ledger: Ledger, *events: Event | None) -> list[Change]:
    return await ledger.apply(
        [Recorded(event, Bookmark(offset=next(_offsets), message_id="m")) for event in events]
    )


async def text(slices: AsyncIterator[bytes]) -> bytes:
    return b"".join([slice_ async for slice_ in slices])


async def queue(ledger: Ledger) -> dict[str, list[Any]]:
    shown: dict[str, list[Any]] = json.loads(await text(ledger.queue()))
    return shown


async def history(ledger: Ledger, max_items: int | None = None, offset: int = -1, **search: Any) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(await text(ledger.history(max_items, offset, Search(**search))))
    return shown
