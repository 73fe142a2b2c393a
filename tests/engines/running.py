"""An engine under test, prompts for it, and what an execution sent."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from comfy_dist.engine import EngineEvent, Executed, NodeText, Outcome, Preview
from comfy_dist.engine.comfyui import ComfyuiEngine
from comfy_dist.messages import Job
from comfy_dist.workspace import Workspace
from tests.support.patience import PATIENCE

_ids = itertools.count()


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def picture(color: int, prefix: str | None = None, **more: Any) -> dict[str, Any]:
    """A plain picture, saved under a prefix or only shown."""
    image = node("EmptyImage", width=16, height=8, batch_size=1, color=color)
    if prefix is None:
        return {"1": image, "2": node("PreviewImage", images=["1", 0])} | more
    return {"1": image, "2": node("SaveImage", images=["1", 0], filename_prefix=prefix)} | more


def loaded(name: str, prefix: str) -> dict[str, Any]:
    """A picture read from a file, and saved."""
    return {
        "1": node("LoadImage", image=name),
        "2": node("SaveImage", images=["1", 0], filename_prefix=prefix),
    }


def waiting(seconds: float, steps: int, sink: str = "3") -> dict[str, Any]:
    """Progress every `seconds / steps`; never cached."""
    return {
        "1": node("TestConcat", a=uuid.uuid4().hex, b="x"),
        "2": node("TestSleep", seconds=seconds, steps=steps, value=["1", 0]),
        sink: node("TestSink", value=["2", 0]),
    }


def gated(gate: Path, sink: str = "3") -> dict[str, Any]:
    """Progress until the file exists; never cached."""
    return waiting(0, 1, sink) | {"2": node("TestGate", path=str(gate), value=["1", 0])}


@dataclass
class Ran:
    """An execution in the middle or at its end."""

    job: Job
    sent: list[EngineEvent | Preview | NodeText] = field(default_factory=list)
    task: asyncio.Task[Outcome] | None = None
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def emit(self, item: EngineEvent | Preview | NodeText) -> None:
        self.sent.append(item)
        self._more.set()

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        return [(each.event, each.data) for each in self.sent if isinstance(each, EngineEvent)]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    async def seen(self, name: str) -> dict[str, Any]:
        """The data of the first event of that name, awaited."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for each, data in self.events:
                    if each == name:
                        return data
                self._more.clear()
                await self._more.wait()

    async def outcome(self) -> Outcome:
        assert self.task is not None
        return await asyncio.wait_for(self.task, PATIENCE)

    @property
    def shown(self) -> dict[str, Any]:
        """What `executed` events told, by node."""
        return {data["node"]: data["output"] for name, data in self.events if name == "executed"}

    def previews(self) -> list[dict[str, Any]]:
        """Their metadata."""
        found = []
        for each in self.sent:
            if isinstance(each, Preview):
                length = int.from_bytes(each.body[:4], "big")
                found.append(json.loads(each.body[4 : 4 + length]) | {"image": each.body[4 + length :]})
        return found


@dataclass
class Subject:
    """An engine and its workspace; `theirs` is the folder of a ComfyUI that it is attached to."""

    kind: str
    engine: ComfyuiEngine
    workspace: Workspace
    address: str = ""
    theirs: Path | None = None

    def begin(self, prompt: dict[str, Any], **more: Any) -> Ran:
        more = {"id": f"{self.kind}-{next(_ids)}-{uuid.uuid4().hex[:6]}"} | more
        ran = Ran(Job(prompt=prompt, **more))
        ran.task = asyncio.create_task(self.engine.execute(ran.job, ran.emit))
        return ran

    async def run(self, prompt: dict[str, Any], **more: Any) -> tuple[Ran, Outcome]:
        ran = self.begin(prompt, **more)
        return ran, await ran.outcome()

    async def files(self, prompt: dict[str, Any], node_id: str = "2", **more: Any) -> list[Path]:
        """The pictures of a node of a prompt that succeeds, where the workspace has them."""
        _, outcome = await self.run(prompt, **more)
        assert isinstance(outcome, Executed), outcome
        return self.paths(outcome, node_id)

    def paths(self, outcome: Outcome, node_id: str = "2") -> list[Path]:
        images = outcome.outputs[node_id]["images"]
        return [self.workspace.folder(each["type"]) / each["subfolder"] / each["filename"] for each in images]


async def saved(by: Subject, prefix: str, colors: range) -> dict[Path, int]:
    """A picture of each colour, one after another: the colours by file."""
    return {(await by.files(picture(color, prefix)))[0]: color for color in colors}


def color_of(path: Path) -> tuple[int, ...]:
    with Image.open(path) as image:
        pixel = image.convert("RGB").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel
