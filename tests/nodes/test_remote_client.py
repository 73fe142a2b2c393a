"""Remotes that do not what a ComfyUI does: what they did is said, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from PIL import Image

from comfy_dist.errors import ComfyDistError
from comfy_dist.nodes.remote import received, remote_client
from comfy_dist.nodes.remote.received import image_in, one_batch
from comfy_dist.nodes.remote.remote_client import Progress, execute_on
from tests.support.patience import PATIENCE

PROMPT = {"1": {"class_type": "PreviewImage", "inputs": {"images": ["0", 0]}}}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def png() -> bytes:
    body = io.BytesIO()
    Image.new("RGBA", (3, 2), (10, 20, 30, 40)).save(body, "PNG")
    return body.getvalue()


@dataclass
class Remote:
    """A ComfyUI with one picture to show; `instead` are routes that answer otherwise."""

    instead: dict[str, Handler] = field(default_factory=dict)
    #: How the prompt has ended; None: it goes on.
    status: dict[str, Any] | None = field(default_factory=lambda: {"status_str": "success", "messages": []})
    images: list[dict[str, str]] = field(default_factory=lambda: [{"filename": "a b&c.png", "type": "temp"}])
    #: Whether it runs, whatever its status.
    queued: bool = True
    asked: list[tuple[str, Any]] = field(default_factory=list)
    viewed: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    prompt_id: str = ""
    address: str = ""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    #: Sent to whoever listens when the prompt is there.
    told: list[str | bytes] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.headers.append(dict(request.headers))
        body = await request.text() if path != "/upload/image" and request.can_read_body else ""
        self.asked.append((f"{request.method} {path.replace(self.prompt_id or '-', 'ID')}", body))
        for start, handler in self.instead.items():
            if path.startswith(start):
                return await handler(request)
        match path.split("/")[1]:
            case "ws":
                return await self._listen(request)
            case "prompt":
                self.prompt_id = json.loads(body)["prompt_id"]
                self.begun.set()
                return web.json_response({"prompt_id": self.prompt_id, "number": 1, "node_errors": {}})
            case "queue":
                running = [[1, self.prompt_id, {}]] if self.queued and self.begun.is_set() else []
                return web.json_response({"queue_running": running, "queue_pending": []})
            case "history":
                outputs = {"1": {"images": self.images}}
                ended = (
                    {} if self.status is None else {self.prompt_id: {"outputs": outputs, "status": self.status}}
                )
                return web.json_response(ended)
            case "view":
                self.viewed.append(dict(request.query))
                return web.Response(body=png(), content_type="image/png")
        return web.Response()

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        while not self.begun.is_set():
            # Until there is a prompt, or nobody who listens.
            with contextlib.suppress(TimeoutError):
                if (await socket.receive(timeout=0.02)).type is not WSMsgType.TEXT:
                    return socket
        for each in self.told:
            each = each.replace('"ID"', json.dumps(self.prompt_id)) if isinstance(each, str) else each
            await (socket.send_str(each) if isinstance(each, str) else socket.send_bytes(each))
        ended = {"type": "execution_success", "data": {"prompt_id": self.prompt_id}}
        if self.status is not None:
            await socket.send_str(json.dumps(ended))
        async for message in socket:
            assert message.type is WSMsgType.TEXT
        return socket

    async def execute(self) -> dict[str, list[bytes]]:
        async with asyncio.timeout(PATIENCE):
            return await execute_on(self.address, PROMPT, {}, [], self.progress.append)


@asynccontextmanager
async def serving(remote: Remote) -> AsyncIterator[Remote]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", remote.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    remote.address = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/"  # type: ignore[union-attr]
    try:
        yield remote
    finally:
        await runner.cleanup()


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As --allow-remote-host does."""
    monkeypatch.setenv("COMFYUI_ALLOW_REMOTE_HOST", "127.0.0.1")


def always(response: Callable[[], web.Response]) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return response()

    return answer


def page() -> web.Response:
    return web.Response(text="<html><body>Log in</body></html>", content_type="text/html")


async def error_of(remote: Remote) -> str:
    async with serving(remote):
        with pytest.raises(ComfyDistError) as raised:
            await remote.execute()
    return str(raised.value)


