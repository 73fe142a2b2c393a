"""A small ComfyUI that is well until a test makes it sick: HTTP and websocket, nodes that do nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

from aiohttp import web

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: Of every file.
CONTENT = b"content"
_IMAGES = {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {"default": "x"}]}}
_NODES = {
    "EmptyImage": {"input": {"required": {}}, "output": ["IMAGE"], "output_node": False},
    "SaveImage": {"input": _IMAGES, "output": [], "output_node": True},
    "TestGate": {"input": {"required": {"path": ["STRING", {}]}}, "output": [], "output_node": True},
}


#: Events that no ComfyUI sends: type and data.
NONSENSE: list[tuple[Any, Any]] = [
    ("executing", {}),
    ("executing", {"node": 3, "display_node": []}),
    ("executed", {"output": ["a text"]}),
    ("executed", {"node": {}, "output": {"images": [{"filename": 3, "type": "output"}, {"type": 3}, None]}}),
    ("progress_state", {"nodes": [1]}),
    ("progress_state", {"nodes": {"1": 3, "2": {"state": []}}}),
    ("progress", {"value": "much", "node": {}}),
    ("execution_cached", {"nodes": 3}),
    ("execution_start", {"timestamp": None}),
    ("status", {"status": 3}),
    (3, {}),
    ("custom", {"prompt_id": 3}),
]


class SickComfyUI:
    """Executes a prompt at once, or when the files of its TestGates exist: each output node shows `files`.

    `answers` replaces routes.
    """

    def __init__(self) -> None:
        self.system: dict[str, Any] = {
            "comfyui_version": "0.3.64",
            "python_version": "3.11.7",
            "pytorch_version": "2",
        }
        #: "GET /system_stats": what answers it instead.
        self.answers: dict[str, Handler] = {}
        self.files: list[dict[str, Any]] = []
        #: What else stands in a history entry.
        self.entry: dict[str, Any] = {}
        #: Headers of every request.
        self.headers: list[dict[str, str]] = []
        self.history: dict[str, Any] = {}
        #: Events that are sent too: type and data.
        self.nonsense: list[tuple[Any, Any]] = []
        #: Close websockets as soon as they are open.
        self.hangs_up = False
        self.address = ""
        self._sockets: set[web.WebSocketResponse] = set()
        self._waiting: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def running(self, prefix: str = "", port: int = 0) -> AsyncIterator[SickComfyUI]:
        app = web.Application(middlewares=[self._instead], client_max_size=2**28)
        app.router.add_get("/system_stats", self._stats)
        app.router.add_get("/object_info", _json(_NODES))
        app.router.add_get("/models", _json([]))
        app.router.add_get("/queue", self._queue)
        app.router.add_get("/history/{id}", self._entry)
        app.router.add_get("/view", body(CONTENT))
        app.router.add_get("/ws", self._socket)
        app.router.add_post("/prompt", self._prompt)
        for route in ("/queue", "/interrupt", "/free"):
            app.router.add_post(route, body(b""))
        if prefix:
            below, app = app, web.Application()
            app.add_subapp(prefix, below)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            for task in self._waiting.values():
                task.cancel()
            for socket in list(self._sockets):
                await socket.close()
            await runner.cleanup()

    @web.middleware
    async def _instead(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        return await self.answers.get(f"{request.method} {request.path}", handler)(request)

    async def _stats(self, request: web.Request) -> web.Response:
        device = {"name": "cpu", "type": "cpu", "index": None}
        return web.json_response({"system": self.system, "devices": [device]})

    async def _entry(self, request: web.Request) -> web.Response:
        id_ = request.match_info["id"]
        return web.json_response({id_: self.history[id_]} if id_ in self.history else {})

    async def _queue(self, request: web.Request) -> web.Response:
        running = [[0, id_, {}, {}, []] for id_, task in self._waiting.items() if not task.done()]
        return web.json_response({"queue_running": running, "queue_pending": []})

    async def _prompt(self, request: web.Request) -> web.Response:
        asked = await request.json()
        id_, classes = asked["prompt_id"], [each["class_type"] for each in asked["prompt"].values()]
        if "TestGate" in classes:
            self._waiting[id_] = asyncio.create_task(self._execute(asked))
        else:
            await self._execute(asked)
        return web.json_response({"prompt_id": id_, "number": 1, "node_errors": {}})

    async def _execute(self, asked: dict[str, Any]) -> None:
        id_, prompt = asked["prompt_id"], asked["prompt"]
        outputs = {
            node: {"images": self.files}
            for node, entry in prompt.items()
            if _NODES.get(entry["class_type"], {}).get("output_node")
        }
        data = {"prompt_id": id_, "timestamp": 1}
        for event, more in [
            *self.nonsense,
            ("execution_start", {}),
            *self.nonsense,
            ("execution_cached", {"nodes": []}),
        ]:
            await self.say(event, {**data, **more})
        for node in outputs:
            await self.say("executing", {**data, "node": node})
            if prompt[node]["class_type"] == "TestGate":
                while not Path(prompt[node]["inputs"]["path"]).exists():
                    await self.say("progress", {"prompt_id": id_, "node": node, "value": 1, "max": 2})
                    await asyncio.sleep(0.05)
        self.history[id_] = {
            "prompt": [0, id_, prompt, {"client_id": asked["client_id"]}, list(outputs)],
            "outputs": outputs,
            "meta": {},
            "status": {
                "status_str": "success",
                "completed": True,
                "messages": [["execution_start", data], ["execution_success", data]],
            },
        } | self.entry
        for node, output in outputs.items():
            await self.say("executed", {**data, "node": node, "output": output})
        await self.say("execution_success", data)
        await self.say("executing", {**data, "node": None})

    async def say(self, event: str, data: Any) -> None:
        """To everyone who listens."""
        for socket in list(self._sockets):
            for text in (
                "no JSON",
                "[]",
                '{"type": "x"}',
                '{"data": 3}',
                json.dumps({"type": event, "data": data}),
            ):
                await socket.send_str(text)
            await socket.send_bytes(b"\0\0\0\4\0\0\0\3{}}")

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        if self.hangs_up:
            await socket.close()
            return socket
        self._sockets.add(socket)
        try:
            async for _ in socket:
                pass
        finally:
            self._sockets.discard(socket)
        return socket


def status(code: int, text: str = "", **headers: str) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=code, text=text, headers=headers)

    return answer


def body(content: bytes, content_type: str = "application/json") -> Handler:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=content, content_type=content_type)

    return answer


async def never(request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def endless(request: web.Request) -> web.StreamResponse:
    """More than anybody reads."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" " * 2**20)


def _json(value: Any) -> Handler:
    return body(json.dumps(value).encode())
