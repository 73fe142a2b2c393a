"""A file through the broker, in pieces: a few are asked for at a time, and never more than those are there."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import deque
from collections.abc import AsyncGenerator

from pydantic import ValidationError

from comfy_dist.files.holder import PIECE
from comfy_dist.files.source import Broken, Stale, Stream
from comfy_dist.messages import Command, Grant, Piece
from comfy_dist.transport import Transport

#: Pieces under way: the broker and this process hold at most so many of a file.
WINDOW = 4
#: Seconds for one piece; the last one waits for the digest of all.
PIECE_SECONDS = 15.0
#: How often a piece is asked for.
TRIES = 2


def relayed(transport: Transport, grant: Grant, slots: asyncio.Semaphore) -> Stream:
    """`slots`: how many files may come this way at a time."""
    return _Relayed(transport, grant, slots)


class _Relayed:
    def __init__(self, transport: Transport, grant: Grant, slots: asyncio.Semaphore) -> None:
        self._transport = transport
        self._grant = grant
        self._slots = slots
        self.digest = ""

    async def chunks(self, offset: int) -> AsyncGenerator[bytes, None]:
        async with self._slots:
            # A file that is all here already, or empty, has a last piece too: it tells the digest.
            offsets = iter(range(offset, max(self._grant.size, offset + 1), PIECE))
            under_way: deque[asyncio.Task[Piece]] = deque()
            try:
                while True:
                    while len(under_way) < WINDOW and (start := next(offsets, None)) is not None:
                        under_way.append(asyncio.create_task(self._piece(start)))
                    if not under_way:
                        return
                    piece = await under_way.popleft()
                    self.digest = piece.sha256
                    if content := _content(piece):
                        yield content
            finally:
                for task in under_way:
                    task.cancel()
                await asyncio.gather(*under_way, return_exceptions=True)

    async def _piece(self, offset: int) -> Piece:
        for _ in range(TRIES):
            command = Command(verb="read", arguments={"token": self._grant.token, "offset": offset})
            reply = await self._transport.ask(command, PIECE_SECONDS)
            if reply is None:
                continue
            if "error" in reply.result:
                raise Stale(str(reply.result["error"]).rstrip("."))
            try:
                return Piece.model_validate(reply.result)
            except ValidationError as error:
                raise Broken(f"a piece is not understood ({error.error_count()} errors)") from None
        raise Stale("its holder does not answer any more")


def _content(piece: Piece) -> bytes:
    try:
        return base64.b64decode(piece.data, validate=True)
    except binascii.Error as error:
        raise Broken(f"a piece is not understood ({error})") from None
