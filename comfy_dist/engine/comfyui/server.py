"""ComfyUI's HTTP API, as much of it as an engine needs. Every wait ends, and no answer is read without bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp
from pydantic_core import from_json

from comfy_dist.engine.comfyui.address import Address, Redirected
from comfy_dist.engine.frames import encode_json
from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import Prompt

#: Seconds for an answer. A loading model may hold ComfyUI's interpreter for long.
ANSWER_SECONDS = 60.0
#: The same for what stops a prompt: who waits for it has little patience.
STOP_SECONDS = 5.0
#: Seconds between two pieces of a file.
PIECE_SECONDS = 60.0
CONNECT_SECONDS = 10.0
#: The largest JSON: object_info of hundreds of packs is some tens of MB.
MAX_JSON = 256 * 2**20
MAX_FILE = 16 * 2**30
_CHUNK = 2**18
#: Of an answer that is an error, so much is shown.
_SHOWN = 200


class ServerFault(ComfyDistError):
    """ComfyUI answered something that an engine cannot use."""


class Unreachable(ServerFault):
    """ComfyUI did not answer: not there, not yet, or not any more."""


class NotFound(ServerFault):
    """ComfyUI has no such route or file."""


@dataclass(frozen=True, slots=True)
class FileReference:
    """A file as ComfyUI names it: `type` is input, output or temp, `subfolder` may be empty."""

    type: str
    subfolder: str
    name: str

    def __str__(self) -> str:
        return f"{self.subfolder}/{self.name} [{self.type}]".lstrip("/")


@dataclass(frozen=True, slots=True)
class Submission:
    """The answer to POST /prompt: `error` is None where the prompt was accepted."""

    error: dict[str, Any] | None
    node_errors: dict[str, Any]


class Server:
    """A ComfyUI's HTTP API. Methods raise ServerFault with a sentence that names the address."""

    def __init__(self, address: Address, session: aiohttp.ClientSession) -> None:
        self.address = address
        self.session = session

    async def system_stats(self, timeout: float = ANSWER_SECONDS) -> dict[str, Any]:
        return await self._object("GET", "system_stats", timeout=timeout)

    async def object_info(self) -> dict[str, dict[str, Any]]:
        return await self._object("GET", "object_info")

    async def models(self) -> dict[str, tuple[str, ...]]:
        """{model folder: file names}."""
        folders = [str(name) for name in await self._list("models")]
        files = await asyncio.gather(*(self._list("models", name) for name in folders))
        return {folder: tuple(map(str, names)) for folder, names in zip(folders, files, strict=True)}

    async def submit(
        self,
        prompt: Prompt,
        prompt_id: str,
        client_id: str,
        extra_data: Mapping[str, Any],
        targets: tuple[str, ...],
    ) -> Submission:
        body = {
            "prompt": prompt,
            "prompt_id": prompt_id,
            "client_id": client_id,
            "extra_data": {key: value for key, value in extra_data.items() if key != "client_id"},
        }
        if targets:
            body["partial_execution_targets"] = list(targets)
        answer = await self._object("POST", "prompt", json=body, accept=(200, 400))
        if "prompt_id" in answer:
            if answer["prompt_id"] != prompt_id:
                raise ServerFault(
                    f"ComfyUI at {self.address} gave the prompt another id than it was asked to: it is older than "
                    "0.3.57."
                )
            return Submission(None, object_of(answer.get("node_errors")))
        if not isinstance(answer.get("error"), (dict, str)):
            raise self._not_comfyui("POST", "prompt")
        error = answer["error"]
        if isinstance(error, str):
            error = {"type": "refused", "message": error, "details": "", "extra_info": {}}
        return Submission(error, object_of(answer.get("node_errors")))

    async def history(self, prompt_id: str) -> dict[str, Any] | None:
        """The entry of a prompt that has ended."""
        entry = (await self._object("GET", "history", prompt_id)).get(prompt_id)
        if entry is not None and not isinstance(entry, dict):
            raise self._not_comfyui("GET", "history")
        return entry

    async def queued(self, prompt_id: str) -> list[Any] | None:
        """The queue's item of a prompt that waits or runs: number, id, prompt, extra_data, outputs."""
        queue = await self._object("GET", "queue")
        for item in list_of(queue.get("queue_running")) + list_of(queue.get("queue_pending")):
            if isinstance(item, list) and len(item) > 1 and item[1] == prompt_id:
                return item
        return None

    async def stop(self, prompt_id: str) -> None:
        """Take the prompt out of the queue, or interrupt it where it runs."""
        # In this order: one that starts in between is interrupted.
        await self._ask("POST", "queue", json={"delete": [prompt_id]}, timeout=STOP_SECONDS)
        await self._ask("POST", "interrupt", json={"prompt_id": prompt_id}, timeout=STOP_SECONDS)

    async def free(self, *, unload_models: bool, free_memory: bool) -> None:
        await self._ask("POST", "free", json={"unload_models": unload_models, "free_memory": free_memory})

    async def about_pack(self) -> dict[str, Any] | None:
        """What our node pack there says; None where it is not installed."""
        try:
            return await self._object("GET", "comfy_dist", "about")
        except NotFound:
            return None

    async def validate(self, prompt: Prompt, targets: tuple[str, ...] | None) -> dict[str, Any]:
        """The verdict of ComfyUI's own validation, by the route of our node pack."""
        return await self._object("POST", "comfy_dist", "validate", json={"prompt": prompt, "targets": targets})

    async def upload(self, file: BinaryIO, target: FileReference) -> FileReference:
        """Store a file's content; the reference it got, another where other content has that name."""
        form = aiohttp.FormData({"type": target.type, "subfolder": target.subfolder})
        form.add_field("image", file, filename=target.name, content_type="application/octet-stream")
        answer = await self._object("POST", "upload", "image", data=form, timeout=None)
        if not isinstance(answer.get("name"), str):
            raise self._not_comfyui("POST", "upload/image")
        subfolder = str(answer.get("subfolder") or "").replace("\\", "/")
        return FileReference(str(answer.get("type") or target.type), subfolder, answer["name"])

    async def download(self, file: FileReference, part: BinaryIO, here: Path | None) -> bool:
        """Write the file's content to `part`; False, and nothing written, where `here` is that same file.

        Then both work in one folder.
        """
        query = {"filename": file.name, "type": file.type, "subfolder": file.subfolder}
        async with self._answer("GET", "view", params=query, timeout=None) as response:
            if here is not None and await asyncio.to_thread(_same, here, response.headers):
                response.close()
                return False
            size = 0
            async for chunk in response.content.iter_chunked(_CHUNK):
                size += len(chunk)
                if size > MAX_FILE:
                    raise ServerFault(f"The file {file} of ComfyUI at {self.address} is larger than 16 GiB.")
                await asyncio.to_thread(part.write, chunk)
        return True

    async def _list(self, *parts: str) -> list[Any]:
        answer = await self._json("GET", *parts)
        if not isinstance(answer, list):
            raise self._not_comfyui("GET", "/".join(parts))
        return answer

    async def _object(self, method: str, *parts: str, **options: Any) -> dict[str, Any]:
        answer = await self._json(method, *parts, **options)
        if not isinstance(answer, dict):
            raise self._not_comfyui(method, "/".join(parts))
        return answer

    async def _json(self, method: str, *parts: str, **options: Any) -> Any:
        body = await self._ask(method, *parts, **options)
        try:
            # Large ones in a thread: object_info takes a tenth of a second, and the loop has others to serve.
            return from_json(body) if len(body) < 2**18 else await asyncio.to_thread(from_json, body)
        except ValueError:
            raise self._not_comfyui(method, "/".join(parts)) from None

    async def _ask(self, method: str, *parts: str, **options: Any) -> bytes:
        async with self._answer(method, *parts, **options) as response:
            return await self._read(response, "/".join(parts))

    async def _read(self, response: aiohttp.ClientResponse, route: str) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > MAX_JSON:
                raise ServerFault(
                    f"ComfyUI at {self.address} answered {response.method} /{route} with more than "
                    f"{MAX_JSON // 2**20} MB."
                )
        return bytes(body)

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        *parts: str,
        accept: tuple[int, ...] = (200,),
        timeout: float | None = ANSWER_SECONDS,
        json: Any = None,
        **options: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        route = "/".join(parts)
        if json is not None:
            options |= {"data": encode_json(json), "headers": {"Content-Type": "application/json"}}
        waits = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS, sock_read=PIECE_SECONDS)
        try:
            async with self.session.request(
                method, self.address.at(*parts), timeout=waits, allow_redirects=False, **options
            ) as response:
                if response.status not in accept:
                    raise await self._refusal(response, route)
                yield response
        except TimeoutError:
            raise Unreachable(
                f"ComfyUI at {self.address} did not answer {method} /{route} in {timeout or PIECE_SECONDS:g} s."
            ) from None
        except aiohttp.ClientError as error:
            raise Unreachable(f"ComfyUI at {self.address} cannot be reached: {in_words(error)}.") from None

    async def _refusal(self, response: aiohttp.ClientResponse, route: str) -> ServerFault:
        status = response.status
        answered = f"ComfyUI at {self.address} answered {response.method} /{route} with {status}"
        if 300 <= status < 400:
            return ServerFault(
                f"{answered}, a redirect to {response.headers.get('Location', '?')[:_SHOWN]}; give that address."
            )
        if status in (401, 407):
            return ServerFault(f"{answered}: it wants another token; give it with --engine-token.")
        if status in (404, 405):
            return NotFound(f"{answered}: it has no such route or file.")
        if status == 413:
            return ServerFault(f"{answered}: what was sent is too large for it; raise its --max-upload-size.")
        if status in (502, 503, 504):
            return Unreachable(f"{answered}.")
        text = (await response.content.read(_SHOWN * 4)).decode("utf-8", "replace")
        reason = " ".join(text.split())[:_SHOWN] if response.content_type != "text/html" else ""
        return ServerFault(f"{answered}: {reason.rstrip('.')}." if reason else f"{answered}.")

    def _not_comfyui(self, method: str, route: str) -> ServerFault:
        return ServerFault(
            f"What {self.address} answered to {method} /{route} is not ComfyUI's API: there is another service, "
            "or another version of ComfyUI."
        )


def in_words(error: aiohttp.ClientError) -> str:
    """The reason of a failed request, without the address that its sentence names."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error)
    if isinstance(error, Redirected):
        return str(error)
    return (str(error) or type(error).__name__).rstrip(".")


def object_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _same(path: Path, headers: Mapping[str, str]) -> bool:
    """Whether a file here is the one that is answered: of the same size, changed in the same nanosecond.

    aiohttp, which serves ComfyUI, says so in the ETag. Another form of it costs a copy of the file.
    """
    try:
        stat = path.stat()
    except OSError:
        return False
    return headers.get("ETag") == f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
