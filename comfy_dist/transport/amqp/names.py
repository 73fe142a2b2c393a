"""What is declared on the broker, by name, kind and arguments. Nothing here that RabbitMQ 4.x refuses."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from comfy_dist.messages import Route, Urgency

#: RabbitMQ 4.x dead-letters a message after 20 deliveries unless told otherwise; attempts are counted by
#: facts instead. Without any limit a message given back would go to the tail of its queue.
DELIVERY_LIMIT = 2_000_000_000
PARK_SECONDS = 5.0
#: How long a job is offered to one worker alone.
OFFER_SECONDS = 1.0
#: Seconds after which the queue of a worker that no longer looks into it is deleted: it is long empty then.
OFFERS_EXPIRE = 3600
STREAM_BYTES = 2 * 1024**3
#: Retention works on whole segments, so they must be small beside the retained size.
SEGMENT_BYTES = 32 * 1024**2
#: Arguments of every queue that carries jobs.
QUORUM: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}
#: Routing key of progress that every client is to see.
EVERYONE = "everyone"


def client_key(client_id: str | None) -> str:
    """Routing key of a client's progress: a raw id could contain a topic wildcard."""
    return EVERYONE if client_id is None else hashlib.sha256(client_id.encode()).hexdigest()


def _passing(seconds: float) -> dict[str, Any]:
    """A queue whose messages go on after so long."""
    return QUORUM | {
        "x-message-ttl": round(seconds * 1000),
        # The default exchange and no routing key: to the queue that the message's own key names.
        "x-dead-letter-exchange": "",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


#: Arguments of the queue in which a worker is told how calls of its jobs ended.
RESULTS = QUORUM | {"x-expires": OFFERS_EXPIRE * 1000}
#: Arguments of a worker's own queue.
OFFERED = _passing(OFFER_SECONDS) | {"x-expires": OFFERS_EXPIRE * 1000}


@dataclass(frozen=True, slots=True)
class Names:
    """All names under one --distributed-queue-name."""

    prefix: str

    def jobs(self, urgency: Urgency) -> str:
        if urgency is Urgency.CALL:
            return f"{self.prefix}.calls"
        return f"{self.prefix}.jobs" + ("" if urgency is Urgency.NORMAL else f".{urgency.value}")

    def route(self, route: Route) -> str:
        """The queue of a route."""
        return self.jobs(route.urgency) if route.common else f"{self.prefix}.route.{route.key}"

    def worker(self, worker_id: str) -> str:
        """The queue of what is offered to one worker."""
        return f"{self.prefix}.worker.{worker_id}"

    def results(self, worker_id: str) -> str:
        """The queue in which that worker is told how calls of its jobs ended."""
        return f"{self.prefix}.results.{worker_id}"

    @property
    def offers(self) -> str:
        return f"{self.prefix}.offers"

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

    @property
    def workers(self) -> str:
        """The queue that every connected worker consumes from, and in which nothing is."""
        return f"{self.prefix}.workers"

    def alive(self, worker_id: str) -> str:
        return f"{self.prefix}.alive.{worker_id}"

    def answers(self, participant: str) -> str:
        return f"{self.prefix}.answers.{participant}"

    @property
    def queues(self) -> dict[str, dict[str, Any]]:
        """{queue: arguments} of every durable queue but the streams."""
        return {
            **{self.jobs(urgency): QUORUM for urgency in Urgency},
            self.parked: _passing(PARK_SECONDS),
            self.dead: QUORUM,
            self.workers: QUORUM,
        }

    def streams(self, retention: float, size: int) -> dict[str, dict[str, Any]]:
        """{stream: arguments}; what is kept in each, in seconds and bytes."""
        arguments = {
            "x-queue-type": "stream",
            "x-max-age": f"{max(1, round(retention))}s",
            "x-max-length-bytes": size,
            "x-stream-max-segment-size-bytes": SEGMENT_BYTES,
        }
        return dict.fromkeys((self.events, self.control), arguments)

    @property
    def exchanges(self) -> dict[str, str]:
        """{exchange: type}; publishing to `parked` and `offers` keeps the routing key, the queue to go to next."""
        return {
            self.parked: "fanout",
            self.offers: "headers",
            self.progress: "topic",
            self.presence: "fanout",
            self.commands: "fanout",
        }
