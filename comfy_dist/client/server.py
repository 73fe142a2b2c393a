"""The server: ComfyUI's routes as calls."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import aiohttp

from comfy_dist.client.sentences import refusal
from comfy_dist.errors import ComfyDistError, ServerUnreachable

#: Seconds until a server that says nothing counts as unreachable; uploads and downloads may take longer in all.
ANSWER_TIMEOUT = 30.0
CONNECT_TIMEOUT = 10.0
CHUNK = 256 * 1024
#: Largest websocket message taken; previews are smaller, errors with tensors' reprs rarely larger.
MAX_MESSAGE = 64 * 2**20
#: Answers of proxies in front of a server that is away, and of a frontend whose broker is.
_AWAY = frozenset({502, 503, 504})
#: Who asks is not known, or may not.
_DENIED = frozenset({401, 403})


class Refused(ComfyDistError):
    """The server answered and said no."""

    def __init__(self, sentence: str, status: int, body: Any = None) -> None:
        super().__init__(sentence)
        self.status = status
        #: The JSON it sent, if it was JSON.
        self.body = body


class Denied(Refused):
    """The server does not know who asks, or does not let them."""

    exit_code = 4


class Server:
    """One server and a session with it; use as `async with Server(url) as server`."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Server:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=ANSWER_TIMEOUT)
        self._session = aiohttp.ClientSession(timeout=timeout, trust_env=True, headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def get(self, path: str, **query: str | int) -> Any:
        async with self._ask("GET", path, params=query) as answer:
            return await _json(answer)

    async def post(self, path: str, body: Any) -> Any:
        async with self._ask("POST", path, json=body) as answer:
            return await _json(answer)

    async def upload(self, file: Path) -> str:
        """Put a file into the server's input folder; the name by which nodes load it."""
        with file.open("rb") as content:
            form = aiohttp.FormData()
            form.add_field("image", content, filename=file.name)
            async with self._ask("POST", "/upload/image", data=form) as answer:
                stored = await _json(answer)
        return f"{stored['subfolder']}/{stored['name']}" if stored.get("subfolder") else str(stored["name"])

    async def download(self, reference: dict[str, str], into: BinaryIO) -> None:
        """Write what GET /view sends for {filename, subfolder, type}, as it arrives."""
        query = {key: str(reference.get(key) or "") for key in ("filename", "subfolder")}
        async with self._ask(
            "GET", "/view", params={**query, "type": reference.get("type") or "output"}
        ) as answer:
            async for chunk in answer.content.iter_chunked(CHUNK):
                await asyncio.to_thread(into.write, chunk)

    @asynccontextmanager
    async def websocket(self, client_id: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        assert self._session is not None
        scheme, rest = self.url.split(":", 1)
        address = f"{'wss' if scheme == 'https' else 'ws'}:{rest}/ws"
        connecting = self._session.ws_connect(
            address, params={"clientId": client_id}, heartbeat=20.0, max_msg_size=MAX_MESSAGE
        )
        async with connecting as socket:
            yield socket

    @asynccontextmanager
    async def _ask(self, method: str, path: str, **arguments: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer of 200. Raises ServerUnreachable where none comes, Refused for any other."""
        assert self._session is not None
        try:
            async with self._session.request(method, self.url + path, **arguments) as answer:
                if answer.status in _AWAY:
                    raise ServerUnreachable(f"{self._name} cannot answer now: {await _said(answer)}")
                if answer.status in _DENIED:
                    raise Denied(await self._denied(answer), answer.status)
                if not answer.ok:
                    body = await _body(answer)
                    raise Refused(refusal(body, answer.status, path), answer.status, body)
                yield answer
        except TimeoutError:
            raise ServerUnreachable(f"{self._name} did not answer in {ANSWER_TIMEOUT:g} s.") from None
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise ServerUnreachable(f"{self._name} does not answer ({_reason(error)}).") from error
        except aiohttp.ClientError as error:
            raise ServerUnreachable(f"{self._name} does not answer as ComfyUI does ({error}).") from error

    async def _denied(self, answer: aiohttp.ClientResponse) -> str:
        said = await _said(answer)
        if answer.status == 401 and not self._headers:
            return f"{self._name} asks for a key: give --token (or COMFYUI_TOKEN). {said}"
        return f"{self._name} refused: {said}"

    @property
    def _name(self) -> str:
        """The address without what it may hold of passwords."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


async def _json(answer: aiohttp.ClientResponse) -> Any:
    text = await answer.text()
    try:
        return json.loads(text) if text else None
    except ValueError:
        raise Refused(
            f"{answer.url.path} was not answered with JSON; is this a ComfyUI server?", answer.status
        ) from None


async def _body(answer: aiohttp.ClientResponse) -> Any:
    try:
        return json.loads(await answer.text())
    except ValueError:
        return None


async def _said(answer: aiohttp.ClientResponse) -> str:
    return refusal(await _body(answer), answer.status, answer.url.path)


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error) or type(error).__name__