async def test_what_a_remote_shows_comes_back_with_its_progress_and_previews() -> None:
    """What is not understood, or is about another prompt, is passed over."""
    progress = {"type": "progress", "data": {"prompt_id": "ID", "value": 1, "max": 4}}
    another = {"type": "execution_error", "data": {"prompt_id": "another"}}
    remote = Remote(told=["no JSON", "[]", '{"type": "progress"}', b"short", json.dumps(another)])
    remote.told += [
        (9).to_bytes(8, "big") + b"else",
        json.dumps(progress),
        bytes([0, 0, 0, 1, 0, 0, 0, 2]) + png(),
    ]
    async with serving(remote):
        files = await remote.execute()
    assert files == {"1": [png()]}
    assert image_in(files["1"][0]).mul(255).round().tolist()[0][0][0] == [10, 20, 30, 40]
    assert remote.progress == [Progress(1, 4), Progress(1, 4, png())]
    assert remote.viewed == [{"filename": "a b&c.png", "type": "temp", "subfolder": ""}]
    assert "POST /interrupt" not in dict(remote.asked)


@pytest.mark.parametrize("route", ["/queue", "/prompt", "/history", "/ws"])
async def test_a_page_in_the_place_of_a_comfyui_is_told_apart(route: str) -> None:
    assert "as a ComfyUI would" in await error_of(Remote(instead={route: always(page)}))


async def test_a_page_in_the_place_of_an_image_is_no_image() -> None:
    with pytest.raises(ComfyDistError, match="remote's image"):
        image_in(b"<html><body>Log in</body></html>")


async def test_images_of_several_sizes_are_no_batch() -> None:
    body = io.BytesIO()
    Image.new("RGB", (4, 4)).save(body, "PNG")
    with pytest.raises(ComfyDistError, match="3x2 with 4 channels and 4x4 with 3 channels"):
        one_batch([image_in(png()), image_in(body.getvalue())], "The remote")


async def test_a_decompression_bomb_is_no_image() -> None:
    body = io.BytesIO()
    Image.new("1", (14_000, 14_000)).save(body, "PNG")
    assert len(body.getvalue()) < 1_000_000
    with pytest.raises(ComfyDistError, match="pixels"):
        image_in(body.getvalue())


async def test_a_redirect_is_not_followed() -> None:
    def away() -> web.Response:
        return web.Response(status=302, headers={"Location": "http://169.254.169.254/latest"})

    remote = Remote(instead={"/queue": always(away)})
    assert "a redirect to http://169.254.169.254/latest; give that address" in await error_of(remote)


async def test_a_remote_that_lets_nobody_in_is_told() -> None:
    remote = Remote(instead={"/queue": always(lambda: web.Response(status=401))})
    assert "it wants a user, or a key (--remote-keys)" in await error_of(remote)


async def test_a_key_goes_to_whom_it_is_for_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys"
    monkeypatch.setenv("COMFYUI_REMOTE_KEYS", str(keys))
    async with serving(Remote()) as one, serving(Remote()) as other:
        keys.write_text(f"# A remark\n\n{one.address} a-key-of-one\n")
        for remote in (one, other):
            await remote.execute()
        assert {headers.get("Authorization") for headers in one.headers} == {"Bearer a-key-of-one"}
        assert {headers.get("Authorization") for headers in other.headers} == {None}
        # Who is told a user by the workflow is told no key.
        one.headers.clear()
        one.address = one.address.replace("http://", "http://user:word@")
        await one.execute()
        assert {headers["Authorization"].split()[0] for headers in one.headers} == {"Basic"}


async def test_errors_of_nodes_are_shown() -> None:
    errors = [{"type": "t", "message": "Value not in list", "details": "sampler: 'x' not in [...]"}]
    answer = {"error": {"message": "failed"}, "node_errors": {"7": {"class_type": "KSampler", "errors": errors}}}
    remote = Remote(instead={"/prompt": always(lambda: web.json_response(answer, status=400))})
    message = await error_of(remote)
    assert "rejected the prompt: node 7 (KSampler): Value not in list: sampler: 'x' not in [...]." in message


