"""What an attempt knows of the calls that its nodes have sent."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from comfy_dist.engine import NodeText, Preview
from comfy_dist.messages import Call, CallEnded, InputFile, Job, Progress, Trailing
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport
from comfy_dist.worker import attempt_calls
from comfy_dist.worker.asked_calls import files_in
from comfy_dist.worker.attempt_calls import AttemptCalls
from comfy_dist.worker.progress import PREVIEW_WITH_METADATA, ProgressSender, text_frame
from tests.support.patience import PATIENCE


class Noted(ProgressSender):
    """Keeps what it is to send."""

    def __init__(self, job: Job) -> None:
        super().__init__(MemoryTransport(MemoryBroker()), job, 1)
        self.emitted: list[Any] = []

    def emit(self, event: Any, *, of_call: bool = False) -> None:
        assert of_call
        self.emitted.append(event)


@pytest_asyncio.fixture
async def calls() -> AsyncIterator[AttemptCalls]:
    """Of "part", for a region, and "whole", for a workflow that node 7 executes."""
    job = Job(id="parent", prompt={})
    calls = AttemptCalls(0, job, 1, Noted(job))
    for rank, (name, node, region) in enumerate((("part", "9", "2.region"), ("whole", "7", "")), 1):
        about = Call(
            parent="parent", attempt=1, root="parent", home="w", worker="w", rank=rank, node=node, region=region
        )
        calls.add(Job(id=name, prompt={}, call=about))
    yield calls
    calls.close()


def emitted(calls: AttemptCalls) -> list[Any]:
    progress = calls._progress
    assert isinstance(progress, Noted)
    return progress.emitted


def end(attempt: int, **more: Any) -> CallEnded:
    about = {"call": "part", "parent": "parent", "parent_attempt": 1, "worker": f"w{attempt}"}
    return CallEnded(**{**about, "status": "finished", "attempt": attempt, **more})


def told(message: dict[str, Any] | None) -> tuple[str, int] | None:
    return None if message is None else (message["state"], message["attempt"])


async def test_of_every_attempt_at_a_call_its_node_is_told(calls: AttemptCalls) -> None:
    """Its first worker was cut off, and comes back to an end when another has begun."""
    assert told(calls.started("part", "a", "w1", 1)) == ("started", 1)
    assert told(calls.gone("part")) == ("gone", 1)
    assert calls.gone("part") is None
    assert told(calls.started("part", "b", "w2", 2)) == ("started", 2)
    assert told(calls.end(end(1))) == ("ended", 1)
    assert calls.end(end(1)) is None
    # Should that one die, its node has to know.
    assert told(calls.gone("part")) == ("gone", 2)
    assert told(calls.started("part", "c", "w3", 3)) == ("started", 3)
    assert told(calls.end(end(3))) == ("ended", 3)
    assert calls.gone("part") is None
    assert [ended.worker for ended in calls.ended] == ["w3"]


async def test_a_worker_that_begins_after_an_end_is_followed(calls: AttemptCalls) -> None:
    calls.started("part", "a", "w1", 1)
    calls.gone("part")
    calls.end(end(1))
    assert told(calls.started("part", "b", "w2", 2)) == ("started", 2)
    assert told(calls.gone("part")) == ("gone", 2)


async def test_what_was_saved_by_an_attempt_that_does_not_count_is_not_shown(calls: AttemptCalls) -> None:
    def saved(*chunks: int) -> dict[str, dict[str, Any]]:
        return {f"2.region.{chunk}.5": {"images": [chunk]} for chunk in chunks}

    calls.end(end(1, outputs=saved(0, 1)))
    calls.end(end(2, outputs=saved(1, 2, 12), meta={"2.region.1.5": {"node_id": "5"}}))
    assert calls.shown == [(saved(1, 2, 12), {"2.region.1.5": {"node_id": "5"}})]
    calls.count("part", 2, [1])
    assert calls.shown == [(saved(1), {"2.region.1.5": {"node_id": "5"}})]
    calls.count("part", 1, [0])
    assert calls.shown == [(saved(0), {})]
    calls.count("part", 3, [])
    assert calls.shown == [({}, {})]


async def test_what_changes_at_once_is_told_once(calls: AttemptCalls) -> None:
    """By its last word; what happens to no region is nobody's to see."""
    calls.started("part", "a", "w1", 1)
    calls.started("whole", "a", "w1", 1)
    calls.on_chunks("9", 1, 4)
    calls.on_chunks("9", 2, 4)
    assert not emitted(calls)
    async with asyncio.timeout(PATIENCE):
        while not emitted(calls):
            await asyncio.sleep(0.01)
    states, counts = [each.data for each in emitted(calls)]
    assert (states["call"], states["state"], states["worker"]) == ("part", "running", "w1")
    assert (counts["region"], counts["done"], counts["items"]) == ("9", 2, 4)


