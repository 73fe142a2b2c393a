"""A prompt for a worker that has shown up while a frontend has yet to hear what it can run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from comfy_dist.frontend import submission
from comfy_dist.messages import Catalogue, Command, Reply
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import Obedient, in_process, prompt
from tests.support.patience import PATIENCE
from tests.support.talking import Frontend

FOR_NEW = {"prompt": prompt("Quick"), "extra_data": {"worker": "new"}}


class Late(MemoryTransport):
    """What workers can run comes when it is let through."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.through = asyncio.Event()
        self.through.set()

    async def ask(self, command: Command, timeout: float) -> Reply | None:
        if command.verb == "catalogue":
            await self.through.wait()
        return await super().ask(command, timeout)


class Other(Obedient):
    """It has a catalogue that no other worker has."""

    async def catalogue(self) -> Catalogue:
        return (await super().catalogue()).model_copy(update={"hash": "other"})


@pytest.fixture
async def late() -> Late:
    return Late(MemoryBroker())


@pytest.fixture
async def frontend(tmp_path: Path, late: Late) -> AsyncIterator[Frontend]:
    """It knows one worker, and of a new one only that it is there."""
    joining = iter((late, *(MemoryTransport(late._broker) for _ in range(2))))
    async with in_process(tmp_path, lambda: next(joining)) as cluster:
        frontend, _ = await cluster.frontend("f")
        await cluster.worker("known")
        await frontend.wait(lambda nodes: "Quick" in nodes, "/object_info")
        late.through.clear()
        await cluster.worker("new", engine=Other)
        await frontend.wait(
            lambda found: "other" in [worker["catalogue"] for worker in found["workers"]], "/distributed/workers"
        )
        yield frontend


async def test_it_is_accepted_when_the_frontend_knows(
    frontend: Frontend, late: Late, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "CATALOGUE_SECONDS", PATIENCE)
    asking = asyncio.create_task(frontend.post("/prompt", FOR_NEW))
    await asyncio.sleep(0.1)
    assert not asking.done()
    late.through.set()
    entry = await frontend.ended((await asking)["prompt_id"])
    assert entry["status"]["completed"]


async def test_it_is_refused_where_that_takes_too_long(
    frontend: Frontend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "CATALOGUE_SECONDS", 0.05)
    answer = await frontend.ask("POST", "/prompt", json=FOR_NEW)
    assert (answer.status, answer.error["type"]) == (400, "no_able_worker")
