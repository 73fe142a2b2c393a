"""What is declared on the broker, by name, kind and arguments. Nothing here that RabbitMQ 4.x refuses."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from comfy_dist.messages import Urgency

#: RabbitMQ 4.x dead-letters a message after 20 deliveries unless told otherwise; attempts are counted by
#: facts instead. Without any limit a message given back would go to the tail of its queue.
DELIVERY_LIMIT = 2_000_000_000
PARK_SECONDS = 5.0
STREAM_BYTES = 2 * 1024**3
#: Retention works on whole segments, so they must be small beside the retained size.
SEGMENT_BYTES = 32 * 1024**2
#: Routing key of progress that every client is to see.
EVERYONE = "everyone"


def client_key(client_id: str | None) -> str:
    """Routing key of a client's progress: a raw id could contain a topic wildcard."""
    return EVERYONE if client_id is None else hashlib.sha256(client_id.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Names:
    """All names under one --distributed-queue-name."""

    prefix: str

    def jobs(self, urgency: Urgency) -> str:
        return f"{self.prefix}.jobs" + ("" if urgency is Urgency.NORMAL else f".{urgency.value}")

    @property
    def work(self) -> list[str]:
        """The queues a worker takes from, the most urgent first."""
        return [self.jobs(urgency) for urgency in sorted(Urgency, key=lambda urgency: urgency.rank)]

    @property
    def parked(self) -> str:
        return f"{self.prefix}.parked"

    @property
    def dead(self) -> str:
        return f"{self.prefix}.dead"

    @property
    def events(self) -> str:
        return f"{self.prefix}.events"

    @property
    def control(self) -> str:
        return f"{self.prefix}.control"

    @property
    def progress(self) -> str:
        return f"{self.prefix}.progress"

    @property
    def presence(self) -> str:
        return f"{self.prefix}.presence"

    @property
    def commands(self) -> str:
        return f"{self.prefix}.commands"

    def alive(self, worker_id: str) -> str:
        return f"{self.prefix}.alive.{worker_id}"

    def answers(self, participant: str) -> str:
        return f"{self.prefix}.answers.{participant}"

    def queues(self, retention: float) -> dict[str, dict[str, Any]]:
        """{queue: arguments} of every durable queue and stream; `retention` in seconds."""
        quorum = {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}
        stream = {
            "x-queue-type": "stream",
            "x-max-age": f"{max(1, round(retention))}s",
            "x-max-length-bytes": STREAM_BYTES,
            "x-stream-max-segment-size-bytes": SEGMENT_BYTES,
        }
        parked = quorum | {
            "x-message-ttl": round(PARK_SECONDS * 1000),
            # The default exchange and no routing key: back to the queue that the key names.
            "x-dead-letter-exchange": "",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        return {
            **dict.fromkeys(self.work, quorum),
            self.parked: parked,
            self.dead: quorum,
            self.events: stream,
            self.control: stream,
        }

    @property
    def exchanges(self) -> dict[str, str]:
        """{exchange: type}; publishing to `parked` keeps the routing key, the queue to come back to."""
        return {
            self.parked: "fanout",
            self.progress: "topic",
            self.presence: "fanout",
            self.commands: "fanout",
        }
