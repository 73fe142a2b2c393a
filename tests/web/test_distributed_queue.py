"""Who takes part in a prompt, as clients and the frontend's configuration say it; and one prompt for many workers."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_dist.frontend.distributed_config import Configuration, DistributedConfig
from comfy_dist.messages import Participation, Spread
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.workflows.seeds import reseeded
from tests.support.in_process import Cluster, in_process
from tests.support.talking import Answer, Frontend, Prompt, node

NAMES = ("a", "b", "c")
KEYS = {"alice": "alice-0123456789abcdef", "carol": "carol-0123456789abcdef"}


class Studio:
    """A frontend, and workers that execute at once."""

    def __init__(self, cluster: Cluster, frontend: Frontend) -> None:
        self.cluster = cluster
        self.frontend = frontend

    async def queue(self, **body: Any) -> Answer:
        return await self.frontend.ask("POST", "/distributed/queue", json=body)

    async def queued(self, **body: Any) -> dict[str, Any]:
        answer = await self.queue(**body)
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.json()
        return found

    async def ended(self, id_: str) -> dict[str, Any]:
        """The entry of the history: the job has been executed."""
        entry: dict[str, Any] = await self.frontend.ended(id_)
        assert entry["status"]["status_str"] == "success"
        return entry

    async def spread(self, id_: str) -> Spread:
        await self.ended(id_)
        return self.cluster.stage.jobs[id_].spread

    async def asking(self, **extra: Any) -> Spread:
        """What a job has that is submitted with this extra_data."""
        return await self.spread(await self.frontend.prompt(seeded(), extra_data=extra))

    async def configure(self, **changes: Any) -> Answer:
        return await self.frontend.ask("POST", "/distributed/config", json=changes)


def seeded(**seeds: Any) -> Prompt:
    return {"1": node("Quick", text="", **seeds)}


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    broker = MemoryBroker()
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        for name in NAMES:
            await cluster.worker(name)
        frontend, _ = await cluster.frontend("one")
        await frontend.wait(lambda found: len(found["workers"]) == len(NAMES), "/distributed/workers")
        await frontend.wait(lambda nodes: "Quick" in nodes, "/object_info")
        yield Studio(cluster, frontend)


# Who takes part


async def test_a_prompt_says_who_takes_part_and_what_it_leaves_out_is_configured(studio: Studio) -> None:
    assert await studio.asking() == Spread()
    assert (await studio.configure(participation="fallback", workers=["b", "a"])).status == 200
    assert await studio.asking() == Spread(workers=("b", "a"), participation=Participation.FALLBACK)
    for distributed, spread in (
        ({"workers": ["c"]}, Spread(workers=("c",), participation=Participation.FALLBACK)),
        ({"workers": None}, Spread(participation=Participation.FALLBACK)),
        ({"workers": []}, Spread(workers=(), participation=Participation.FALLBACK)),
        ({"participation": "orchestrator-only"}, Spread(workers=("b", "a"), participation="orchestrator-only")),
        ({"workers": ["z", "c", "z"], "participation": "participating"}, Spread(workers=("z", "c"))),
        (None, Spread(workers=("b", "a"), participation=Participation.FALLBACK)),
    ):
        assert await studio.asking(distributed=distributed) == spread


@pytest.mark.parametrize(
    "asked",
    [
        "all",
        ["a"],
        True,
        {"worker": "a"},
        {"workers": "a"},
        {"workers": {"a": 1}},
        {"workers": [1]},
        {"workers": [None]},
        {"workers": [""]},
        {"workers": ["a\nb"]},
        {"workers": ["x" * 151]},
        {"workers": ["w"] * 1001},
        {"participation": "sometimes"},
        {"participation": ["participating"]},
        {"participation": {}},
        {"participation": 1},
    ],
    ids=lambda asked: json.dumps(asked)[:40],
)
async def test_what_cannot_be_understood_is_refused(studio: Studio, asked: Any) -> None:
    for path, body in (
        ("/prompt", {"prompt": seeded(), "extra_data": {"distributed": asked}}),
        ("/distributed/queue", {"prompt": seeded(), "extra_data": {"distributed": asked}}),
    ):
        answer = await studio.frontend.ask("POST", path, json=body)
        assert (answer.status, answer.error["type"]) == (400, "invalid_distributed")
        assert answer.error["message"].startswith("extra_data.distributed")
        assert answer.error["message"].endswith(".")
    assert not studio.cluster.stage.executed
