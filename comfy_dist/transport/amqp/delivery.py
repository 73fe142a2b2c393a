"""A job that was taken, and the ways to settle it."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

from aiormq import Channel
from aiormq.abc import DeliveredMessage

from comfy_dist.messages import Job, Route
from comfy_dist.transport.amqp.connection import LOST
from comfy_dist.transport.amqp.dead import letter_headers
from comfy_dist.transport.amqp.names import Names
from comfy_dist.transport.amqp.outgoing import Outgoing, pack
from comfy_dist.transport.amqp.publisher import Publisher

#: Makes the queue of a route and tells the workers of it.
State: TypeAlias = Callable[[Route], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class AmqpDelivery:
    job: Job
    route: Route
    message: DeliveredMessage
    #: Of the route; of a route that this worker has not heard of yet, too.
    queue: str
    names: Names
    publisher: Publisher
    state: State

    @property
    def before(self) -> int:
        headers = self.message.header.properties.headers or {}
        count = headers.get("x-delivery-count")
        return max(count if isinstance(count, int) else 0, int(bool(self.message.redelivered)))

    async def acknowledge(self) -> None:
        # Where the connection is gone the broker delivers it again, and the control stream tells that it is void.
        with contextlib.suppress(*LOST):
            await acknowledge(self.message)

    async def requeue(self) -> None:
        with contextlib.suppress(*LOST):
            await refuse(self.message)

    async def park(self) -> None:
        await self.publisher.confirm(self._copy(), self.queue, exchange=self.names.parked)
        await self.acknowledge()

    async def pass_on(self, route: Route) -> None:
        await self.state(route)
        await self.publisher.confirm(self._copy(), self.names.route(route))
        await self.acknowledge()

    async def bury(self, reason: str) -> None:
        headers = letter_headers(reason, self.queue) | {"job": self.job.id}
        await self.publisher.confirm(self._copy(headers), self.names.dead)
        await self.acknowledge()

    def _copy(self, headers: Mapping[str, str] | None = None) -> Outgoing:
        return pack(self.job.to_bytes(), message_id=self.job.id, headers=headers)


async def acknowledge(message: DeliveredMessage) -> None:
    assert message.delivery_tag is not None
    await cast(Channel, message.channel).basic_ack(message.delivery_tag, wait=False)


async def refuse(message: DeliveredMessage) -> None:
    """Back to the head of its queue."""
    assert message.delivery_tag is not None
    await cast(Channel, message.channel).basic_nack(message.delivery_tag, requeue=True, wait=False)
