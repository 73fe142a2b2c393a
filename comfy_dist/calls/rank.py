"""A rank's side of a region: it asks its parent's session for chunks, delivers them, and goes home.

Shortly before it is done with a chunk it asks for the next and pulls what that needs, to go on without a pause.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from comfy_dist.calls.asking import Answer, HeadStart
from comfy_dist.calls.clones import Carried, NodeOf, carry
from comfy_dist.calls.here import Here
from comfy_dist.calls.layout import Layout
from comfy_dist.calls.links import Link, Node
from comfy_dist.calls.offered import Values
from comfy_dist.calls.parts import Remote, expansion, received_values, value_id
from comfy_dist.calls.running_job import RunningJob
from comfy_dist.calls.shares import Chunk
from comfy_dist.calls.speeds import kind_of
from comfy_dist.calls.turns import Expansion, turns, wait_for
from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import Peer, now_ms
from comfy_dist.tensors.errors import Declined, NotAnswered

T = TypeVar("T")
log = logging.getLogger(__name__)

#: Seconds for one answer: slices are hashed for it.
ANSWER_SECONDS = 60.0
#: Seconds between questions that were not answered. Who is never answered goes home, and the parent does what it
#: had taken.
RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
#: Seconds before the likely end of a chunk in which it asks for the next: as many times what that took last, and
#: at least these.
AHEAD, LEAST_AHEAD_SECONDS = 2.0, 0.02
#: Seconds after which a rank that began by itself tells that it has come, unless it asks something before.
COMING_SECONDS = 0.05
#: Seconds for which results let the next chunk go first, where there is one: Python does one thing at a time.
DELIVERY_SECONDS = 0.002
#: Results wait so long for being fetched, if nobody releases them before.
LEASE_SECONDS = 600.0


class NoCall(ComfyDistError):
    """A prompt for a rank that is no call."""


@dataclass(frozen=True, slots=True)
class _Made:
    """Results of a chunk."""

    chunk: int
    results: Mapping[str, Values]
    items: int
    #: Seconds since its slices were known.
    took: float


class Rank:
    """One attempt at a call, as a Turn."""

    def __init__(self, layout: Layout, node_of: NodeOf, here: Here, job: RunningJob) -> None:
        """Raises NoCall."""
        if job.call is None or job.call.get("session") is None:
            raise NoCall("This prompt helps with a region of another one; it is nothing to queue by itself.")
        self.layout = layout
        self._node_of = node_of
        self._here = here
        self._job = job
        self._peer = Peer.model_validate(job.call["session"])
        #: What the parent said with the first chunk.
        self._values: Mapping[str, str] = {}
        self._carriage = Carried({}, {})
        self._workers = "[]"
        #: Whether there is likely to be nothing after it.
        self._last = False
        #: The chunk that it began last, and when its slices were known.
        self._chunk: Chunk | None = None
        self._since = 0.0
        #: By what its speed is remembered, and items per second of its last two chunks.
        self._kind = kind_of(layout, node_of)
        self._speeds: list[float] = []
        #: Whether it has asked anything yet.
        self._asked = False
        #: Seconds that it took to have what a chunk needs that was asked for ahead.
        self._effort = 0.0
        #: Tells that it has come.
        self._coming: asyncio.TimerHandle | None = None
        #: Begins to ask for the chunk after the one at hand.
        self._timer: asyncio.TimerHandle | None = None
        self._ahead: asyncio.Task[Answer] | None = None
        #: Of results while the next chunk is executed.
        self._delivery: asyncio.Task[Answer] | None = None

    async def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return await wait_for(self._here, self._job, work)

    async def begin(self) -> Expansion | None:
        """Ask for the first chunk. None: there is nothing to do any more."""
        self._enter()
        answer = await self._ask({"values": True})
        expansion = self._first(answer)
        self._look_ahead_at_first()
        return expansion

    def begin_now(self) -> Expansion | None:
        """The same where the call has brought the first chunk, on the thread of whoever asks. None: begin."""
        if (head_start := self._head_start()) is None:
            return None
        self._enter()
        expansion = self._first(head_start)
        self._here.thread.loop.call_soon_threadsafe(self._has_begun)
        self._drop_if_over()
        return expansion

    def _enter(self) -> None:
        turns[self._job.id] = self
        self._job.at_end(self, self._end)

    def _first(self, answer: Answer) -> Expansion | None:
        self._values = {name: sent.content for name, sent in answer.values.items()}
        self._workers = answer.workers
        self._carriage = carry(self.layout, self._node_of, self._value, answer.staying)
        shared = received_values(self.layout, self._values) | self._carriage.graph
        return self._expansion(answer, shared)

    def _has_begun(self) -> None:
        if not self._job.over:
            self._tell_of_coming()
            self._look_ahead_at_first()

    def _look_ahead_at_first(self) -> None:
        if (speed := self._here.speeds.of(self._kind)) is not None:
            self._look_ahead(self._chunk, 1 / speed)

    def _head_start(self) -> Answer | None:
        """What the call brings to begin with, if nobody else has been given it."""
        assert self._job.call is not None
        if not (given := self._job.call.get("head_start")):
            return None
        try:
            head_start = HeadStart.model_validate(given)
        except ValidationError as error:
            log.warning("What call %s brings is not understood: %s", self._job.id, error)
            return None
        if head_start.answer.chunk is None or self._job.attempt != 1 or now_ms() >= head_start.until:
            return None
        return head_start.answer

    def _tell_of_coming(self) -> None:
        """That it has come, where nothing else that is asked tells it."""

        def tell() -> None:
            if not self._asked:
                self._delivery = asyncio.create_task(self._ask({"free_in": None}))

        self._coming = asyncio.get_running_loop().call_later(COMING_SECONDS, tell)

    async def next(self, done: int, results: Mapping[str, Values]) -> Expansion | None:
        """As of a Turn. Where the parent cannot be reached any more that is the end too. Raises CannotTravel."""
        made = self._made(done, results)
        answer = await self._hand_in(made)
        while answer.again:
            answer = await self._ask({})
        expansion = self._expansion(answer, {})
        self._go_on(made, answer.chunk)
        return expansion

    def next_now(self, done: int, results: Mapping[str, Values]) -> Expansion | None:
        """As of a Turn: where the next chunk is at hand, and no results are on their way."""
        ahead, delivery = self._ahead, self._delivery
        if self._job.over or not _has_come(ahead) or not (delivery is None or _has_come(delivery)):
            return None
        assert ahead is not None
        if (answer := ahead.result()).chunk is None:
            return None
        made, self._ahead = self._made(done, results), None

        def go_on() -> None:
            if not self._job.over:
                self._delivery = asyncio.create_task(self._deliver(made))
                self._go_on(made, answer.chunk)

        expansion = self._expansion(answer, {})
        self._here.thread.loop.call_soon_threadsafe(go_on)
        self._drop_if_over()
        return expansion

    def _drop_if_over(self) -> None:
        """What was put in the inbox in the moment in which it was over."""
        if self._job.over:
            self._here.inbox.drop(self._job.id)

    def _made(self, done: int, results: Mapping[str, Values]) -> _Made:
        items = 1 if self._chunk is None else max(1, self._chunk.items)
        return _Made(done, results, items, time.monotonic() - self._since)

    def _go_on(self, made: _Made, chunk: Chunk | None) -> None:
        """With that chunk, having made these results."""
        self._speeds = [*self._speeds[-1:], made.items / max(made.took, 1e-6)]
        # The better one, as the pool does: the first one may have loaded a model.
        self._here.speeds.note(self._kind, max(self._speeds))
        self._look_ahead(chunk, made.took / made.items)

    def outputs(self) -> list[Values]:
        """None: the parent has them."""
        return []

    async def _hand_in(self, made: _Made) -> Answer:
        """The next chunk: the one that was asked for ahead, or what is answered to what was made."""
        if self._timer is not None:
            self._timer.cancel()
        if self._delivery is not None:
            await self._delivery
        ahead, self._ahead = self._ahead, None
        if ahead is None or (ahead.done() and ahead.result().chunk is None):
            return await self._ask(self._said(made))
        self._delivery = asyncio.create_task(self._deliver(made))
        if (answer := await ahead).chunk is not None:
            return answer
        await self._delivery
        # Once more, should it not have got there.
        return await self._ask(self._said(made))

    async def _deliver(self, made: _Made) -> Answer:
        """Hand it in beside the next chunk. Raises CannotTravel."""
        await asyncio.sleep(DELIVERY_SECONDS)
        return await self._ask({**self._said(made), "free_in": None})

    def _said(self, made: _Made) -> dict[str, Any]:
        """Raises CannotTravel."""
        packed = {
            closer: self._here.plane.pack(values, self._job.id, LEASE_SECONDS, at_once=True)
            for closer, values in made.results.items()
        }
        return {"done": {"chunk": made.chunk, "results": packed, "took": round(made.took * 1000)}}

    def _look_ahead(self, chunk: Chunk | None, pace: float) -> None:
        """Ask for the one after it when it is nearly done. `pace`: the likely seconds for an item of it."""
        if chunk is None or self._last or self.layout.ranked or self.layout.shares:
            return
        likely = pace * chunk.items
        lead = min(likely, max(LEAST_AHEAD_SECONDS, AHEAD * self._effort))

        def ask() -> None:
            self._ahead = asyncio.create_task(self._ahead_of_time(lead))

        self._timer = asyncio.get_running_loop().call_later(likely - lead, ask)

    async def _ahead_of_time(self, lead: float) -> Answer:
        """The chunk after the one at hand, with its slices at hand too. `lead`: seconds until it is wanted."""
        began = time.monotonic()
        answer = await self._ask({"free_in": max(1, round(lead * 1000))})
        self._put(answer)
        await self._here.bring(sent.content for sent in answer.slices.values())
        self._effort = time.monotonic() - began
        return answer

    def _end(self) -> None:
        """The call is over."""
        turns.pop(self._job.id, None)
        for each in (self._timer, self._coming, self._ahead, self._delivery):
            if each is not None:
                each.cancel()

    def _put(self, answer: Answer) -> None:
        for sent in (*answer.slices.values(), *answer.values.values()):
            self._here.inbox.put(self._job.id, sent.content, sent.packed)

    def _value(self, name: str, link: Link) -> Link:
        return [value_id(self.layout, name), 0]

    def _expansion(self, answer: Answer, shared: dict[str, Node]) -> Expansion | None:
        if answer.chunk is None:
            return None
        self._put(answer)
        part = Remote(
            self.layout,
            self._node_of,
            answer.chunk,
            {node: sent.content for node, sent in answer.slices.items()},
            self._values,
            self._carriage,
            self._workers,
            shared,
        )
        self._since, self._chunk, self._last = time.monotonic(), answer.chunk, answer.last
        return Expansion(*expansion(self.layout, self._node_of, answer.chunk, part, self._job.id))

    async def _ask(self, more: Mapping[str, Any]) -> Answer:
        """Say that. Nothing where the parent is not to be had."""
        self._asked = True
        question = {
            "call": self._job.id,
            "attempt": self._job.attempt,
            "worker": self._here.worker,
            "worker_id": self._here.worker_id,
            "at": None if self._chunk is None else self._chunk.index,
            "speed": self._here.speeds.of(self._kind),
            **more,
        }
        for seconds in (*RETRY_SECONDS, None):
            try:
                answer = await self._here.plane.ask(self._peer, question, ANSWER_SECONDS)
                return Answer.model_validate(answer)
            except ValidationError as error:
                log.warning("What the parent of call %s answered is not understood: %s", self._job.id, error)
                break
            except NotAnswered as error:
                if seconds is None or isinstance(error, Declined):
                    log.info("Call %s goes home: %s", self._job.id, error)
                    break
                await asyncio.sleep(seconds)
        return Answer()


def _has_come(task: asyncio.Task[Answer] | None) -> bool:
    return task is not None and task.done() and not task.cancelled() and task.exception() is None


def help_now(layout: Layout, node_of: NodeOf, here: Here) -> Expansion | None:
    """As `help_with`, where nothing need be asked for it. None: it need. Any thread. Raises NoCall."""
    job = here.job_now()
    return None if job is None else Rank(layout, node_of, here, job).begin_now()


async def help_with(layout: Layout, node_of: NodeOf, here: Here) -> Expansion | None:
    """Execute chunks of the region that the call at hand is for. Raises Stopped, NoCall, LinkLost, LinkRefused."""
    job = await here.job()
    return await job.wait(Rank(layout, node_of, here, job).begin())
