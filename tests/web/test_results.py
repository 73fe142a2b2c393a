"""/api/v1/prompts: a prompt that is answered with its results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from comfy_dist.messages import Finished
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from tests.support.in_process import in_process, prompt
from tests.support.talking import Answer, Frontend
from tests.web.conftest import picture

PNG = picture("PNG")
FILE = {"filename": "a b.png", "subfolder": "sub", "type": "output"}


@dataclass
class Studio:
    frontend: Frontend
    #: The frontend's workspace.
    folder: Path
    other: MemoryTransport

    async def posted(self, outputs: dict[str, Any], **options: Any) -> tuple[str, Answer]:
        """The answer to a prompt that comes to this, and its id."""
        answering = asyncio.create_task(
            self.frontend.ask("POST", "/api/v1/prompts", json=prompt("Wait"), **options)
        )
        (id_,) = await self.frontend.wait(lambda queue: [item[1] for item in queue["queue_running"]], "/queue")
        # As from a worker that was cut off and is back: the first end counts.
        await self.other.append_event(Finished(job_id=id_, outputs=outputs))
        return id_, await answering


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    broker = MemoryBroker()
    async with in_process(tmp_path, lambda: MemoryTransport(broker)) as cluster:
        await cluster.worker("w")
        frontend, _ = await cluster.frontend("a")
        await frontend.wait(lambda nodes: "Quick" in nodes, "/object_info")
        folder = tmp_path / "frontend-a"
        (folder / "output" / "sub").mkdir(parents=True)
        (folder / "output" / "sub" / "a b.png").write_bytes(PNG)
        yield Studio(frontend, folder, MemoryTransport(broker))


async def test_a_prompt_is_answered_with_its_outputs(studio: Studio) -> None:
    outputs = {"9": {"images": [{**FILE, "type": "temp"}, FILE], "animated": [False]}, "10": {"text": ["x"]}}
    id_, answer = await studio.posted(outputs)
    assert answer.status == 200
    found = answer.json()
    assert (found["prompt_id"], found["outputs"]) == (id_, outputs)
    saved, temporary = found["urls"]
    assert "type=temp" in temporary
    async with studio.frontend.session.get(saved) as response:
        assert await response.read() == PNG
    assert await studio.frontend.get(f"/api/v1/prompts/{id_}") == outputs


async def test_what_was_deleted_is_not_answered_any_more(studio: Studio) -> None:
    body = {"prompt": prompt("Die"), "prompt_id": "failed"}
    assert (await studio.frontend.ask("POST", "/api/v1/prompts", json=body)).status == 500
    finished, _ = await studio.posted({"9": {"images": [FILE]}})
    await studio.frontend.post("/history", {"clear": True})
    for id_ in (finished, "failed"):
        answer = await studio.frontend.ask("GET", f"/api/v1/prompts/{id_}")
        assert (answer.status, answer.error["type"]) == (404, "not_found")


async def test_a_prompt_is_answered_with_its_picture(studio: Studio) -> None:
    _, answer = await studio.posted({"9": {"images": [FILE]}}, headers={"Accept": "image/png, */*"})
    assert (answer.status, answer.body) == (200, PNG)


async def test_what_has_no_picture_says_so(studio: Studio) -> None:
    _, answer = await studio.posted({"9": {"text": ["x"]}}, headers={"Accept": "image/png"})
    assert (answer.status, answer.error["type"]) == (406, "not_acceptable")


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"Prefer": "respond-async, wait=5"}},
        {"params": {"prefer": "respond-async"}},
        {"headers": {"Accept": "application/json+respond-async"}},
    ],
)
async def test_who_does_not_wait_asks_later(studio: Studio, options: dict[str, Any]) -> None:
    body = {"prompt": prompt("Wait"), "prompt_id": "mine"}
    answer = await studio.frontend.ask("POST", "/api/v1/prompts", json=body, **options)
    assert (answer.status, answer.json()) == (202, {"prompt_id": "mine"})
    assert (await studio.frontend.ask("GET", "/api/v1/prompts/mine")).status == 204
    await studio.frontend.running("mine")
    assert (await studio.frontend.ask("GET", "/api/v1/prompts/mine")).status == 204
    await studio.frontend.post("/interrupt")
    await studio.frontend.ended("mine")
    answer = await studio.frontend.ask("GET", "/api/v1/prompts/mine")
    assert (answer.status, answer.json()["messages"][-1][0]) == (500, "execution_interrupted")


async def test_a_prompt_without_outputs_is_answered_so(studio: Studio) -> None:
    answers = await asyncio.gather(
        *(studio.frontend.ask("POST", "/api/v1/prompts", json=prompt("Quick")) for _ in range(20))
    )
    assert {answer.status for answer in answers} == {204}


async def test_a_failure_is_answered_with_its_status(studio: Studio) -> None:
    answer = await studio.frontend.ask("POST", "/api/v1/prompts", json=prompt("Die"))
    assert (answer.status, answer.json()["status_str"]) == (500, "error")


async def test_what_is_no_prompt_is_refused_as_by_prompt(studio: Studio) -> None:
    for body, kind in (
        ({}, "prompt_no_outputs"),
        ({"1": {"class_type": "Absent", "inputs": {}}}, None),
        ({"prompt": "x"}, "invalid_prompt"),
        ({"prompt": {"class_type": "Quick", "inputs": {}}}, "prompt_outputs_failed_validation"),
    ):
        answer = await studio.frontend.ask("POST", "/api/v1/prompts", json=body)
        assert answer.status == 400, body
        assert kind is None or answer.error["type"] == kind
    answer = await studio.frontend.ask(
        "POST", "/api/v1/prompts", json=prompt("Quick"), headers={"Accept": "text/html"}
    )
    assert (answer.status, answer.error["type"]) == (406, "not_acceptable")
    assert (await studio.frontend.ask("GET", "/api/v1/prompts/nobody")).status == 404
    assert await studio.frontend.remaining() == 0
