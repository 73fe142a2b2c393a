"""One connection to the broker that comes back by itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import aio_pika
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import (
    AuthenticationError,
    ChannelAccessRefused,
    ChannelPreconditionFailed,
    ConnectionNotAllowed,
    ProbableAuthenticationError,
)
from yarl import URL

from comfy_dist.errors import BrokerRefused

log = logging.getLogger(__name__)

#: Between two tries. Short, so that services are back soon after the broker is.
RETRY_SECONDS = 1.0
#: Between two sentences about it.
SAY_SECONDS = 5.0
CONNECT_TIMEOUT = 4.0
#: Seconds without a sign of life after which a peer is taken for gone; `?heartbeat=` of the URI says otherwise.
HEARTBEAT = 10

#: What a lost connection or channel raises, in whatever call it is noticed.
LOST: tuple[type[Exception], ...] = (
    aio_pika.exceptions.AMQPError,
    asyncio.InvalidStateError,
    RuntimeError,
    ConnectionError,
    # A peer that hung up before it greeted.
    StopAsyncIteration,
)
REFUSED: tuple[type[Exception], ...] = (
    AuthenticationError,
    ProbableAuthenticationError,
    ConnectionNotAllowed,
    ChannelAccessRefused,
    ChannelPreconditionFailed,
)

FAILED: tuple[type[Exception], ...] = (TimeoutError, OSError)


def unless_cancelled(error: Exception | None = None) -> None:
    """To be called before a long wait, or another try: the library swallows some cancellations, or turns them into
    errors."""
    if (task := asyncio.current_task()) is not None and task.cancelling():
        raise asyncio.CancelledError from error


class Reports:
    """One sentence in a while about a broker that does not answer, for all connections to it."""

    def __init__(self) -> None:
        self._said = -SAY_SECONDS
        self._down = False

    def down(self, sentence: str) -> None:
        now = time.monotonic()
        self._down = True
        if now - self._said >= SAY_SECONDS:
            self._said = now
            log.warning("%s", sentence)

    def up(self, sentence: str) -> None:
        if self._down:
            self._down = False
            log.info("%s", sentence)


SetUp = Callable[[AbstractConnection], Awaitable[None]]


class Connection:
    """Connects, runs `set_up` (declarations, consumers) on each new connection, and waits until it is lost."""

    def __init__(self, uri: str, name: str, set_up: SetUp, reports: Reports) -> None:
        asked = URL(uri)
        self._uri = asked if "heartbeat" in asked.query else asked.update_query(heartbeat=str(HEARTBEAT))
        self._name = name
        self._set_up = set_up
        self._reports = reports
        self._closed = False
        self._current: AbstractConnection | None = None
        self._changed = asyncio.Condition()

    @property
    def place(self) -> str:
        """Host, port and virtual host, without the credentials."""
        port = self._uri.port or (5671 if self._uri.scheme == "amqps" else 5672)
        return f"{self._uri.host}:{port}{self._uri.path or '/'}"

    @property
    def up(self) -> bool:
        return self._current is not None

    async def ready(self) -> AbstractConnection:
        """The connection, as soon as there is one."""
        while self._current is None:
            async with self._changed:
                await self._changed.wait_for(lambda: self._current is not None)
        return self._current

    async def run(self, opened: asyncio.Future[None]) -> None:
        """Keep connected until close(). A refusal before the first success ends it, through `opened`."""
        while not self._closed:
            lost = asyncio.get_running_loop().create_future()
            connection: AbstractConnection | None = None
            try:
                connection = await aio_pika.connect(
                    self._uri,
                    timeout=CONNECT_TIMEOUT,
                    client_properties={"connection_name": f"comfy_dist {self._name}"},
                )
                connection.close_callbacks.add(_resolver(lost), weak=False)
                async with asyncio.timeout(CONNECT_TIMEOUT * 3):
                    await self._set_up(connection)
                await self._become(connection)
                self._reports.up(f"Connected to RabbitMQ at {self.place} again.")
                if not opened.done():
                    opened.set_result(None)
                await lost
                self._reports.down(f"The connection to RabbitMQ at {self.place} was lost; connecting again.")
            except REFUSED as error:
                refusal = BrokerRefused(refused_sentence(self.place, error))
                if not opened.done():
                    opened.set_exception(refusal)
                    return
                self._reports.down(str(refusal))
            except (*LOST, *FAILED) as error:
                reason = _reason(error)
                self._reports.down(f"RabbitMQ at {self.place} does not answer ({reason}); trying again.")
            finally:
                await self._become(None)
                if connection is not None and not connection.is_closed:
                    await _close(connection)
            await asyncio.sleep(RETRY_SECONDS)

    def close(self) -> None:
        """Let run() end; whoever awaits it cancels it too. (The library turns some cancellations into errors.)"""
        self._closed = True

    async def _become(self, connection: AbstractConnection | None) -> None:
        self._current = connection
        async with self._changed:
            self._changed.notify_all()


def _resolver(future: asyncio.Future[None]) -> Callable[..., None]:
    def resolve(*_: object) -> None:
        if not future.done():
            future.set_result(None)

    return resolve


async def _close(connection: AbstractConnection) -> None:
    try:
        async with asyncio.timeout(5):
            await connection.close()
    except (*LOST, *FAILED) as error:
        log.debug("While closing a connection: %s", error)


def _reason(error: Exception) -> str:
    if "Connection.OpenOk" in (said := str(error)):
        # What came instead is told as an object in memory.
        return "it has no such virtual host, or does not let this user in there"
    return said or type(error).__name__


def refused_sentence(place: str, error: Exception) -> str:
    """What was refused, and what to do."""
    if isinstance(error, ChannelPreconditionFailed):
        return (
            f"RabbitMQ at {place} has one of our queues with other arguments ({error}). Delete that queue, "
            "or choose another --distributed-queue-name."
        )
    if isinstance(error, (ConnectionNotAllowed, ChannelAccessRefused)):
        return f"RabbitMQ at {place} refuses access ({error}): check the virtual host and its permissions."
    return (
        f"RabbitMQ at {place} refuses the user name or password in --distributed-queue-connection-uri; "
        "correct them."
    )
