"""Fixtures that start real things."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.support.rabbitmq import Rabbit, own_broker, shared_broker


@pytest.fixture(scope="session")
def amqp_uri() -> Iterator[str]:
    with shared_broker() as uri:
        yield uri


@pytest.fixture(scope="session")
def rabbit() -> Iterator[Rabbit]:
    """A broker that tests may restart."""
    with own_broker() as broker:
        yield broker


@pytest.fixture
def queue_name() -> str:
    """Names of its own for each test on a shared broker."""
    return f"test-{uuid.uuid4().hex[:10]}"