async def test_a_full_disk_there_is_told() -> None:
    about = {
        "node_id": "1",
        "node_type": "PreviewImage",
        "exception_message": "[Errno 28] No space left on device\n",
    }
    remote = Remote(status={"status_str": "error", "messages": [["execution_error", about]]})
    message = await error_of(remote)
    assert "failed at node 1 (PreviewImage): [Errno 28] No space left on device" in message
    assert remote.address.rstrip("/") in message


async def test_an_interrupt_there_is_told() -> None:
    remote = Remote(status={"status_str": "error", "messages": [["execution_interrupted", {}]]})
    assert "was told to interrupt the prompt" in await error_of(remote)


async def test_an_answer_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_client, "MOST_JSON", 2**16)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"[" * 2**14)

    assert "which is all that is read" in await error_of(Remote(instead={"/prompt": endless}))


async def test_images_that_are_too_large_together_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_client, "MOST_BYTES", len(png()) + 1)
    remote = Remote()
    remote.images *= 2
    assert "which is all that is read" in await error_of(remote)
    monkeypatch.setattr(received, "MOST_TOGETHER", 11)
    with pytest.raises(ComfyDistError, match="more than 11 pixels together"):
        received.images_in([png()] * 2)


async def test_a_remote_that_vanishes_in_the_middle_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_client, "AGAIN_SECONDS", 0.05)
    remote = Remote(status=None)
    async with serving(remote):
        running = asyncio.create_task(remote.execute())
        await asyncio.wait_for(remote.begun.wait(), PATIENCE)
    # Not before: it may be as long until the prompt is there.
    monkeypatch.setattr(remote_client, "GONE_SECONDS", 0.2)
    with pytest.raises(ComfyDistError, match=r"has not answered for 0.2 s: .* cannot be reached"):
        await running


async def test_a_remote_that_never_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_client, "GONE_SECONDS", 0.2)
    monkeypatch.setattr(remote_client, "CALL_OFF_SECONDS", 0.1)

    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    assert "did not answer" in await error_of(Remote(instead={"/prompt": silent}))


async def test_a_remote_that_was_started_anew_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_client, "LOST_SECONDS", 0.1)
    monkeypatch.setattr(remote_client, "LOOK_SECONDS", 0.05)
    assert "knows no longer of the prompt" in await error_of(Remote(status=None, queued=False))


async def test_a_lost_websocket_and_a_bad_gateway_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_client, "AGAIN_SECONDS", 0.05)
    remote = Remote(status=None)
    answers = 0

    async def busy(request: web.Request) -> web.StreamResponse:
        nonlocal answers
        answers += 1
        if answers in (2, 3):
            return web.Response(status=502)
        if answers > 4:
            remote.status = {"status_str": "success", "messages": []}
        return web.json_response({"queue_running": [[1, remote.prompt_id or "another"]], "queue_pending": []})

    async def closing(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await remote.begun.wait()
        await socket.close()
        return socket

    remote.instead = {"/queue": busy, "/ws": closing}
    async with serving(remote):
        assert await remote.execute() == {"1": [png()]}
    assert answers > 4


async def test_what_is_cancelled_is_called_off_there_and_nothing_else() -> None:
    remote = Remote(status=None)
    async with serving(remote):
        running = asyncio.create_task(remote.execute())
        await asyncio.wait_for(remote.begun.wait(), PATIENCE)
        running.cancel()
        await asyncio.wait([running])
    asked = dict(remote.asked)
    assert json.loads(asked["POST /queue"]) == {"delete": [remote.prompt_id]}
    assert json.loads(asked["POST /interrupt"]) == {"prompt_id": remote.prompt_id}


async def test_what_does_not_run_is_not_interrupted() -> None:
    """Older ComfyUIs interrupt whatever runs."""
    remote = Remote(status=None, queued=False)
    async with serving(remote):
        running = asyncio.create_task(remote.execute())
        await asyncio.wait_for(remote.begun.wait(), PATIENCE)
        running.cancel()
        await asyncio.wait([running])
    assert "POST /interrupt" not in dict(remote.asked)


async def test_passwords_are_not_shown() -> None:
    remote = Remote(instead={"/queue": always(page)})
    async with serving(remote):
        remote.address = remote.address.replace("http://", "http://user:secret@")
        with pytest.raises(ComfyDistError) as raised:
            await remote.execute()
    assert "secret" not in str(raised.value)
