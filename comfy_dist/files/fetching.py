"""Files that others have, fetched: over HTTP where that is possible, else through the broker, piece by piece."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
import weakref
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import ValidationError

from comfy_dist.errors import ComfyDistError
from comfy_dist.files.cache import Cache
from comfy_dist.files.digests import digest_of
from comfy_dist.files.names import Named
from comfy_dist.files.relay import relayed
from comfy_dist.files.server import CHUNK
from comfy_dist.files.source import Broken, Stale, Stream, Unreachable
from comfy_dist.messages import Command, Grant
from comfy_dist.transport import Transport

log = logging.getLogger(__name__)

#: Seconds in which whoever has a file says so.
ASK_SECONDS = 1.0
#: Seconds for a connection; who is not there in this time is not there for UNREACHABLE_SECONDS.
CONNECT_SECONDS = 2.0
UNREACHABLE_SECONDS = 300.0
#: Seconds without a byte. The holder may read all of a large file before the first one.
READ_SECONDS = 60.0
#: Tries to get to the end of a file that is there.
TRIES = 4
#: Seconds between looks for a file that must be somewhere.
RETRY_SECONDS = 1.0
#: Transfers through the broker at a time; each has a few pieces under way.
RELAYS = 2


class NotFetched(ComfyDistError):
    """A file that nobody gave, or not to its end."""


class NotKept(NotFetched):
    """A file for which there is no place here."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to be fetched."""

    file: Named
    #: The folder it lies in; None: whoever has one of that name.
    folder: str | None = None
    #: What it must contain; None: what the holder says it does.
    sha256: str | None = None

    def key(self, grant: Grant | None = None) -> str | None:
        """What it is kept under: its content, or the version of it that was granted."""
        if self.sha256 is not None:
            return self.sha256
        if grant is None:
            return None
        version = f"{self.file.type}\0{self.file.name}\0{grant.size}\0{grant.changed_at}"
        return hashlib.sha256(version.encode("utf-8", "surrogatepass")).hexdigest()


