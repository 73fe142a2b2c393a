"""A prompt on another ComfyUI, through its HTTP API and websocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import struct
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from comfy_dist.errors import ComfyDistError
from comfy_dist.nodes.remote.remote_errors import RemoteFailed, failure_of, refusal_of
from comfy_dist.outside.allowed import allowed_here
from comfy_dist.outside.errors import OutsideFailed, reaching, shown
from comfy_dist.outside.fetching import read_capped
from comfy_dist.outside.keys import key_for
from comfy_dist.outside.limits import MOST_BYTES
from comfy_dist.outside.session import guarded_session

log = logging.getLogger(__name__)

#: Seconds without an answer after which a remote is taken for gone.
GONE_SECONDS = 30.0
#: Seconds between two looks whether the prompt has ended, in case its websocket does not tell.
LOOK_SECONDS = 5.0
#: The first of them when it has told.
TOLD_SECONDS = 0.05
#: Seconds between two tries to reach a remote that does not answer.
AGAIN_SECONDS = 1.0
#: Seconds after which a prompt that is neither queued nor in the history is lost.
LOST_SECONDS = 5.0
#: Seconds for calling a prompt off.
CALL_OFF_SECONDS = 10.0
#: Seconds between pings of the websocket.
HEARTBEAT_SECONDS = 10.0
#: Seconds that it may take to say good-bye.
CLOSE_SECONDS = 1.0
#: Bytes of an answer in JSON, and of a websocket's message.
MOST_JSON = 64 * 2**20
MOST_MESSAGE = 16 * 2**20
#: Where uploads go in the remote's input folder, each in a folder named by its content.
UPLOADS = "remote"

_OVER = frozenset({"execution_success", "execution_error", "execution_interrupted"})
_TWO_NUMBERS = struct.Struct(">II")
_PREVIEW = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """Of the node that the remote executes; `picture` is a JPEG or PNG of it."""

    value: float = 0
    most: float = 1
    picture: bytes | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that an input of the prompt names."""

    node: str
    input: str
    path: Path
    #: sha256 of it, in hex.
    content: str


Told = Callable[[Progress], None]


class OwnCluster(ComfyDistError):
    """The address is that of the cluster which executes the prompt itself."""


async def execute_on(
    url: str,
    prompt: Mapping[str, Mapping[str, Any]],
    extra_data: Mapping[str, Any],
    uploads: Sequence[Upload],
    told: Told,
    own: str = "",
) -> dict[str, list[bytes]]:
    """What the image nodes of the prompt showed there, as files, by their ids; called off where it is cancelled.

    `own`: id of the prompt that wants them. Raises RemoteFailed, OutsideFailed, OutsideRefused; OwnCluster where
    that is queued or runs there.
    """
    async with guarded_session(allowed_here(), silence=GONE_SECONDS) as session:
        remote = _Remote(session, url, told)
        # What is no ComfyUI is found out by this too.
        if await remote.has(own):
            raise OwnCluster(f"{shown(url)} is this cluster.")
        for upload in uploads:
            name = await remote.upload(upload)
            node = prompt[upload.node]
            prompt = {**prompt, upload.node: {**node, "inputs": {**node["inputs"], upload.input: name}}}
        entry = await remote.executed(prompt, extra_data)
        outputs = entry.get("outputs")
        left = MOST_BYTES
        files: dict[str, list[bytes]] = {}
        for node_id, output in outputs.items() if isinstance(outputs, dict) else ():
            if isinstance(output, dict) and isinstance(images := output.get("images"), list):
                files[node_id] = []
                for image in images:
                    files[node_id].append(await remote.view(image, left))
                    left -= len(files[node_id][-1])
        return files


