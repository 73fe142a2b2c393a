"""A region, where it stands in a prompt: shared out, executed chunk by chunk, and put together again."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from comfy_dist.calls.attendance import FALLING_BACK, Attendance
from comfy_dist.calls.clones import NodeOf, rank_prompt
from comfy_dist.calls.errors import LinkLost, LinkRefused
from comfy_dist.calls.here import Here
from comfy_dist.calls.layout import Layout
from comfy_dist.calls.offered import Offered, Values, bounds, items_in, items_of_all, offset_of
from comfy_dist.calls.participants import (
    Invitation,
    NobodyElse,
    invitations,
    least_loaded,
    participants,
    shares,
)
from comfy_dist.calls.parts import Local, expansion, values_needed
from comfy_dist.calls.recruiting import Recruiting
from comfy_dist.calls.running_job import RunningJob
from comfy_dist.calls.session import PARENT, Session
from comfy_dist.calls.share_pool import Share, SharePool
from comfy_dist.calls.shares import MAX_CHUNKS, Pool
from comfy_dist.calls.speeds import kind_of
from comfy_dist.calls.turns import Expansion, turns, wait_for
from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import EVERYWHERE, Participation, Prompt, Spread, now_ms
from comfy_dist.tensors.batches import is_latent, join
from comfy_dist.tensors.errors import CannotTravel

log = logging.getLogger(__name__)
T = TypeVar("T")


class NothingDivided(ComfyDistError):
    """An opening node that is given nothing to divide."""


class Parent:
    """One execution of a region, as a Turn."""

    def __init__(
        self,
        layout: Layout,
        node_of: NodeOf,
        given: Mapping[str, Values],
        here: Here | None = None,
        job: RunningJob | None = None,
        peers: Mapping[str, Any] | None = None,
        prompt: Prompt | None = None,
        say: Callable[[str], None] = log.info,
    ) -> None:
        """`peers` is what the worker says of who can help with `prompt`; `say` is told what people should know.

        Raises NothingDivided, UnusableOffset, UnevenBatches, NobodyElse.
        """
        self.layout = layout
        self._node_of = node_of
        self._given = given
        self._here = here
        self._kind = kind_of(layout, node_of)
        self._job = job
        self._divided = {node: _divided(layout, node, given) for node in layout.openers}
        self._offsets = {node: _offset(layout, node, given) for node in layout.openers}
        peers = peers or {}
        everyone = peers.get("workers", ())
        workers = [{key: each[key] for key in ("name", "engine", "devices")} for each in everyone]
        own = here.worker_id if here is not None else ""
        spread = job.spread if job is not None else EVERYWHERE
        self._name = here.worker if here is not None else ""
        self._found = participants(everyone, own, spread, layout.shown)
        if self._found.parent and spread.participation is Participation.FALLBACK:
            say(FALLING_BACK)
        pool: Pool | SharePool
        if layout.shares:
            pool = SharePool(self._shares((self._name, own), spread))
        else:
            pool = self._pool(int(peers.get("engines", 1)))
        attendance = recruiting = None
        self._prompt = prompt
        if here is not None and job is not None and prompt is not None:
            parent = self._found.parent
            if layout.shares or not parent:
                attendance = Attendance(here, own, spread, prompt, layout.shown, parent=parent, say=say)
            elif not layout.ranked and pool.world > 1:
                recruiting = Recruiting(here, self._found, spread, prompt, layout.shown)
        self.session = Session(
            pool,
            layout.closers,
            node=layout.shown,
            saves=bool(layout.outputs),
            workers=json.dumps(sorted(workers, key=lambda each: str(each["name"]))),
            offsets=self._offsets,
            attendance=attendance,
            recruiting=recruiting,
            tell=here.tell if here is not None else None,
            before=here.speeds.of(self._kind) if here is not None else None,
        )
        self._since = 0

    async def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return await wait_for(self._here, self._job, work)

    def _shares(self, own: tuple[str, str], spread: Spread) -> list[Share]:
        """What is to be done by whom, of a workflow that is executed once for each share."""
        if self.layout.balanced or any(any(self._given.get(name, ())) for name in self.layout.balancing):
            return [least_loaded(self._found)]
        return shares(self._found, own, spread)

    def _pool(self, engines: int) -> Pool:
        """The chunks of what is divided."""
        found = self._found
        if found.chosen or not found.parent:
            engines = found.engines
        items = items_of_all(self._divided) if self.layout.openers else engines
        if not items:
            # Of nothing there is one part, which is the parent's.
            self._found = found = replace(found, parent=True)
        world = max(1, min(items, engines, MAX_CHUNKS))
        # Who is alone shares with nobody: one chunk, as batches are for.
        alone = world == 1 and found.parent
        chunks_per_worker = 1 if alone else self.layout.chunks_per_worker
        if self._here is None:
            return Pool(items, world, self.layout.ranked, chunks_per_worker)
        speeds, kind = self._here.speeds, self._kind
        able = [str(each["id"]) for each in found.others] + [self._here.worker_id] * bool(found.beside)
        least = speeds.least_of(kind, able)
        return Pool(items, world, self.layout.ranked, chunks_per_worker, speeds.of_others(kind), least)

    def _invitations(self) -> list[Invitation]:
        pool = self.session.pool
        if isinstance(pool, SharePool):
            called = [share for share in pool.shares if share.worker]
            return [Invitation(share.worker, rank, share.number) for rank, share in enumerate(called, 1)]
        return invitations(self._found, self._name, pool.world - self._found.parent)

    async def begin(self) -> Expansion | None:
        """Invite others, and take the first chunk. None: others have done it all. Raises Stopped."""
        if self._job is None:
            # Nobody tells when a prompt is over; but when another one executes, it is.
            for session, turn in list(turns.items()):
                if isinstance(turn, Parent) and turn._node_of != self._node_of:
                    del turns[session]
        else:
            self._job.at_end(self.session, self.session.close)
        turns[self.session.id] = self
        if self._here is not None and self._job is not None and (called := self._invitations()):
            await self._invite(self._here, self._job, called)
        return await self._next(None, {})

    async def next(self, done: int, results: Mapping[str, Values]) -> Expansion | None:
        """As of a Turn. Raises Stopped, RankFailed."""
        if self._here is not None:
            self.session.report.note("execute", self._here.worker, 0, done, self._since, now_ms())
        return await self._next(done, results)

    def next_now(self, done: int, results: Mapping[str, Values]) -> Expansion | None:
        """None: the session hands out chunks on its own thread."""
        return None

    def outputs(self) -> list[Values]:
        """As of a Turn. Raises UnusableBatch."""
        outputs = []
        for closer, chunks in self.session.results().items():
            if self.layout.closers[closer] == "list":
                outputs.append([join(values) for values in chunks if values])
            else:
                values = [value for chunk in chunks for value in chunk]
                outputs.append([join(values, self._whole())] if values else [])
        return outputs

    async def _next(self, done: int | None, results: Mapping[str, Values]) -> Expansion | None:
        try:
            chunk = await self.session.next(done, results)
            if chunk is None:
                await self._settle()
        except BaseException:
            self._end()
            raise
        if chunk is None:
            self._end()
            self._learn()
            return None
        self._since = now_ms()
        part = Local(
            self.layout,
            self._node_of,
            chunk,
            lambda node: bounds(chunk, items_in(self._divided[node]), self._offsets[node]),
            self.session.workers,
        )
        return Expansion(*expansion(self.layout, self._node_of, chunk, part, self.session.id))

    def _learn(self) -> None:
        """How fast each was."""
        if self._here is None or not isinstance(pool := self.session.pool, Pool):
            return
        others: dict[str, float] = {}
        for who, speed in pool.speeds.items():
            if who == PARENT:
                self._here.speeds.note(self._kind, speed)
            elif worker := self.session.worker_of(who):
                # Of its engines the slowest.
                others[worker] = min(speed, others.get(worker, speed))
        for worker, speed in others.items():
            self._here.speeds.note_other(self._kind, worker, speed)

    async def _settle(self) -> None:
        """Tell the worker what counts of what calls have shown, and that nobody need take those that wait."""
        if self._here is None or not (calls := self.session.calls):
            return
        if self.layout.outputs:
            await self._here.ask("counted", calls=self.session.counted())
        self._here.tell("void", calls=calls, going=self.session.going)

    def _end(self) -> None:
        self.session.close()
        if self._job is not None:
            self._job.forget(self.session)

    async def _invite(self, here: Here, job: RunningJob, called: list[Invitation]) -> None:
        """Where what ranks need cannot travel, nobody is invited, and the parent does everything, if it may.

        Raises CannotTravel.
        """
        layout, node_of = self.layout, self._node_of
        needed = values_needed(layout, node_of)
        values = {name: self._given[name] for name in needed}
        try:
            offered = Offered(here.plane, self.session.id, self._divided, values)
            staying = offered.staying()
            if unknown := staying - _carried(layout):
                raise CannotTravel(f"what {', '.join(sorted(unknown))} of its Run node brings cannot travel.")
            for name in values_needed(layout, node_of, staying):
                if name not in values:
                    offered.add(name, self._given[name])
        except CannotTravel as error:
            if not self._found.parent:
                raise
            log.warning("Nobody can help with node %s: %s", layout.shown, error)
            self.session.alone()
            return
        peer = self.session.open(here, job, offered)
        rank_id = rank_id_of(layout)
        call = {
            "prompt": rank_prompt(layout, node_of, rank_id, staying) if staying else self._prompt,
            "targets": [rank_id],
            "world": self.session.pool.world,
            "node": layout.shown,
            "region": layout.run,
            "session": peer,
            "helper": not layout.outputs and not layout.shares,
        }
        await self.session.invite(call, called)

    def _whole(self) -> Any:
        """The batch that results are joined like: what is given to slices alone is taken away again."""
        batches = [values[0] for values in self._divided.values() if len(values) == 1]
        latents = [batch for batch in batches if is_latent(batch)]
        bare = [latent for latent in latents if "batch_index" not in latent]
        return next(iter([*bare, *latents, *batches]), None)


async def share_out(
    layout: Layout,
    node_of: NodeOf,
    given: Mapping[str, Values],
    here: Here | None,
    say: Callable[[str], None] = log.info,
) -> Expansion | list[Values]:
    """Begin a region; `given` are its Run node's inputs. Without an expansion others have done it all: for each
    closing node what it is to close with.

    Raises Stopped, NothingDivided, UnusableOffset, UnevenBatches, NobodyElse, RankFailed.
    """
    job, peers, prompt = None, {}, None
    if here is not None:
        try:
            job = await here.job()
            prompt = rank_prompt(layout, node_of, rank_id_of(layout))
            peers = await job.wait(here.ask("peers", prompt=prompt))
        except (LinkLost, LinkRefused) as error:
            log.warning("Nobody is asked to help with node %s: %s", layout.shown, error)
    parent = Parent(layout, node_of, given, here, job, peers, prompt, say)
    expansion = await (parent.begin() if job is None else job.wait(parent.begin()))
    return parent.outputs() if expansion is None else expansion


async def shares_now(layout: Layout, here: Here) -> str:
    """What is to be done by whom, of a workflow that is executed once for each worker; "" for anything else.

    Raises LinkLost, LinkRefused.
    """
    if not layout.shares or layout.balanced:
        return ""
    job = await here.job()
    workers = (await here.ask("peers"))["workers"]
    try:
        found = participants(workers, here.worker_id, job.spread, layout.shown)
    except NobodyElse:
        return ""
    return json.dumps(
        [[each.number, each.worker] for each in shares(found, (here.worker, here.worker_id), job.spread)]
    )


def rank_id_of(layout: Layout) -> str:
    return f"{layout.run}.rank"


def _carried(layout: Layout) -> frozenset[str]:
    """The Run node's inputs whose sources can come with a call instead of their values."""
    carried = frozenset(layout.carried)
    return frozenset(name for key, name in layout.links.items() if key.rpartition(":")[0] in carried)


def _divided(layout: Layout, node: str, given: Mapping[str, Values]) -> Values:
    name = layout.openers[node].input
    if name not in given:
        raise NothingDivided(f"Node {node} is to divide a batch, and nothing is linked to it.")
    return given[name]


def _offset(layout: Layout, node: str, given: Mapping[str, Values]) -> int:
    opener = layout.openers[node]
    linked = given.get(opener.linked.get("index_offset", ""))
    return offset_of(node, linked[0] if linked else opener.given.get("index_offset", 0))
