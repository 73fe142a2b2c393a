"""Short ways to write prompts, and what an execution sent."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any

from comfy_dist.engine.graph import GraphEngine
from comfy_dist.engine.protocol import EngineEvent, Errored, Executed, Interrupted, Preview
from comfy_dist.messages import Job
from tests.support.patience import PATIENCE

_ids = itertools.count()


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def empty_image(**inputs: Any) -> dict[str, Any]:
    return node("EmptyImage", **({"width": 64, "height": 64, "batch_size": 1, "color": 0} | inputs))


@dataclass
class Ran:
    """An outcome and everything that was sent on the way."""

    id: str
    outcome: Executed | Errored | Interrupted
    sent: list[EngineEvent | Preview] = field(default_factory=list)

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        return [(each.event, each.data) for each in self.sent if isinstance(each, EngineEvent)]

    @property
    def names(self) -> list[str]:
        """Event names, with the node where they are about one."""
        return [f"{name} {data['node']}" if "node" in data else name for name, data in self.events]

    def order(self) -> list[str]:
        """The nodes in the order they were executed."""
        return [data["node"] for name, data in self.events if name == "executing"]

    def text(self, node_id: str) -> str:
        return str(self.outcome.outputs[node_id]["text"][0])


async def run(engine: GraphEngine, prompt: dict[str, Any], **more: Any) -> Ran:
    job = Job(id=f"job-{next(_ids)}", prompt=prompt, **more)
    sent: list[EngineEvent | Preview] = []
    outcome = await engine.execute(job, sent.append)
    return Ran(job.id, outcome, sent)


async def started(engine: GraphEngine, prompt: dict[str, Any], job: str) -> asyncio.Task[Any]:
    """The prompt's execution, once its first node runs."""
    running = asyncio.Event()

    def emit(sent: Any) -> None:
        if getattr(sent, "event", "") == "executing":
            running.set()

    task = asyncio.create_task(engine.execute(Job(id=job, prompt=prompt), emit))
    await asyncio.wait_for(running.wait(), PATIENCE)
    return task
