"""A region under way, in the process of its parent: a pool of chunks, who has which, and the results.

The parent takes chunks as its ranks do and goes on until all are done, so that it needs nobody. A rank is a call:
an invitation, which a worker takes or not. Whatever becomes of the call, its chunks are done by it or go back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from comfy_dist.calls.answers import Answers
from comfy_dist.calls.asking import Answer, Done, Question, question_of
from comfy_dist.calls.attendance import Attendance
from comfy_dist.calls.deliveries import Deliveries
from comfy_dist.calls.errors import LinkLost, LinkRefused, RankFailed
from comfy_dist.calls.guests import Guest, Guests, cannot_travel, died, out_of_reach
from comfy_dist.calls.head_starts import HeadStarts
from comfy_dist.calls.here import Here
from comfy_dist.calls.offered import Offered, Values
from comfy_dist.calls.participants import Invitation
from comfy_dist.calls.recruiting import Recruiting
from comfy_dist.calls.report import Report
from comfy_dist.calls.results import Results
from comfy_dist.calls.running_job import RunningJob
from comfy_dist.calls.share_pool import SharePool
from comfy_dist.calls.shares import Chunk, Pool
from comfy_dist.calls.speeds import usable
from comfy_dist.calls.turns import turns
from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import now_ms

log = logging.getLogger(__name__)

#: Who the parent is to the pool.
PARENT = ""
#: Seconds that a rank is kept at most while its results are fetched; it asks again then. Relays wait longer.
FETCH_SECONDS = 5.0
#: Seconds between two looks at ranks that the end of a region was left to, as long as nothing is told of them.
LOOK_SECONDS = 0.5


class Session:
    """Made for one execution of a region. On the loop of `here.thread`, except where it says otherwise.

    `closers` are those whose results are wanted. Where the region `saves`, a chunk counts only when the call that
    did it has ended: only then it is known what its output nodes showed. With an `attendance` others are called
    where those who were do not come, and the parent does nothing where that says so.
    """

    def __init__(
        self,
        pool: Pool | SharePool,
        closers: Iterable[str],
        *,
        node: str,
        saves: bool = False,
        workers: str = "",
        offsets: Mapping[str, int] | None = None,
        attendance: Attendance | None = None,
        recruiting: Recruiting | None = None,
        tell: Callable[..., object] | None = None,
        before: float | None = None,
    ) -> None:
        """`recruiting`: where the pool is not ranked. `tell`: Here.tell of this process, to show what is done.
        `before`: items per second that the parent did of such a region before."""
        self.id = uuid.uuid4().hex
        self.pool = pool
        self.node = node
        self.workers = workers
        self._offsets = offsets or {}
        self._results = Results(closers)
        self._saves = saves
        self._attendance = attendance
        self._recruiting = recruiting
        self._tell = tell
        self.report = Report(node, tell, self._counts)
        self._call: Mapping[str, Any] = {}
        self._guests = Guests(node, self.heard, self._owned)
        self._here: Here | None = None
        self._job: RunningJob | None = None
        self._offered: Offered | None = None
        self._answers: Answers | None = None
        self._head_starts: HeadStarts | None = None
        self._deliveries: Deliveries | None = None
        self._before = before
        self._changed = asyncio.Event()
        self._failure: ComfyDistError | None = None
        self._over = False
        self._tasks: set[asyncio.Task[None]] = set()

    # The parent's

    def open(self, here: Here, job: RunningJob, offered: Offered) -> dict[str, Any]:
        """Answer ranks from now on, until it is closed or the job is over: where they ask."""
        self._here, self._job, self._offered = here, job, offered
        self._answers = Answers(self.pool, offered, self._offsets, self.workers)
        self._deliveries = Deliveries(here.plane, self._received, self._unusable)
        # Who may begin in vain must not save; and of ranked shares the parent has the first.
        if isinstance(self.pool, Pool) and not self.pool.ranked and not self._saves:
            self._head_starts = HeadStarts(self.pool, offered, self._answers.first, self._changed.set)
        job.at_end(self, self.close)

        async def answer(body: dict[str, Any]) -> dict[str, Any]:
            return await here.thread.run(self.answer(body))

        return here.plane.expose(answer, self.id).model_dump(mode="json")

    async def invite(self, call: Mapping[str, Any], invitations: Sequence[Invitation]) -> None:
        """Send the call, without waiting until it is sent. Where that cannot be, the parent does everything."""
        assert self._here is not None
        self._call = call
        if self._head_starts is not None:
            # Before the parent itself begins, which takes the processor: all others wait for it.
            invitations = await self._head_starts.added(invitations)
        self._start(self._send(self._here, call, invitations))
        if self._recruiting is not None and isinstance(self.pool, Pool):
            self._start(self._recruiting.run(self.pool, self._guests, call))

    async def _send(self, here: Here, call: Mapping[str, Any], invitations: Sequence[Invitation]) -> None:
        try:
            await self._guests.invite(here, call, invitations)
        finally:
            if self._head_starts is not None:
                self._head_starts.sent()

    def _owned(self, share: int, call: str) -> None:
        if isinstance(self.pool, SharePool):
            self.pool.owned(share, call)
        elif self._head_starts is not None:
            self._head_starts.owned(share, call)

    async def next(self, done: int | None = None, results: Mapping[str, Values] | None = None) -> Chunk | None:
        """The parent's next chunk, its last one having given `results`. None: all results are there.

        Waits while others still execute what the parent may have to do after all. Raises RankFailed.
        """
        if done is not None and results is not None and self.pool.done(done, PARENT, time.monotonic()):
            self._keep(done, PARENT, results)
        while True:
            self._changed.clear()
            if self._failure is not None:
                raise self._failure
            takes = self._attendance is None or self._attendance.parent
            if takes and (chunk := self.pool.take(PARENT, time.monotonic(), before=self._before)) is not None:
                return chunk
            if self._complete:
                return None
            if self._attendance is not None and self._attendance.due:
                await self._attend(self._attendance)
                continue
            # What was left to others may be the parent's after all, should they be late.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS if self.pool.left or not takes else None):
                    await self._changed.wait()

    async def _attend(self, attendance: Attendance) -> None:
        """See that somebody does what is left. Raises NobodyElse."""
        assert self._here is not None
        try:
            more = await attendance.missing(self.pool, self._guests)
        except (LinkLost, LinkRefused) as error:
            log.debug("Nobody can be looked for: %s", error)
            return
        if more:
            await self._guests.invite(self._here, self._call, more, spare=True)

    def alone(self) -> None:
        """Nobody can be called, so the parent does everything."""
        self._attendance = None
        if isinstance(self.pool, SharePool):
            self.pool.unowned(())

    def results(self) -> dict[str, list[Values]]:
        """By closing node what each chunk gave, in order. Any thread, once `next` has given None."""
        return self._results.in_order(self.pool.chunks)

    def close(self) -> None:
        """The end of it: its invitations, what it holds for ranks, and what it still fetches from them."""
        if self._over:
            return
        self._over = True
        self._guests.over()
        turns.pop(self.id, None)
        if self._attendance is not None:
            self._attendance.over()
        for task in self._tasks:
            task.cancel()
        self.report.close()
        if self._head_starts is not None:
            self._head_starts.close()
        if self._deliveries is not None:
            self._deliveries.close()
        if self._offered is not None:
            self._offered.close()
        if self._job is not None:
            self._job.forget(self)
        if (here := self._here) is not None:
            here.plane.release(self.id)
            here.unfollow(tuple(self._guests))

    @property
    def calls(self) -> list[str]:
        """Ids of those that were sent."""
        return list(self._guests)

    @property
    def going(self) -> list[str]:
        """Of those calls, the ones for which there was nothing left when they asked last."""
        return [call for call in self._guests if self._guests[call].dismissed]

    def worker_of(self, call: str) -> str:
        """Id of the worker that has the call, "" where it has asked nothing."""
        guest = self._guests.get(call)
        return guest.worker_id if guest is not None else ""

    def counted(self) -> dict[str, Any]:
        """At the end of a region that saves: of each call the attempt and the chunks that count. Whoever was taken
        for gone may have saved too, and said so since."""
        by, guests = self._results.by, self._guests
        return {call: {"attempt": guests[call].attempt, "chunks": by(call)} for call in guests}

    @property
    def _all_here(self) -> bool:
        return self.pool.finished and len(self._results) >= len(self.pool.chunks)

    @property
    def _complete(self) -> bool:
        """Every chunk's result is here, and counts."""
        if not self._all_here:
            return False
        calls = (who for who in self._results.doers.values() if who != PARENT)
        return not self._saves or all(self._guests[call].ended for call in calls)

    # The ranks'

    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """To what a rank says. Raises ComfyDistError for what is no question of a rank of this session."""
        asked = question_of(body)
        # Who is called may be here before the one that called knows its id.
        await self._guests.known()
        answer = await self._answer(asked)
        return answer.model_dump(mode="json")

    async def _answer(self, asked: Question) -> Answer:
        if self._over:
            return Answer()
        if (guest := self._guests.get(asked.call)) is None:
            raise LinkRefused(f"This region was never called for by {asked.call}.")
        if not self._admit(guest, asked.call, asked.attempt):
            return Answer()
        if asked.attempt > guest.told and asked.worker_id:
            guest.told = asked.attempt
            if self._tell is not None:
                # It may be long before anybody else tells who executes it, and that one may be gone by then.
                self._tell("came", call=asked.call, attempt=asked.attempt, worker=asked.worker_id)
        guest.worker, guest.worker_id = asked.worker or guest.worker, asked.worker_id or guest.worker_id
        if self._head_starts is not None:
            self._head_starts.came(asked.call, asked.at)
        if asked.done is not None:
            self._take(guest, asked.call, asked.done)
        if asked.free_in is None:
            return Answer()
        chunk = self._share(guest, asked)
        guest.dismissed = chunk is None and not asked.free_in
        if chunk is None:
            if guest.fetching and guest.dismissed:
                await asyncio.wait(guest.fetching, timeout=FETCH_SECONDS)
            return Answer(again=bool(guest.fetching))
        assert self._answers is not None
        return await (self._answers.first(chunk) if asked.values else self._answers.further(chunk))

    def _admit(self, guest: Guest, call: str, attempt: int) -> bool:
        """Whether that attempt may take chunks; a new one takes the place of the one before, unless that has come
        to its end."""
        if guest.ended:
            return False
        if attempt > guest.attempt:
            if guest.attempt:
                self._gone(guest, call)
            guest.attempt, guest.dismissed = attempt, False
        return attempt == guest.attempt

    def _share(self, guest: Guest, asked: Question) -> Chunk | None:
        if self._failure is not None or guest.unreachable:
            return None
        # It asks again for what it has where the answer did not reach it.
        if (chunk := self.pool.not_begun(asked.call, asked.at)) is not None:
            return chunk
        free_in = (asked.free_in or 0) / 1000
        return self.pool.take(asked.call, time.monotonic(), free_in=free_in, before=usable(asked.speed))

    def _take(self, guest: Guest, call: str, done: Done) -> None:
        """Results of a rank: fetched at once, unless they are late or were told before."""
        if set(done.results) != set(closers := self._results.closers):
            raise LinkRefused(f"A chunk of this region gives results for {', '.join(closers) or 'no node'}.")
        if not self.pool.done(done.chunk, call, time.monotonic(), done.took / 1000):
            return
        self._results.doers[done.chunk] = call
        now = now_ms()
        self._note_of(guest, "execute", done.chunk, now - done.took, now)
        assert self._deliveries is not None
        self._deliveries.take(guest, call, done)

    def _received(self, guest: Guest, call: str, index: int, results: Mapping[str, Values], began: int) -> None:
        if self._results.awaited(index, call):
            guest.failures = 0
            self._note_of(guest, "transfer", index, began, now_ms())
            self._keep(index, call, results)

    def _unusable(self, guest: Guest, call: str, index: int, error: Exception) -> None:
        log.warning("Chunk %d of node %s is done again: %s", index, self.node, error)
        guest.failures += 1
        if self._results.doers.get(index) == call:
            self._undo([index])
            self._in_vain(f"What rank {guest.rank} on worker {guest.worker} has made cannot be had: {error}")

    def _keep(self, index: int, who: str, results: Mapping[str, Values]) -> None:
        if who and self._attendance is not None:
            self._attendance.came()
        self._results.keep(index, who, results)
        self._changed.set()
        if self._all_here:
            self.report.now()
        else:
            self.report.soon()

    def _counts(self) -> dict[str, int]:
        """Of a region that nobody helps with, nothing is counted."""
        if self.pool.world <= 1:
            return {}
        return {"done": self._results.items(self.pool.chunks), "items": self.pool.items}

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that ends with the session at the latest."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _undo(self, chunks: Iterable[int]) -> None:
        for index in chunks:
            self._results.undo(index)
            self.pool.undone(index)
        self._changed.set()

    def _note_of(self, guest: Guest, kind: str, index: int, start: int, stop: int) -> None:
        self.report.note(kind, guest.worker, guest.rank, index, start, stop)

    # What becomes of calls

    def heard(self, message: dict[str, Any]) -> None:
        """The worker says how a call fares."""
        if self._guests.is_early(message):
            return
        call, state, attempt = str(message["call"]), message["state"], int(message["attempt"])
        guest = self._guests.get(call)
        if guest is None or guest.ended or attempt < guest.attempt:
            return
        guest.worker = str(message.get("worker") or guest.worker)
        if state == "gone":
            self._gone(guest, call)
            # It may wake up again, and is then too late.
            guest.attempt = attempt + 1
            return
        self._admit(guest, call, attempt)
        if state == "ended":
            self._ended(guest, call, message)

    def _gone(self, guest: Guest, call: str) -> None:
        """Whoever executed the call is no more: its chunks go back, those too whose results are on their way.
        Where they save, so does all that it has done."""
        for task in guest.fetching:
            task.cancel()
        done = self._results.by(call)
        self._undo([index for index in done if self._saves or index not in self._results])
        self.pool.lost(call)
        guest.failures, guest.dismissed = 0, False
        self._changed.set()

    def _ended(self, guest: Guest, call: str, message: Mapping[str, Any]) -> None:
        guest.ended = True
        error = message.get("error") or {}
        failed = message.get("status") == "failed"
        if failed and not out_of_reach(error) and not died(error):
            self._failure = self._failure or RankFailed(guest.failure(error))
        elif message.get("status") == "finished":
            self.pool.lost(call)
        else:
            self._gone(guest, call)
            if failed:
                # Whatever kills engines would kill those of others too.
                self._in_vain(guest.failure(error), again=not cannot_travel(error) and not died(error))
        self._changed.set()

    def _in_vain(self, why: str, again: bool = True) -> None:
        """Results of a call do not get here, never or (`again`) now. Where the parent does nothing itself, others
        would be called for ever."""
        if (attendance := self._attendance) is None or attendance.parent:
            return
        if attendance.in_vain() or not again:
            self._failure = self._failure or RankFailed(why)
