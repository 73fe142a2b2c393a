"""The transport protocol. `memory` and `amqp` keep the same promises; one test suite runs against both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from comfy_dist.messages import (
    Announcement,
    CallEnded,
    Command,
    Event,
    Fact,
    Job,
    Message,
    Progress,
    Reply,
    Route,
)
from comfy_dist.transport.dead import HeldLetters
from comfy_dist.transport.unreadable import Unreadable

T = TypeVar("T")
#: Of each kind a participant has one at a time. Entered, it stands: what is sent from then on is received until it
#: is left. After a lost connection it stands again before the participant is `connected`; what was sent meanwhile
#: is lost.
Subscription: TypeAlias = AbstractAsyncContextManager[AsyncIterator[T]]


class Bookmark(Message):
    """The place in the event log up to which a reader has folded."""

    #: Offset of the last folded message.
    offset: int
    #: That message's id: proves that the log is still the one the bookmark was made in.
    message_id: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """One entry of the event log."""

    #: None for an entry that this version does not understand: only the bookmark moves.
    event: Event | None
    bookmark: Bookmark


@dataclass(frozen=True, slots=True)
class Rewind:
    """The log is another than the bookmark's: forget what was folded, everything comes from the first."""


class Delivery(Protocol):
    """A job in a worker's hands. Exactly one of its methods settles it."""

    @property
    def job(self) -> Job: ...

    @property
    def route(self) -> Route:
        """Where it came from, and where requeue() and park() bring it back to."""
        ...

    @property
    def before(self) -> int:
        """How often it was in somebody's hands before, who gave it back or was cut off."""
        ...

    async def acknowledge(self) -> None:
        """Done with it. Without effect where the connection that brought it is gone."""
        ...

    async def requeue(self) -> None:
        """Back to the head of its queue."""
        ...

    async def park(self) -> None:
        """Out of the way for a few seconds; then it is delivered again, behind the others."""
        ...

    async def pass_on(self, route: Route) -> None:
        """To the end of another route."""
        ...

    async def bury(self, reason: str) -> None:
        """To the dead letters, with the reason; settled."""
        ...


class Taker(Protocol):
    def serve(self, routes: Sequence[Route]) -> None:
        """Take from these too; those that are common are always served. Holds from the next take()."""
        ...

    def rest(self) -> None:
        """Who has the last delivery will send calls, which are for others: none need come here before the next
        take()."""
        ...

    async def take(self) -> Delivery:
        """The next job: calls, then what was offered to this worker, then high before normal before low; first
        come, first served within a route. Between routes that are alike see `Turns`.

        Cancelling the wait loses nothing. Who executes does not call this, and so holds exactly one unsettled
        delivery.
        """
        ...


class ReceivedCommand(Protocol):
    @property
    def command(self) -> Command: ...

    async def reply(self, reply: Reply) -> None: ...


class Transport(Protocol):
    """Every method that sends returns when the transport has confirmed, unless it says otherwise.

    Iterators end when the transport is closed, and go on by themselves after a lost connection.
    """

    #: Whether jobs that were submitted survive the end of this process.
    durable: bool
    #: What came and could not be read.
    unreadable: Unreadable
    #: For how long progress messages that follow each other are worth collecting into one batch.
    burst_seconds: float

    async def open(self) -> None:
        """Connect, and go on trying with a sentence every 5 s. Raises BrokerRefused where it is refused."""
        ...

    async def close(self) -> None: ...

    @property
    def connected(self) -> bool: ...

    # Jobs

    async def submit(self, job: Job, route: Route | None = None) -> None:
        """Put the job at the end of the route; None: the common one of its urgency.

        A route that is not common is stated by a `route` fact first, where this participant has not lately.
        Raises BrokerUnavailable without a confirmation in 10 s.
        """
        ...

    async def offer(self, job: Job, route: Route, worker_id: str) -> None:
        """For a second to that worker alone, before all but calls; then to the end of the route, as submit()."""
        ...

    async def waiting(self, route: Route) -> int:
        """How many jobs lie ready on the route."""
        ...

    def taker(self) -> Taker:
        """One that takes jobs; a worker has one for each engine."""
        ...

    def dead_letters(self) -> AbstractAsyncContextManager[HeldLetters]:
        """What was buried, the oldest first, bounded in number and bytes, in the hands of nobody else meanwhile.

        What is not settled goes back to where it lay. Raises BrokerUnavailable where they cannot be had.
        """
        ...

    # The event log

    async def append_event(self, event: Event) -> None:
        """Raises BrokerUnavailable without a confirmation in 10 s."""
        ...

    def events(self, after: Bookmark | None) -> AsyncIterator[Recorded | Rewind]:
        """Everything after the bookmark (None: from the first), then what comes."""
        ...

    # The control stream

    async def append_fact(self, fact: Fact) -> None: ...

    def facts(self) -> AsyncIterator[Fact]:
        """All facts from the first, in the stream's order, then what comes."""
        ...

    # Workers' lives

    async def enlist(self, worker_id: str) -> None:
        """From now on, this process is that worker: alive while it is connected."""
        ...

    async def is_alive(self, worker_id: str) -> bool:
        """Whether that worker is connected at this moment."""
        ...

    async def enlisted(self) -> int:
        """How many workers are connected at this moment. Raises BrokerUnavailable without an answer in 10 s."""
        ...

    # Calls

    async def send_result(self, ended: CallEnded, worker_id: str) -> None:
        """How a call ended, to the worker of its parent; dropped where that is gone for good.

        Raises BrokerUnavailable without a confirmation in 10 s.
        """
        ...

    def results(self) -> AsyncIterator[CallEnded]:
        """What was sent to the enlisted worker, some of it twice; each is received when the next is asked for."""
        ...

    # Progress: transient, not confirmed, in order per sender

    async def emit(self, batch: Sequence[Progress]) -> None:
        """Messages of one client, in order."""
        ...

    async def follow(self, client_id: str) -> None:
        """Receive this client's progress too."""
        ...

    async def unfollow(self, client_id: str) -> None: ...

    def progress(self, *, everyones: bool = True) -> Subscription[Progress]:
        """Of the clients that are followed, and what goes to everyone, unless that is not wanted."""
        ...

    # Presence: transient

    async def announce(self, announcement: Announcement) -> None: ...

    def announcements(self) -> Subscription[Announcement]: ...

    # Commands: transient, expiring in 30 s

    async def send(self, command: Command) -> None:
        """Without waiting for answers."""
        ...

    async def ask(self, command: Command, timeout: float) -> Reply | None:
        """The first answer, or None after `timeout` seconds."""
        ...

    def commands(self) -> Subscription[ReceivedCommand]:
        """The commands to all, and those for the enlisted worker."""
        ...