class Fetcher:
    """Fetches for one participant, each file once at a time. To be closed."""

    def __init__(self, transport: Transport, cache: Cache) -> None:
        self._transport = transport
        self._cache = cache
        self._session: aiohttp.ClientSession | None = None
        #: When those addresses may be tried again.
        self._unreachable: dict[str, float] = {}
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._relays = asyncio.Semaphore(RELAYS)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch(self, wanted: Wanted, patience: float = 0.0) -> Path:
        """The file, in the cache. `patience`: seconds to go on looking for somebody who has it.

        Raises NotFetched, and of those NotKept where it cannot be stored here.
        """
        if (key := wanted.key()) is not None and (path := await asyncio.to_thread(self._cache.find, key)):
            return path
        deadline = time.monotonic() + patience
        problem, stale = f"Nobody who can be reached has the file {wanted.file.name!r}.", 0
        while True:
            if (grant := await self._ask(wanted)) is not None:
                try:
                    return await self._once(wanted, grant)
                except Stale as error:
                    problem, stale = f"The file {wanted.file.name!r} cannot be fetched: {error}.", stale + 1
            if time.monotonic() >= deadline and stale != 1:
                raise NotFetched(problem)
            await asyncio.sleep(RETRY_SECONDS)

    async def _ask(self, wanted: Wanted) -> Grant | None:
        arguments: dict[str, Any] = {"type": wanted.file.type, "name": wanted.file.name}
        if wanted.folder is not None:
            arguments["folder"] = wanted.folder
        reply = await self._transport.ask(Command(verb="grant", arguments=arguments), ASK_SECONDS)
        if reply is None or "token" not in reply.result:
            return None
        try:
            return Grant.model_validate(reply.result)
        except ValidationError as error:
            log.warning("What %s says of a file is not understood: %s", reply.worker, error)
            return None

    async def _once(self, wanted: Wanted, grant: Grant) -> Path:
        """Whoever wants the same meanwhile waits, and finds it."""
        key = wanted.key(grant)
        assert key is not None
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        async with lock:
            if path := await asyncio.to_thread(self._cache.find, key):
                return path
            try:
                part = await asyncio.to_thread(self._cache.part, key)
                try:
                    await self._transfer(wanted, grant, part)
                    return await asyncio.to_thread(self._cache.keep, key, part, grant.changed_at)
                except OSError:
                    # The beginning of a file must not keep a disk full.
                    await asyncio.to_thread(part.unlink, missing_ok=True)
                    raise
            except OSError as error:
                raise NotKept(
                    f"The file {wanted.file.name!r} cannot be kept here: {error.strerror or error}."
                ) from None

    async def _transfer(self, wanted: Wanted, grant: Grant, part: Path) -> None:
        """Put the file together; what is there of an earlier try is gone on from."""
        problem = ""
        for _ in range(TRIES):
            for way in (self._direct, self._through_the_broker):
                try:
                    digest = await self._receive(way(grant), part, grant.size)
                except Unreachable:
                    continue
                except Stale:
                    raise
                except Broken as error:
                    problem = str(error)
                    continue
                if await asyncio.to_thread(digest_of, part) == digest == (wanted.sha256 or digest):
                    return
                problem = "what came is not what was sent, or the file has changed"
                await asyncio.to_thread(part.unlink)
        raise NotFetched(f"The file {wanted.file.name!r} cannot be fetched: {problem}.")

    async def _receive(self, stream: Stream, part: Path, size: int) -> str:
        """Append what comes; what the sender says it contains. Raises Unreachable, Broken and OSError."""
        file = await asyncio.to_thread(part.open, "ab")
        try:
            offset = file.tell()
            if offset > size:
                offset = await asyncio.to_thread(file.truncate, 0)
            async with contextlib.aclosing(stream.chunks(offset)) as chunks:
                async for chunk in chunks:
                    offset += len(chunk)
                    if offset > size:
                        raise Broken("more came than there is of it")
                    await asyncio.to_thread(file.write, chunk)
            if offset < size:
                raise Broken(f"it ended after {offset} of {size} bytes")
            return stream.digest
        finally:
            await asyncio.to_thread(file.close)

    def _direct(self, grant: Grant) -> Stream:
        return _Direct(self, grant)

    def _through_the_broker(self, grant: Grant) -> Stream:
        return relayed(self._transport, grant, self._relays)

    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        return self._session

    def is_reachable(self, address: str) -> bool:
        return bool(address) and self._unreachable.get(address, 0.0) <= time.monotonic()

    def was_unreachable(self, address: str, why: object) -> None:
        self._unreachable[address] = time.monotonic() + UNREACHABLE_SECONDS
        log.info("%s cannot be reached (%s); its files come through the broker.", address, why)


class _Direct:
    """A file from its holder's file server."""

    def __init__(self, fetcher: Fetcher, grant: Grant) -> None:
        self._fetcher = fetcher
        self._grant = grant
        self.digest = ""

    async def chunks(self, offset: int) -> AsyncGenerator[bytes, None]:
        address = self._grant.address
        if not self._fetcher.is_reachable(address):
            raise Unreachable
        # Nothing that would make it other bytes, or lead to another machine.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        if offset and offset == self._grant.size:
            headers["Range"] = f"bytes={offset - 1}-"
        try:
            async with self._fetcher.session().get(
                f"{address}/files/{self._grant.token}", headers=headers, allow_redirects=False
            ) as response:
                if response.status in (403, 410):
                    raise Stale(f"{address} answered {response.status}")
                if response.status != (206 if offset else 200):
                    raise Broken(f"{address} answered {response.status}")
                self.digest = response.headers.get("ETag", "").strip('"')
                if offset and offset == self._grant.size:
                    return
                async for chunk in response.content.iter_chunked(CHUNK):
                    yield chunk
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            self._fetcher.was_unreachable(address, error)
            raise Unreachable from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Broken(f"{address}: {error}") from None
