"""What is seen of a region: who helps while it runs, and where the time went when it has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from comfy_dist.client.timeline import lanes_of, timeline
from comfy_dist.client.trace import trace_of
from comfy_dist.messages import SpanKind
from tests.distributed.conftest import Workers
from tests.distributed.graphs import placed, region
from tests.support.talking import node

pytestmark = pytest.mark.asyncio(loop_scope="session")


def calls_of(prompt_id: str, answer: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The calls of the prompt that GET /distributed/workers shows, by rank, each with its worker's name."""
    return {
        job["rank"]: {**job, "worker": worker["name"]}
        for worker in answer["workers"]
        for job in worker["jobs"]
        if job.get("root") == prompt_id
    }


def _works(about: list[dict[str, Any]]) -> bool:
    """Whether the last that was told of a rank is that it is at its node."""
    return bool(about) and (about[-1]["state"], about[-1]["node"]) == ("running", "meet")


async def test_who_helps_is_seen_while_it_runs_and_traced_when_it_has_ended(
    three: Workers, tmp_path: Path
) -> None:
    # All three wait in their first chunk until a fourth, who is us, has come; the parent once more at the end.
    graph = region("Image", 9) | {
        "told": node("DistMeet", value=["in", 0], at=str(tmp_path / "told"), workers=2),
        "digest": node("DistDigest", value=["told", 0]),
    }
    graph = placed(graph, 3, str(tmp_path), workers=4)
    async with three.frontend.socket("watcher") as socket:
        extra = {"worker": "w0"}
        prompt_id = await three.frontend.prompt(graph, client_id="watcher", extra_data=extra)
        told: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
        # Nobody can say which of them comes first, nor which is told first: that it runs, or where it is.
        while not all(map(_works, told.values())):
            data = await socket.event("distributed_progress", prompt_id=prompt_id)
            if "rank" in data:
                told[data["rank"]].append(data)
        for about in told.values():
            # Of what changes at once the last is told: that it waits only where that lasts.
            assert [state for state in dict.fromkeys(data["state"] for data in about) if state != "waiting"] == [
                "running"
            ]
            assert about[-1]["state"] == "running"
            assert {(data["region"], data["world"]) for data in about} == {("in", 3)}

        calls = await three.frontend.wait(
            lambda answer: len(found := calls_of(prompt_id, answer)) == 2 and found, "/distributed/workers"
        )
        assert set(calls) == {1, 2}
        assert {call["worker"] for call in calls.values()} == {"w1", "w2"}
        assert {(call["parent"], call["world"]) for call in calls.values()} == {(prompt_id, 3)}
        assert all(call["region"] for call in calls.values())

        (tmp_path / "meet" / "we").touch()
        # The worker has heard of all chunks then.
        await socket.event("distributed_progress", prompt_id=prompt_id, done=9)
        (tmp_path / "told").mkdir(exist_ok=True)
        (tmp_path / "told" / "we").touch()
        ran = await three.ended(prompt_id)
        assert ran.status == "success", ran.error
        await socket.end(prompt_id)

    job = await three.frontend.get(f"/jobs/{prompt_id}")
    trace = trace_of(prompt_id, job)
    lanes = lanes_of(trace.spans)
    assert {(lane.rank, lane.worker) for lane in lanes} == {(0, "w0"), *((n, calls[n]["worker"]) for n in (1, 2))}
    kinds = {lane.rank: {span.kind for span in lane.spans} for lane in lanes}
    assert SpanKind.EXECUTE in kinds[0]
    assert all(SpanKind.QUEUE in kinds[rank] for rank in (1, 2))
    assert all({SpanKind.EXECUTE, SpanKind.TRANSFER} <= kinds[rank] for rank in (1, 2))
    assert timeline("its picture", trace.whole, trace.spans).count(">rank ") == 3
