"""What a worker answers and announces beside its jobs, over ComfyUIs that are slow to answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

import comfy_dist.worker.commands
from comfy_dist.engine.comfyui import Address, Attached, ComfyuiEngine
from comfy_dist.messages import Command, WorkerState
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.worker.arbiter import Arbiter
from comfy_dist.worker.commands import Commands
from comfy_dist.worker.desk import Desk
from comfy_dist.worker.draining import Draining
from comfy_dist.worker.log_lines import LogLines
from comfy_dist.worker.pausing import Pausing
from comfy_dist.worker.plane_place import PlanePlace
from comfy_dist.worker.presence import Identity, Presence
from comfy_dist.worker.standing import Standing
from comfy_dist.workspace import Workspace
from tests.engines.sick import SickComfyUI, body, never
from tests.support.patience import PATIENCE

VALID = body(b'{"valid": true, "error": null, "outputs": ["1"], "node_errors": {}}')


@dataclass
class Two:
    """A worker's presence over two ComfyUIs, both idle, and a frontend beside it."""

    presence: Presence
    standings: list[Standing]
    sick: list[SickComfyUI]
    frontend: MemoryTransport


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    workspace = Workspace.at(tmp_path)
    workspace.create()
    broker, changed = MemoryBroker(), asyncio.Event()
    worker, frontend = MemoryTransport(broker), MemoryTransport(broker)
    identity = Identity.make("w", ())
    await worker.enlist(identity.id)
    async with AsyncExitStack() as stack:
        sick = [await stack.enter_async_context(SickComfyUI().running()) for _ in range(2)]
        standings = []
        for each in sick:
            each.answers["GET /comfy_dist/about"] = body(b"{}")
            each.answers["POST /comfy_dist/validate"] = VALID
            standing = Standing(ComfyuiEngine(workspace, Attached(Address.parse(each.address))), changed)
            stack.push_async_callback(standing.engine.close)
            standing.learn(await standing.engine.start())
            standing.become(WorkerState.IDLE)
            standings.append(standing)
        draining, pausing = Draining(None), Pausing(worker, identity.id, identity.name, changed.set)
        presence = Presence(identity, worker, standings, draining, pausing, workspace, changed)
        desk = Desk(identity, worker, Arbiter(worker, identity.id, 3), standings, workspace, PlanePlace())
        commands = Commands(identity, worker, standings, draining, presence, LogLines(), desk)
        received = await stack.enter_async_context(worker.commands())
        obeying = asyncio.create_task(commands.obey(received))
        yield Two(presence, standings, sick, frontend)
        obeying.cancel()
        await asyncio.gather(obeying, return_exceptions=True)


def validation() -> Command:
    return Command(verb="validate", arguments={"prompt": {"1": {"class_type": "SaveImage", "inputs": {}}}})


async def test_a_command_that_takes_long_keeps_no_other_waiting(two: Two) -> None:
    two.sick[0].answers["POST /comfy_dist/validate"] = never
    waiting = asyncio.create_task(two.frontend.ask(validation(), PATIENCE))
    reply = await two.frontend.ask(Command(verb="catalogue"), PATIENCE)
    assert reply is not None
    assert "SaveImage" in reply.result["nodes"]
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_command_that_cannot_be_answered_in_time_says_so(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfy_dist.worker.commands, "COMMAND_SECONDS", 0.1)
    two.sick[0].answers["POST /comfy_dist/validate"] = never
    reply = await two.frontend.ask(validation(), PATIENCE)
    assert reply is not None
    assert reply.result == {"error": "No engine answered within 0.1 s."}


@pytest.mark.parametrize("busy", [0, 1])
async def test_an_idle_engine_validates_rather_than_a_busy_one(two: Two, busy: int) -> None:
    two.standings[busy].become(WorkerState.BUSY)
    two.sick[busy].answers["POST /comfy_dist/validate"] = never
    reply = await two.frontend.ask(validation(), PATIENCE)
    assert reply is not None
    assert reply.result["valid"] is True


async def test_files_that_a_comfyui_gets_by_itself_are_found_while_it_is_idle(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfy_dist.worker.presence, "OWN_FILES_SECONDS", 0.0)
    monkeypatch.setattr(comfy_dist.worker.presence, "WATCH_SECONDS", 0.01)
    two.standings[1].become(WorkerState.BUSY)
    before = [standing.catalogue for standing in two.standings]
    for each in two.sick:
        each.answers["GET /models"] = body(b'["loras"]')
        each.answers["GET /models/loras"] = body(b'["new.safetensors"]')
    idle, busy = two.standings
    watching = asyncio.create_task(two.presence.watch_folders())
    async with asyncio.timeout(PATIENCE):
        while idle.catalogue is before[0]:
            await asyncio.sleep(0.01)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert idle.catalogue is not None
    assert idle.catalogue.models == {"loras": ("new.safetensors",)}
    assert busy.catalogue is before[1]


async def test_a_catalogue_that_could_not_be_had_is_asked_for_again(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of the workspace changed while ComfyUI had no answer."""
    standing = two.standings[0]
    before = standing.catalogue
    two.sick[0].answers["GET /models"] = body(b"no JSON")
    standing.stale = True
    await standing.learn_anew()
    assert standing.stale
    assert standing.catalogue is before
    two.sick[0].answers["GET /models"] = body(b'["loras"]')
    two.sick[0].answers["GET /models/loras"] = body(b"[]")
    await standing.learn_anew()
    assert not standing.stale
    assert standing.catalogue is not None
    assert standing.catalogue.models == {"loras": ()}
