"""A ComfyUI client for tests: HTTP and a websocket that keeps what it was sent."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.patience import PATIENCE


def image(color: int = 0, size: int = 16) -> dict[str, Any]:
    """The smallest prompt with an output."""
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": size, "height": size, "batch_size": 1, "color": color},
        },
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }


def sleeping(seconds: float, steps: int = 10, tag: str = "") -> dict[str, Any]:
    """A prompt that reports `steps` of progress within `seconds`; the tag keeps it from being cached."""
    return {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": tag or uuid.uuid4().hex}},
        "2": {"class_type": "TestSleep", "inputs": {"seconds": seconds, "steps": steps, "value": ["1", 0]}},
        "3": {"class_type": "TestSink", "inputs": {"value": ["2", 0]}},
    }


def gated(gate: Path) -> dict[str, Any]:
    """A prompt that reports progress until the file exists; nothing of it is cached."""
    return sleeping(0) | {"2": {"class_type": "TestGate", "inputs": {"path": str(gate), "value": ["1", 0]}}}


class ComfyClient:
    """One client id at one frontend."""

    def __init__(self, session: aiohttp.ClientSession, address: str, client_id: str | None = None) -> None:
        self.session = session
        self.address = address
        self.id = client_id or uuid.uuid4().hex
        #: Text messages in the order they came.
        self.messages: list[dict[str, Any]] = []
        self._arrived = asyncio.Condition()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ComfyClient:
        self._socket = await self.session.ws_connect(f"{self.address}/ws?clientId={self.id}")
        self._reading = asyncio.create_task(self._read(self._socket))
        await self.seen(lambda message: message["type"] == "status")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._socket is not None:
            await self._socket.close()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                async with self._arrived:
                    self.messages.append(json.loads(message.data))
                    self._arrived.notify_all()

    async def seen(self, predicate: Any, timeout: float = PATIENCE) -> dict[str, Any]:
        """The first message, also of those that came already, for which the predicate holds."""

        def first() -> dict[str, Any] | None:
            return next((message for message in self.messages if predicate(message)), None)

        async with asyncio.timeout(timeout), self._arrived:
            await self._arrived.wait_for(lambda: first() is not None)
            found = first()
        assert found is not None
        return found

    async def ended(self, prompt_id: str, timeout: float = PATIENCE) -> list[str]:
        """Wait for the end of a prompt; the types of its messages in order."""
        await self.seen(
            lambda message: (
                message["type"] == "executing"
                and message["data"]["node"] is None
                and message["data"].get("prompt_id") == prompt_id
            ),
            timeout,
        )
        return [message["type"] for message in self.messages if message["data"].get("prompt_id") == prompt_id]

    async def post(self, prompt: dict[str, Any], **more: Any) -> str:
        """The id of the accepted prompt."""
        answer = await self.ask("POST", "/prompt", {"prompt": prompt, "client_id": self.id, **more})
        return str(answer["prompt_id"])

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a 200 answer (None for an empty one)."""
        async with self.session.request(method, self.address + path, json=body) as response:
            text = await response.text()
            assert response.status == 200, f"{method} {path}: {response.status} {text}"
            return json.loads(text) if text else None

    async def queue(self) -> tuple[set[str], set[str]]:
        """Ids of the running and of the pending prompts."""
        queue = await self.ask("GET", "/queue")
        running, pending = ({item[1] for item in queue[f"queue_{kind}"]} for kind in ("running", "pending"))
        return running, pending

    async def history(self) -> dict[str, Any]:
        return dict(await self.ask("GET", "/history"))

    async def until(self, condition: Any, timeout: float = PATIENCE) -> Any:
        """Ask again until the awaited condition holds; its value."""
        async with asyncio.timeout(timeout):
            while not (value := await condition()):
                await asyncio.sleep(0.05)
        return value

    async def in_history(self, prompt_id: str, timeout: float = PATIENCE) -> dict[str, Any]:
        async def entry() -> Any:
            return (await self.ask("GET", f"/history/{prompt_id}")).get(prompt_id)

        return dict(await self.until(entry, timeout))
