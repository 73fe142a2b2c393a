"""Posts the cases to a ComfyUI and writes down what it answers: validations.json and executions.json.

    python -m tests.engine.recorded.record http://127.0.0.1:8188

The files here are of a stock ComfyUI 0.3.64, just started (`main.py --cpu --disable-api-nodes --base-directory D`)
with the folders of tests/packs in D/custom_nodes. What differs from run to run is left out (`normal`).
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import re
import struct
import uuid
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image

from tests.engine.recorded.cases import EXECUTIONS, VALIDATIONS, Step

HERE = Path(__file__).parent
#: Sent about the server, not about a prompt.
_NOT_OF_A_PROMPT = {"status", "feature_flags", "logs"}
_SETS = {"executed", "current_outputs", "dependent_outputs"}


async def validations(address: str) -> dict[str, Any]:
    """{case: {status, body}} of POST /prompt."""
    async with aiohttp.ClientSession() as session:
        found = {}
        for name, body in VALIDATIONS.items():
            async with session.post(f"{address}/prompt", json=body) as response:
                found[name] = {"status": response.status, "body": normal(await response.json())}
        return found


async def executions(address: str) -> dict[str, Any]:
    """{case: [{events, history} of each step]}."""
    client = uuid.uuid4().hex
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{address}/ws?clientId={client}") as socket,
    ):
        await socket.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        driver = _Driver(address, session, socket, client)
        return {
            name: [await asyncio.wait_for(driver.step(step), 60) for step in steps]
            for name, steps in EXECUTIONS.items()
        }


class _Driver:
    def __init__(
        self,
        address: str,
        session: aiohttp.ClientSession,
        socket: aiohttp.ClientWebSocketResponse,
        client: str,
    ) -> None:
        self._address = address
        self._session = session
        self._socket = socket
        self._client = client

    async def step(self, step: Step) -> dict[str, Any]:
        body: dict[str, Any] = {"prompt": step.prompt}
        if not step.anonymous:
            body["client_id"] = self._client
        if step.targets is not None:
            body["partial_execution_targets"] = step.targets
        async with self._session.post(f"{self._address}/prompt", json=body) as response:
            answer = await response.json()
            if response.status != 200:
                return {"refused": normal(answer)}
            prompt_id = answer["prompt_id"]
        events = await self._events(prompt_id, step)
        history = await self._history(prompt_id)
        del history["prompt"]
        return {"events": normal(events, prompt_id), "history": normal(history, prompt_id)}

    async def _events(self, prompt_id: str, step: Step) -> list[Any]:
        """What the socket was sent of this prompt."""
        events: list[Any] = []
        while True:
            message = await self._socket.receive()
            if message.type is aiohttp.WSMsgType.BINARY:
                events.append(preview(message.data))
                continue
            assert message.type is aiohttp.WSMsgType.TEXT, message
            event = json.loads(message.data)
            name, data = event["type"], event["data"]
            if name in _NOT_OF_A_PROMPT or data.get("prompt_id") != prompt_id:
                continue
            if step.interrupt and name == "progress":
                step = Step(step.prompt, steps_count=step.steps_count)
                await self._session.post(f"{self._address}/interrupt")
            if step.steps_count or not _is_progress(name, data):
                events.append([name, data])
            if name == "executing" and data["node"] is None:
                return events
            if step.anonymous and name == "progress_state" and _all_finished(data, step.prompt):
                return events

    async def _history(self, prompt_id: str) -> dict[str, Any]:
        while prompt_id not in (found := await self._ask(f"/history/{prompt_id}")):
            await asyncio.sleep(0.01)
        return dict(found[prompt_id])

    async def _ask(self, path: str) -> Any:
        async with self._session.get(self._address + path) as response:
            return await response.json()


def _is_progress(name: str, data: dict[str, Any]) -> bool:
    return name == "progress" or (
        name == "progress_state" and any(0 < node["value"] < node["max"] for node in data["nodes"].values())
    )


def _all_finished(data: dict[str, Any], prompt: dict[str, Any]) -> bool:
    return all(data["nodes"].get(node_id, {}).get("state") == "finished" for node_id in prompt)


def preview(data: bytes) -> list[Any]:
    """A binary event as data: its metadata, and what the picture is."""
    kind, length = struct.unpack_from(">II", data)
    assert kind == 4, kind
    picture = Image.open(io.BytesIO(data[8 + length :]))
    return ["preview", json.loads(data[8 : 8 + length]), [picture.format, picture.mode, list(picture.size)]]


def normal(value: Any, prompt_id: str | None = None) -> Any:
    """`value` without what differs from run to run: ids, times, paths, frames of the server, the order of sets."""
    if isinstance(value, dict):
        return {key: _field(key, item, prompt_id) for key, item in value.items()}
    if isinstance(value, list):
        return [normal(item, prompt_id) for item in value]
    if isinstance(value, str):
        if value == prompt_id:
            return "<prompt>"
        return re.sub(r"0x[0-9a-f]{6,}", "0x…", value)
    return value


def _field(key: str, value: Any, prompt_id: str | None) -> Any:
    if key == "timestamp":
        return 0
    if key in ("prompt_id", "number"):
        return "<prompt>" if key == "prompt_id" else 0
    if key == "traceback":
        return [_frame(value[-1])] if value else []
    if key in _SETS and isinstance(value, list):
        # A stock ComfyUI tells of expansions of earlier prompts as well.
        return sorted(node_id for node_id in value if key == "executed" or "." not in node_id)
    if key == "errors" and isinstance(value, list):
        found = [normal(item, prompt_id) for item in value]
        return sorted(found, key=lambda error: (error["extra_info"].get("input_name", ""), error["type"]))
    if key == "details" and isinstance(value, str):
        return "\n".join(sorted(value.split("\n")))
    return normal(value, prompt_id)


def _frame(text: str) -> str:
    """The frame of a traceback that raised, for a node's code; servers differ."""
    where = re.match(r'  File ".*[/\\]custom_nodes[/\\]([^"]+)", line \d+', text)
    return where[1].replace("\\", "/") + text[where.end() :] if where else "the server"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("address")
    parser.add_argument("--into", type=Path, default=HERE)
    arguments = parser.parse_args()
    for name, recording in (("validations", validations), ("executions", executions)):
        found = asyncio.run(recording(arguments.address))
        (arguments.into / f"{name}.json").write_text(_lines(found), "utf-8")


def _lines(found: dict[str, Any]) -> str:
    """JSON with one case to a line."""
    cases = (f"{json.dumps(name)}: {json.dumps(each, ensure_ascii=False)}" for name, each in found.items())
    return "{\n" + ",\n".join(cases) + "\n}\n"


if __name__ == "__main__":
    main()
