"""A cluster of transport participants, in memory and on RabbitMQ alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from comfy_dist.transport import Transport
from comfy_dist.transport.amqp import AmqpTransport
from comfy_dist.transport.memory import MemoryBroker, MemoryTransport

Join = Callable[[], Awaitable[Transport]]


@pytest.fixture(params=["memory", "amqp"])
async def join(request: pytest.FixtureRequest) -> AsyncIterator[Join]:
    """Adds one more participant to the cluster of this test."""
    participants: list[Transport] = []
    if request.param == "memory":
        broker = MemoryBroker()

        def make() -> Transport:
            return MemoryTransport(broker)
    else:
        uri, name = request.getfixturevalue("amqp_uri"), request.getfixturevalue("queue_name")

        def make() -> Transport:
            return AmqpTransport(uri, name)

    async def joined() -> Transport:
        transport = make()
        await transport.open()
        participants.append(transport)
        return transport

    yield joined
    for participant in participants:
        await participant.close()


@pytest.fixture
async def transport(amqp_uri: str, queue_name: str) -> AsyncIterator[AmqpTransport]:
    """One participant on RabbitMQ."""
    transport = AmqpTransport(amqp_uri, queue_name)
    await transport.open()
    yield transport
    await transport.close()