async def test_that_all_is_done_is_told_at_once_and_nothing_after_the_end(calls: AttemptCalls) -> None:
    calls.started("part", "a", "w1", 1)
    calls.on_chunks("9", 4, 4)
    assert [each.data["done"] for each in emitted(calls)] == [4]
    assert "part" not in calls._news, "what its ranks were at is no news any more"
    calls.on_chunks("8", 1, 4)
    calls.close()
    await asyncio.sleep(2 * attempt_calls.TELL_SECONDS)
    assert len(emitted(calls)) == 1


def progress(call: str, event: str, body: bytes, *, binary: bool) -> Progress:
    return Progress(
        job_id=call, client_id="c", sequence=1, attempt=1, event=event, node="3", binary=binary, body=body
    )


def preview(node: str) -> bytes:
    metadata = json.dumps({"node_id": node, "display_node_id": node, "prompt_id": "x", "image_type": "i"}).encode()
    return PREVIEW_WITH_METADATA + struct.pack(">I", len(metadata)) + metadata + b"picture"


@pytest.mark.parametrize(
    ("event", "body", "binary"),
    [
        ("preview", b"", True),
        ("preview", PREVIEW_WITH_METADATA + b"\xff\xff\xff\xff{", True),
        ("preview", PREVIEW_WITH_METADATA + struct.pack(">I", 2) + b"[]", True),
        ("text", b"\0", True),
        ("executing", b"no JSON", False),
        ("executing", b"[]", False),
        ("executing", b'{"data": 7}', False),
        ("progress", b"[" * 100_000, False),
    ],
)
async def test_progress_that_makes_no_sense_harms_nobody(
    calls: AttemptCalls, event: str, body: bytes, binary: bool
) -> None:
    before = len(emitted(calls))
    calls.on_progress(progress("part", event, body, binary=binary))
    assert len(emitted(calls)) == before
    if not binary:
        assert calls.end(end(1, trail=(Trailing(event=event, body=body.decode()),))) is not None


@pytest.mark.parametrize(("call", "node"), [("part", "3"), ("whole", "7")])
async def test_a_preview_is_of_a_node_that_the_client_knows(calls: AttemptCalls, call: str, node: str) -> None:
    calls.on_progress(progress(call, "preview", preview("3"), binary=True))
    shown = emitted(calls)[-1]
    assert isinstance(shown, Preview)
    (length,) = struct.unpack_from(">I", shown.body)
    about = json.loads(shown.body[4 : 4 + length])
    assert (shown.node, about["node_id"], about["display_node_id"]) == (node, node, node)
    assert (about["prompt_id"], about["image_type"]) == ("parent", "i")
    assert shown.body[4 + length :] == b"picture"


async def test_texts_of_another_workflow_s_nodes_are_not_shown(calls: AttemptCalls) -> None:
    for call in ("whole", "part"):
        calls.on_progress(progress(call, "text", text_frame(NodeText("3", call)), binary=True))
    assert [each.text for each in emitted(calls) if isinstance(each, NodeText)] == ["part"]


def loads(image: str, class_type: str = "LoadImage") -> dict[str, Any]:
    return {"1": {"class_type": class_type, "inputs": {"image": image}}}


@pytest.mark.parametrize(
    ("prompt", "is_part", "image"),
    [
        (loads("here.png"), True, "theirs.png"),
        (loads("theirs.png"), False, "theirs.png"),
        (loads("other.png"), False, None),
        (loads("theirs.png", "LoadMask"), False, None),
        ({"2": {"class_type": "LoadImage", "inputs": {}}}, True, None),
    ],
)
def test_only_nodes_of_the_job_itself_are_given_its_files(
    prompt: dict[str, Any], is_part: bool, image: str | None
) -> None:
    """Another workflow has a node 1 of its own."""
    file = InputFile(type="input", name="theirs.png", size=1, inputs=(("1", "image"),), sha256="0" * 64)
    parent = Job(id="parent", prompt=loads("theirs.png"), files=(file,))
    told = {**prompt}
    files = tuple(files_in(parent, told, is_part=is_part))
    assert (len(files) == 1) is (image is not None)
    assert told == (prompt if image is None else loads(image))
