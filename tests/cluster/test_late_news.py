"""What a frontend is asked to do with a prompt of which the news has yet to come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from comfy_dist.transport import Bookmark, Recorded, Rewind
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import in_process, prompt
from tests.support.patience import PATIENCE


class Late(MemoryTransport):
    """Its events wait until they are let through."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.through = asyncio.Event()

    async def events(self, after: Bookmark | None) -> AsyncIterator[Recorded | Rewind]:
        async for each in super().events(after):
            await self.through.wait()
            yield each


async def test_a_prompt_is_interrupted_through_a_frontend_that_does_not_know_of_it_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfy_dist.frontend.prompts.NEWS_SECONDS", PATIENCE)
    broker = MemoryBroker()
    late = Late(broker)
    joining = iter((MemoryTransport(broker), late, MemoryTransport(broker)))
    async with in_process(tmp_path, lambda: next(joining)) as cluster:
        a, _ = await cluster.frontend("a")
        b, _ = await cluster.frontend("b")
        await cluster.worker("w")
        await a.wait(lambda nodes: "Wait" in nodes, "/object_info")
        id_ = await a.prompt(prompt("Wait"))
        await a.running(id_)
        asking = asyncio.create_task(b.post("/interrupt", {"prompt_id": id_}))
        await asyncio.sleep(0.1)
        assert not asking.done()
        late.through.set()
        await asking
        assert (await a.ended(id_))["status"]["messages"][-1][0] == "execution_interrupted"
