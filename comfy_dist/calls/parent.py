"""A region, where it stands in a prompt: shared out, executed chunk by chunk, and put together again."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from comfy_dist.calls.clones import NodeOf, rank_prompt
from comfy_dist.calls.errors import LinkLost, LinkRefused
from comfy_dist.calls.here import Here
from comfy_dist.calls.layout import Layout
from comfy_dist.calls.offered import Offered, Values, bounds, items_in, items_of_all
from comfy_dist.calls.parts import Local, expansion, values_needed
from comfy_dist.calls.running_job import RunningJob
from comfy_dist.calls.session import Session
from comfy_dist.calls.shares import MAX_CHUNKS, Pool
from comfy_dist.calls.turns import Expansion, turns, wait_for
from comfy_dist.errors import ComfyDistError
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
    ) -> None:
        """`peers` is what the worker says of who can help. Raises NothingDivided, UnevenBatches."""
        self.layout = layout
        self._node_of = node_of
        self._given = given
        self._here = here
        self._job = job
        self._divided = {node: _divided(layout, node, given) for node in layout.openers}
        self._offsets = {node: _offset(layout, node, given) for node in layout.openers}
        peers = peers or {}
        engines = int(peers.get("engines", 1))
        items = items_of_all(self._divided) if layout.openers else engines
        workers = [{key: each[key] for key in ("name", "engine", "devices")} for each in peers.get("workers", ())]
        world = max(1, min(items, engines, MAX_CHUNKS))
        # Who is alone shares with nobody: one chunk, as batches are for.
        self.session = Session(
            Pool(items, world, layout.ranked, layout.chunks_per_worker if world > 1 else 1),
            layout.closers,
            node=layout.shown,
            saves=bool(layout.outputs),
            workers=json.dumps(sorted(workers, key=lambda each: str(each["name"]))),
            offsets=self._offsets,
        )
        self._since = 0

    async def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return await wait_for(self._here, self._job, work)

    async def begin(self) -> Expansion:
        """Invite others, and take the first chunk. Raises Stopped."""
        if self._job is None:
            # Nobody tells when a prompt is over; but when another one executes, it is.
            for session, turn in list(turns.items()):
                if isinstance(turn, Parent) and turn._node_of != self._node_of:
                    del turns[session]
        else:
            self._job.at_end(self.session, self.session.close)
        turns[self.session.id] = self
        if self._here is not None and self._job is not None and self.session.pool.world > 1:
            await self._invite(self._here, self._job)
        expansion = await self._next(None, {})
        assert expansion is not None
        return expansion

    async def next(self, done: int, results: Mapping[str, Values]) -> Expansion | None:
        """As of a Turn. Raises Stopped, RankFailed."""
        if self._here is not None:
            self._here.tell("spans", spans=[self._span(done)])
        return await self._next(done, results)

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
            return None
        self._since = time.time_ns()
        part = Local(
            self.layout,
            self._node_of,
            chunk,
            lambda node: bounds(chunk, items_in(self._divided[node]), self._offsets[node]),
            self.session.workers,
        )
        return Expansion(*expansion(self.layout, self._node_of, chunk, part, self.session.id))

    async def _settle(self) -> None:
        """Tell the worker what counts of what calls have shown, and that nobody need take those that wait."""
        if self._here is None or not (calls := self.session.calls):
            return
        if self.layout.outputs:
            await self._here.ask("counted", calls=self.session.counted())
        self._here.tell("void", calls=calls)

    def _end(self) -> None:
        self.session.close()
        if self._job is not None:
            self._job.forget(self.session)

    async def _invite(self, here: Here, job: RunningJob) -> None:
        """Where what ranks need cannot travel, nobody is invited, and the parent does everything."""
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
            log.warning("Nobody can help with node %s: %s", layout.shown, error)
            return
        peer = self.session.open(here, job, offered)
        rank_id = rank_id_of(layout)
        call = {
            "prompt": rank_prompt(layout, node_of, rank_id, staying),
            "targets": [rank_id],
            "world": self.session.pool.world,
            "node": layout.shown,
            "region": layout.run,
            "session": peer,
        }
        self.session.invite(call)

    def _whole(self) -> Any:
        """The batch that results are joined like: what is given to slices alone is taken away again."""
        batches = [values[0] for values in self._divided.values() if len(values) == 1]
        latents = [batch for batch in batches if is_latent(batch)]
        bare = [latent for latent in latents if "batch_index" not in latent]
        return next(iter([*bare, *latents, *batches]), None)

    def _span(self, index: int) -> dict[str, Any]:
        """When this process executed a chunk."""
        return {
            "kind": "execute",
            "start": self._since // 1_000_000,
            "stop": time.time_ns() // 1_000_000,
            "name": f"chunk {index}",
            "worker": self._here.worker if self._here is not None else "",
            "rank": 0,
            "node": self.layout.shown,
        }


async def share_out(layout: Layout, node_of: NodeOf, given: Mapping[str, Values], here: Here | None) -> Expansion:
    """Begin a region; `given` are its Run node's inputs. Raises Stopped, NothingDivided, UnevenBatches."""
    job, peers = None, {}
    if here is not None:
        try:
            job = await here.job()
            prompt = rank_prompt(layout, node_of, rank_id_of(layout))
            peers = await job.wait(here.ask("peers", prompt=prompt))
        except (LinkLost, LinkRefused) as error:
            log.warning("Nobody is asked to help with node %s: %s", layout.shown, error)
    parent = Parent(layout, node_of, given, here, job, peers)
    return await (parent.begin() if job is None else job.wait(parent.begin()))


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
    return int(linked[0] if linked else opener.given.get("index_offset", 0))
