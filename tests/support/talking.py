"""A frontend's HTTP and websocket API as tests speak it."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp

from tests.support.patience import PATIENCE

_unique = itertools.count()

Prompt: TypeAlias = dict[str, Any]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def quick(text: object = None) -> Prompt:
    """Shows a text, by default one that no cache has."""
    return {"1": node("PreviewAny", source=str(text if text is not None else f"{uuid.uuid4()}"))}


def three(seconds: float = 0.0, steps: int = 1) -> Prompt:
    """A text, a wait, and an output node; nothing of it is cached."""
    return {
        "1": node("TestConcat", a="text", b=str(next(_unique))),
        "2": node("TestSleep", seconds=seconds, steps=steps, value=["1", 0]),
        "3": node("TestSink", value=["2", 0]),
    }


def gated(gate: Path) -> Prompt:
    """Tells its progress in node 2 until the file exists."""
    return {
        "1": node("TestConcat", a="text", b=str(next(_unique))),
        "2": node("TestGate", path=str(gate), value=["1", 0]),
        "3": node("TestSink", value=["2", 0]),
    }


def slow(steps: int = 3000) -> Prompt:
    """Runs until it is interrupted, looking up every tenth of a second."""
    return three(steps / 10, steps)


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body, parse_constant=_no_json)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json()["error"]
        assert found.keys() == {"type", "message", "details", "extra_info"}
        return found


def _no_json(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


@dataclass
class Binary:
    """A binary frame: its ComfyUI event type, and the rest."""

    type: int
    body: bytes


Received: TypeAlias = dict[str, Any] | Binary


@dataclass
class Socket:
    """An open websocket and everything it has received."""

    socket: aiohttp.ClientWebSocketResponse
    received: list[Received] = field(default_factory=list)

    async def next(self) -> Received:
        message = await asyncio.wait_for(self.socket.receive(), PATIENCE)
        if message.type is aiohttp.WSMsgType.TEXT:
            found: Received = json.loads(message.data, parse_constant=_no_json)
        elif message.type is aiohttp.WSMsgType.BINARY:
            found = Binary(int.from_bytes(message.data[:4], "big"), message.data[4:])
        else:
            raise ConnectionError(f"The websocket was closed: {message}")
        self.received.append(found)
        return found

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read on to the first message that is wanted."""
        while True:
            message = await self.next()
            if isinstance(message, dict) and wanted(message):
                return message

    async def event(self, name: str, **data: Any) -> dict[str, Any]:
        """Read on to the first message of that type with that data."""
        found = await self.until(
            lambda message: message["type"] == name and data.items() <= message["data"].items()
        )
        data_found: dict[str, Any] = found["data"]
        return data_found

    async def end(self, prompt_id: str) -> None:
        """Read on to the last message about a prompt."""
        await self.event("executing", node=None, prompt_id=prompt_id)

    async def settle(self) -> None:
        """Read what is on its way: a prompt that nobody owns, and the statuses it makes."""
        with_nothing_more = 0.3
        while True:
            try:
                message = await asyncio.wait_for(self.socket.receive(), with_nothing_more)
            except TimeoutError:
                return
            if message.type is aiohttp.WSMsgType.TEXT:
                self.received.append(json.loads(message.data))
            elif message.type is not aiohttp.WSMsgType.BINARY:
                return

    def events(self, prompt_id: str | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Type and data of the text messages, of a prompt where one is named."""
        for message in self.received:
            if isinstance(message, dict) and prompt_id in (None, message["data"].get("prompt_id")):
                yield message["type"], message["data"]

    def names(self, prompt_id: str | None = None) -> list[str]:
        """Types of the text messages, with the node where they are about one."""
        return [f"{name} {data['node']}" if "node" in data else name for name, data in self.events(prompt_id)]

    @property
    def statuses(self) -> list[int]:
        return [data["status"]["exec_info"]["queue_remaining"] for name, data in self.events() if name == "status"]


@dataclass
class Frontend:
    """One frontend."""

    address: str
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        async with self.session.request(
            method, self.address + path, timeout=aiohttp.ClientTimeout(PATIENCE), **options
        ) as response:
            return Answer(response.status, await response.read())

    async def get(self, path: str, **options: Any) -> Any:
        answer = await self.ask("GET", path, **options)
        assert answer.status == 200, answer
        return answer.json()

    async def post(self, path: str, json: Any = None) -> Any:
        answer = await self.ask("POST", path, **({} if json is None else {"json": json}))
        assert answer.status == 200, answer
        return answer.json() if answer.body else None

    async def prompt(self, prompt: Prompt, **more: Any) -> str:
        """Submit; the prompt's id."""
        answer = await self.post("/prompt", {"prompt": prompt, **more})
        id_: str = answer["prompt_id"]
        return id_

    async def remaining(self) -> int:
        found: int = (await self.get("/prompt"))["exec_info"]["queue_remaining"]
        return found

    async def queue(self) -> tuple[list[str], list[str]]:
        """Ids of the running and of the pending prompts."""
        found = await self.get("/queue")
        running, pending = found["queue_running"], found["queue_pending"]
        return [item[1] for item in running], [item[1] for item in pending]

    async def ended(self, prompt_id: str) -> dict[str, Any]:
        """Wait for the prompt's history entry."""
        return await self.wait(lambda entries: entries.get(prompt_id), f"/history/{prompt_id}")

    async def running(self, prompt_id: str) -> None:
        """Wait until the prompt runs."""
        await self.wait(lambda queue: prompt_id in [item[1] for item in queue["queue_running"]], "/queue")

    async def idle(self) -> None:
        """Wait until nothing is left."""
        await self.wait(lambda found: found["exec_info"]["queue_remaining"] == 0, "/prompt")

    async def wait(self, wanted: Callable[[Any], Any], path: str) -> Any:
        """Ask until the answer is wanted; what is wanted of it. The longer it takes, the more seldom."""
        pause = 0.01
        async with asyncio.timeout(PATIENCE):
            while not (found := wanted(await self.get(path))):
                await asyncio.sleep(pause)
                pause = min(0.1, 1.3 * pause)
            return found

    async def clear(self) -> None:
        """Leave nothing waiting or running."""
        await self.post("/queue", {"clear": True})
        while await self.remaining():
            await self.post("/interrupt")
            await asyncio.sleep(0.05)

    async def log(self) -> str:
        text: str = await self.get("/internal/logs")
        return text

    @asynccontextmanager
    async def socket(self, client_id: str | None = None, *, flags: Any = None) -> AsyncIterator[Socket]:
        """A websocket that has received its first status, and the answer to its flags where it sends some."""
        query = f"?clientId={client_id}" if client_id else ""
        async with self.session.ws_connect(f"{self.address}/ws{query}", max_msg_size=0) as websocket:
            socket = Socket(websocket)
            await socket.event("status")
            if flags is not None:
                await websocket.send_str(json.dumps({"type": "feature_flags", "data": flags}))
                await socket.event("feature_flags")
            socket.received.clear()
            yield socket


@asynccontextmanager
async def frontend_at(address: str) -> AsyncIterator[Frontend]:
    async with aiohttp.ClientSession() as session:
        yield Frontend(address, session)