class _Remote:
    """One ComfyUI, for one prompt."""

    def __init__(self, session: aiohttp.ClientSession, url: str, told: Told) -> None:
        parts = urlsplit(url)
        self._session = session
        self._base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._name = f"ComfyUI at {shown(self._base)}"
        self._told = told
        self._progress = Progress()
        self._client = uuid.uuid4().hex
        key = key_for(self._base)
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    async def upload(self, upload: Upload) -> str:
        """Its name there, as an input has it."""
        folder = f"{UPLOADS}/{upload.content[:32]}"
        with await asyncio.to_thread(upload.path.open, "rb") as file:
            form = aiohttp.FormData(quote_fields=False)
            for name, value in (("type", "input"), ("subfolder", folder), ("overwrite", "true")):
                form.add_field(name, value)
            # A line's end in it would be one of the form's.
            called = "".join(letter if letter.isprintable() else "_" for letter in upload.path.name)
            form.add_field("image", file, filename=called)
            answer = await self._json("POST", "upload/image", data=form)
        if not isinstance(answer, dict) or not isinstance(answer.get("name"), str):
            raise self._no_comfyui("POST /upload/image")
        return f"{answer.get('subfolder') or ''}/{answer['name']}".lstrip("/")

    async def executed(
        self, prompt: Mapping[str, Mapping[str, Any]], extra_data: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Its entry in the history, once it has ended well."""
        prompt_id = str(uuid.uuid4())
        async with contextlib.AsyncExitStack() as sockets:
            socket: aiohttp.ClientWebSocketResponse | None = await sockets.enter_async_context(self._listening())
            async with self._queued(prompt, prompt_id, extra_data) as prompt_id:
                answered, there, wait = time.monotonic(), time.monotonic(), LOOK_SECONDS
                while True:
                    if socket is None:
                        await asyncio.sleep(AGAIN_SECONDS)
                    elif await self._hear(socket, prompt_id, wait):
                        wait = TOLD_SECONDS
                    elif socket.closed:
                        socket = None
                    try:
                        entry, queued = await self._state(prompt_id)
                        if entry is None and socket is None:
                            socket = await sockets.enter_async_context(self._listening())
                    except OutsideFailed as error:
                        if time.monotonic() - answered > GONE_SECONDS:
                            why = f"has not answered for {GONE_SECONDS:g} s"
                            raise RemoteFailed(f"{self._name} {why}: {error}") from error
                        continue
                    answered = time.monotonic()
                    if entry is not None:
                        break
                    if queued:
                        there = answered
                    elif answered - there > LOST_SECONDS:
                        raise RemoteFailed(f"{self._name} knows no longer of the prompt: was it started anew?")
                    wait = min(2 * wait, LOOK_SECONDS)
        if (failure := failure_of(self._name, entry)) is not None:
            raise failure
        return entry

    async def view(self, image: Any, most: int) -> bytes:
        """A file that the history tells of, of so many bytes at most."""
        if not isinstance(image, dict):
            raise self._no_comfyui("GET /history")
        query = {key: str(image.get(key, "")) for key in ("filename", "subfolder", "type")}
        return await self._ask("GET", "view", params=query, most=most)

    # Inside

    @asynccontextmanager
    async def _queued(
        self, prompt: Mapping[str, Any], prompt_id: str, extra_data: Mapping[str, Any]
    ) -> AsyncIterator[str]:
        """While the prompt is queued there, under the id that is given; it is called off when this fails."""
        body = {
            "prompt": prompt,
            "prompt_id": prompt_id,
            "client_id": self._client,
            "extra_data": dict(extra_data),
        }
        try:
            answer = await self._json("POST", "prompt", json=body)
            # ComfyUIs before 0.3.45 choose an id themselves.
            prompt_id = answer["prompt_id"] if isinstance(answer, dict) and "prompt_id" in answer else prompt_id
            yield prompt_id
        except BaseException:
            await self._call_off(prompt_id)
            raise

    async def _call_off(self, prompt_id: str) -> None:
        """Nothing else of the remote's is touched: older ComfyUIs interrupt whatever runs."""
        try:
            async with asyncio.timeout(CALL_OFF_SECONDS):
                await self._ask("POST", "queue", json={"delete": [prompt_id]})
                if prompt_id in _ids((await self._queue()).get("queue_running")):
                    await self._ask("POST", "interrupt", json={"prompt_id": prompt_id})
        except (ComfyDistError, TimeoutError) as error:
            log.debug("The prompt %s may go on at %s: %s", prompt_id, self._name, error)

    async def has(self, prompt_id: str) -> bool:
        """Whether the prompt is queued there, or runs."""
        queue = await self._queue()
        return any(prompt_id in _ids(queue.get(f"queue_{state}")) for state in ("running", "pending"))

    async def _state(self, prompt_id: str) -> tuple[dict[str, Any] | None, bool]:
        """Its entry in the history, and whether it is queued or runs; asked for as it goes, from there to here."""
        waits = await self.has(prompt_id)
        found = await self._json("GET", f"history/{prompt_id}")
        if not isinstance(found, dict):
            raise self._no_comfyui("GET /history")
        entry = found.get(prompt_id)
        return (entry if isinstance(entry, dict) else None), waits

    async def _queue(self) -> dict[str, Any]:
        queue = await self._json("GET", "queue")
        if not isinstance(queue, dict):
            raise self._no_comfyui("GET /queue")
        return queue

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        url = f"{self._base}/ws"
        with reaching(url):
            try:
                socket = await self._session.ws_connect(
                    url,
                    params={"clientId": self._client},
                    headers=self._headers,
                    heartbeat=HEARTBEAT_SECONDS,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                    max_msg_size=MOST_MESSAGE,
                )
            except aiohttp.WSServerHandshakeError as error:
                raise self._no_comfyui(f"GET /ws ({error.status})") from None
        async with socket:
            yield socket

    async def _hear(self, socket: aiohttp.ClientWebSocketResponse, prompt_id: str, seconds: float) -> bool:
        """Tell of progress for so long; True as soon as it is over, False too where the socket is closed."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                message = await socket.receive(timeout=left)
            except TimeoutError:
                break
            if message.type is aiohttp.WSMsgType.TEXT:
                if self._is_over(message.data, prompt_id):
                    return True
            elif message.type is aiohttp.WSMsgType.BINARY:
                self._see(message.data)
            else:
                await socket.close()
                break
        return False

    def _is_over(self, text: str, prompt_id: str) -> bool:
        try:
            message = json.loads(text)
            kind, data = message["type"], message["data"]
            if data.get("prompt_id") != prompt_id:
                return False
            if kind == "progress":
                self._progress = Progress(float(data["value"]), float(data["max"]))
                self._told(self._progress)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            log.debug("%s says what is not understood: %s", self._name, error)
            return False
        return kind in _OVER or (kind == "executing" and data.get("node") is None)

    def _see(self, frame: bytes) -> None:
        """u32 event, u32 format, a picture."""
        if len(frame) > _TWO_NUMBERS.size and _TWO_NUMBERS.unpack_from(frame)[0] == _PREVIEW:
            self._told(Progress(self._progress.value, self._progress.most, frame[_TWO_NUMBERS.size :]))

    async def _json(self, method: str, path: str, **options: Any) -> Any:
        body = await self._ask(method, path, **options)
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise self._no_comfyui(f"{method} /{path}") from None

    async def _ask(self, method: str, path: str, *, most: int = MOST_JSON, **options: Any) -> bytes:
        url = f"{self._base}/{path}"
        with reaching(url):
            async with self._session.request(
                method, url, headers=self._headers, allow_redirects=False, **options
            ) as response:
                body = await read_capped(response, most)
        if response.status != 200:
            raise refusal_of(self._name, f"{method} /{path}", response, body)
        return body

    def _no_comfyui(self, asked: str) -> RemoteFailed:
        return RemoteFailed(f"{shown(self._base)} does not answer {asked} as a ComfyUI would; check the address.")


def _ids(items: Any) -> set[Any]:
    """Of what a queue lists: [number, prompt id, …]."""
    found = (
        (item[1] for item in items if isinstance(item, list) and len(item) > 1) if isinstance(items, list) else ()
    )
    return {each for each in found if isinstance(each, str)}
