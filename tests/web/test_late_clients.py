"""Websocket clients that come while their prompt runs."""

from __future__ import annotations

from typing import Any

from comfy_dist.frontend.hub import Hub
from comfy_dist.frontend.identity import ANYONE
from comfy_dist.messages import Progress
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport


def message(sequence: int, event: str) -> Progress:
    return Progress(
        job_id="job",
        client_id="late",
        sequence=sequence,
        attempt=1,
        event=event,
        node="7",
        body=f"{event} {sequence}".encode(),
    )


async def test_the_node_is_told_once_though_its_progress_comes_before_it_is_told_again() -> None:
    hub = Hub(MemoryTransport(MemoryBroker()))
    nobody: Any = None
    client = await hub.join(nobody, "late", ANYONE)
    for sequence, event in ((7, "progress"), (3, "executing"), (3, "executing"), (7, "progress"), (8, "progress")):
        hub.pass_on(message(sequence, event))
    told = [client.mailbox.take() for _ in range(len(client.mailbox))]
    assert told == ["progress 7", "executing 3", "progress 8"]
    assert hub.current("job") == "executing 3"
