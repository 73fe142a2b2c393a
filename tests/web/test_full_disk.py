"""A frontend whose disk is full says so, and goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import Cluster, in_process, prompt
from tests.support.small_disk import fill, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Where the frontend keeps its ledger."""
    with small_disk(tmp_path / "frontend-a" / "state") as folder:
        yield folder


@pytest.fixture
async def cluster(tmp_path: Path, disk: Path) -> AsyncIterator[Cluster]:
    broker = MemoryBroker()
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        yield cluster


async def test_a_full_disk_refuses_prompts_and_nothing_else(cluster: Cluster, disk: Path) -> None:
    await cluster.worker("w")
    frontend, _ = await cluster.frontend("a")
    await frontend.wait(lambda nodes: "Quick" in nodes, "/object_info")
    done = await frontend.prompt(prompt("Quick"))
    await frontend.ended(done)
    filler = fill(disk)
    # Something may still fit into what was allocated before.
    large = prompt("Quick") | {"2": {"class_type": "Quick", "inputs": {"text": "x" * 200_000}}}
    refused = await frontend.ask("POST", "/prompt", json={"prompt": large})
    assert (refused.status, refused.error["type"]) == (507, "disk_full")
    assert "the disk is full. Make space there." in refused.error["message"]
    assert list(await frontend.get("/history")) == [done]
    assert await frontend.queue() == ([], [])
    assert await frontend.remaining() == 0
    filler.unlink()
    again = await frontend.prompt(large)
    await frontend.ended(again)
    assert list(await frontend.get("/history")) == [done, again]
