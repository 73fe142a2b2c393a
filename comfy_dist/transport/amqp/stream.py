"""Following a stream over AMQP 0-9-1, through lost connections and a stream that was made anew."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.abc import DeliveredMessage

from comfy_dist.transport.amqp.arrivals import consume
from comfy_dist.transport.amqp.connection import LOST, Connection, unless_cancelled
from comfy_dist.transport.amqp.outgoing import body_of
from comfy_dist.transport.protocol import Bookmark, Rewind

log = logging.getLogger(__name__)

#: Messages the broker sends ahead of our acknowledgements.
PREFETCH = 1000
#: In a stream they only ask for more, so one for many will do.
ACKNOWLEDGE_EVERY = 250
#: Between two tries: what refuses a channel tells nobody when it no longer would.
RETRY_SECONDS = 0.2
#: Seconds within which a stream must show the message that a bookmark names.
PROOF_TIMEOUT = 3.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One message of a stream."""

    #: None where it cannot be decompressed.
    body: bytes | None
    bookmark: Bookmark


LOST_OR_LATE: tuple[type[Exception], ...] = (*LOST, TimeoutError)


async def follow(
    connection: Connection,
    stream: str,
    *,
    after: Bookmark | None,
    declare: Callable[[AbstractConnection], Awaitable[None]],
) -> AsyncGenerator[Entry | Rewind, None]:
    """Everything after the bookmark (None: from the first), then what comes.

    A reader at an offset that a new stream of the same name has not reached yet would wait without an error;
    so the bookmark's message itself is read again and compared. Where it is another or does not come, `Rewind`
    is yielded and the stream read from its first message. A stream deleted under the reader is declared again.
    """
    while True:
        try:
            live = await connection.ready()
            await declare(live)
            channel = await live.channel()
            unacknowledged = 0
            try:
                arrivals = await _read(channel, stream, after.offset if after is not None else "first")
                unless_cancelled()
                if after is not None:
                    proof = await _proves(arrivals, after)
                    if proof is None and not await _is_shorter(live, stream, after):
                        # Slow, or empty: neither is a reason to forget anything.
                        continue
                    if not proof:
                        yield Rewind()
                        after = None
                        continue
                while (message := await arrivals.get()) is not None:
                    entry = _entry(message)
                    yield entry
                    after = entry.bookmark
                    unacknowledged += 1
                    if unacknowledged == ACKNOWLEDGE_EVERY:
                        unacknowledged = 0
                        await _acknowledge(message)
            finally:
                with contextlib.suppress(*LOST, TimeoutError):
                    async with asyncio.timeout(5):
                        await channel.close()
        except LOST_OR_LATE as error:
            unless_cancelled(error)
            log.debug("Reading %s again after: %s", stream, error)
        await asyncio.sleep(RETRY_SECONDS)


async def _read(
    channel: AbstractChannel, stream: str, offset: int | str
) -> asyncio.Queue[DeliveredMessage | None]:
    """The stream's messages from the offset on."""
    return await consume(channel, stream, PREFETCH, {"x-stream-offset": offset})


async def _acknowledge(message: DeliveredMessage) -> None:
    """All up to this one."""
    assert message.delivery_tag is not None
    await message.channel.basic_ack(message.delivery_tag, multiple=True, wait=False)


async def _proves(arrivals: asyncio.Queue[DeliveredMessage | None], bookmark: Bookmark) -> bool | None:
    """Whether the first message is the bookmarked one (then it is done with); None where none comes."""
    try:
        async with asyncio.timeout(PROOF_TIMEOUT):
            message = await arrivals.get()
    except TimeoutError:
        return None
    if message is None:
        raise ConnectionError("the channel was closed")
    await _acknowledge(message)
    return _entry(message).bookmark == bookmark


async def _is_shorter(connection: AbstractConnection, stream: str, bookmark: Bookmark) -> bool:
    """Whether the stream ends before the bookmark, and so is another than the one it was made in."""
    async with connection.channel() as channel:
        arrivals = await _read(channel, stream, "last")
        newest = -1
        try:
            while newest < bookmark.offset:
                async with asyncio.timeout(PROOF_TIMEOUT):
                    message = await arrivals.get()
                if message is None:
                    raise ConnectionError("the channel was closed")
                newest = _entry(message).bookmark.offset
        except TimeoutError:
            return newest >= 0
        return False


def _entry(message: DeliveredMessage) -> Entry:
    properties = message.header.properties
    offset = (properties.headers or {}).get("x-stream-offset")
    body: bytes | None
    try:
        body = body_of(message)
    except ValueError:
        body = None
    return Entry(
        body,
        Bookmark(offset=offset if isinstance(offset, int) else 0, message_id=properties.message_id or ""),
    )
