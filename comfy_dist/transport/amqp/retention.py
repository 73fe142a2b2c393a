"""Declaring streams, which keep the retention they were made with."""

from __future__ import annotations

import logging
import re
from typing import Any

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelPreconditionFailed

log = logging.getLogger(__name__)

#: How the broker names what differs.
_RETENTION = re.compile(r"inequivalent arg '(x-max-age|x-max-length-bytes)'.* current is (?:the value )?'([^']*)'")


class Streams:
    """Declares streams; one that is there with another retention is used as it is, and that is said once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    async def declare(self, connection: AbstractConnection, name: str, arguments: dict[str, Any]) -> None:
        """Raises ChannelPreconditionFailed where more than the retention differs."""
        try:
            async with connection.channel() as channel:
                await channel.declare_queue(name, durable=True, arguments=arguments)
        except ChannelPreconditionFailed as error:
            found = _RETENTION.search(str(error))
            if found is None:
                raise
            if name not in self._said:
                self._said.add(name)
                log.warning(
                    "The stream %s keeps the retention it was made with, %s %s, not the %s asked for: the broker "
                    "lets nobody change it. Start all with that --event-retention and --event-retention-size, or "
                    "make the stream anew: stop all with an empty queue, delete %s, start again.",
                    name,
                    found[1].removeprefix("x-"),
                    found[2],
                    arguments[found[1]],
                    name,
                )
