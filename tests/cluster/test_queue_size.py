"""--max-queue-size holds against bursts."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import in_process, prompt
from tests.support.talking import Frontend

LIMIT = 10


async def burst(*comfys: Frontend, with_ids: bool) -> Counter[int]:
    """Fifty posts at once; how many were answered with which status."""
    bodies = [{"prompt": prompt("Quick")} | ({"prompt_id": f"p{n}"} if with_ids else {}) for n in range(50)]
    answers = await asyncio.gather(
        *(comfys[n % len(comfys)].ask("POST", "/prompt", json=body) for n, body in enumerate(bodies))
    )
    for answer in answers:
        if answer.status == 429:
            assert answer.error["type"] == "queue_full"
            assert str(LIMIT) in answer.error["message"]
    return Counter(answer.status for answer in answers)


@pytest.mark.parametrize("with_ids", [False, True])
async def test_a_burst_at_one_frontend_fills_the_queue_and_no_more(tmp_path: Path, with_ids: bool) -> None:
    broker = MemoryBroker()
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        comfy, _ = await cluster.frontend("a", max_queue_size=LIMIT)
        await cluster.worker("v")
        await comfy.wait(lambda nodes: "Quick" in nodes, "/object_info")
        await comfy.post("/distributed/pause")
        await comfy.wait(lambda found: found["workers"][0]["paused"], "/distributed/workers")
        counts = await burst(comfy, with_ids=with_ids)
        assert counts[200] <= LIMIT
        assert counts.keys() <= {200, 429}
        # One after another to the brim, and again when there is room.
        for _ in range(LIMIT - counts[200]):
            await comfy.prompt(prompt("Quick"))
        refused = await comfy.ask("POST", "/prompt", json={"prompt": prompt("Quick")})
        assert refused.status == 429
        await comfy.wait(lambda found: found["exec_info"]["queue_remaining"] == LIMIT, "/prompt")
        running, pending = await comfy.queue()
        assert not running
        await comfy.post("/queue", {"delete": pending[:1]})
        await comfy.wait(lambda found: found["exec_info"]["queue_remaining"] == LIMIT - 1, "/prompt")
        await comfy.prompt(prompt("Quick"))
        await comfy.post("/distributed/resume")
        await comfy.idle()


async def test_two_frontends_hold_it_together(tmp_path: Path) -> None:
    """At the same moment each may fill it; when the news has come both are closed."""
    broker = MemoryBroker()
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        a, _ = await cluster.frontend("a", max_queue_size=LIMIT)
        b, _ = await cluster.frontend("b", max_queue_size=LIMIT)
        await cluster.worker("v")
        for comfy in (a, b):
            await comfy.wait(lambda nodes: "Quick" in nodes, "/object_info")
        await a.post("/distributed/pause")
        await a.wait(lambda found: found["workers"][0]["paused"], "/distributed/workers")
        accepted = (await burst(a, b, with_ids=False))[200]
        assert accepted <= 2 * LIMIT
        for comfy in (a, b):
            await comfy.wait(lambda found: found["exec_info"]["queue_remaining"] == accepted, "/prompt")
        while accepted < LIMIT:
            await a.prompt(prompt("Quick"))
            accepted += 1
        await b.wait(lambda found: found["exec_info"]["queue_remaining"] == accepted, "/prompt")
        for comfy in (a, b):
            assert (await comfy.ask("POST", "/prompt", json={"prompt": prompt("Quick")})).status == 429
