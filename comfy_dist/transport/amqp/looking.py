"""How many messages lie ready in a queue, and how many consume from it."""

from __future__ import annotations

import time

from aio_pika.abc import AbstractChannel

#: Seconds that RabbitMQ gives a quorum queue to say so. One that takes longer is said to be empty.
ANSWER_SECONDS = 0.25
#: How often a queue is asked that is said to be empty, so late that it may not have been the queue that said so.
TRIES = 8


async def look(channel: AbstractChannel, queue: str) -> tuple[int, int]:
    """(messages that lie ready, consumers). Raises ChannelNotFoundEntity where there is no such queue."""
    for _ in range(TRIES):
        asked = time.monotonic()
        found = (await channel.declare_queue(queue, passive=True)).declaration_result
        if found.message_count or time.monotonic() - asked < ANSWER_SECONDS:
            break
    return found.message_count or 0, found.consumer_count or 0
