"""The workers that a node's calls can go to: announcements followed from the first time somebody asks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from comfy_dist.messages import ANYBODY, Announcement, Catalogue, Command, Requirements, WorkerState
from comfy_dist.registry import Registry
from comfy_dist.transport import Transport

#: Seconds in which the live workers answer the first roll call.
ROLL_CALL_SECONDS = 0.5
CATALOGUE_SECONDS = 5.0
#: Seconds from the roll call on in which a live worker may still show up that was too busy to answer it.
LATE_SECONDS = 5.0
#: States of a worker that takes calls now or when what it executes has ended.
TAKING = (WorkerState.IDLE, WorkerState.BUSY)

log = logging.getLogger(__name__)


class Peers:
    """A registry kept by a worker. Most workers never ask, and follow nothing."""

    def __init__(self, transport: Transport, worker_id: str) -> None:
        self._transport = transport
        self._worker = worker_id
        self._registry = Registry()
        self._wanted = asyncio.Event()
        self._called = False
        self._calling = asyncio.Lock()
        #: Set when this worker has seen itself: whoever announced before is known.
        self._seen_self = asyncio.Event()
        #: Set by the next announcement.
        self._news = asyncio.Event()
        #: Who was not seen until then is not there.
        self._all_seen_at = 0.0

    async def follow(self) -> None:
        """Fold announcements from the first question on, until cancelled."""
        await self._wanted.wait()
        async for announcement in self._transport.announcements():
            self._registry.see(announcement, time.monotonic())
            if announcement.id == self._worker:
                self._seen_self.set()
            news, self._news = self._news, asyncio.Event()
            news.set()

    async def taking(self) -> list[Announcement]:
        """The live workers that take calls, by name; this one among them."""
        await self._call_the_roll()
        self._registry.expire(time.monotonic())
        return [worker for worker in self._registry.workers if worker.state in TAKING and not worker.paused]

    async def able(self, asked: Requirements) -> tuple[list[Announcement], Requirements]:
        """Those of them that have what is asked for, and what some of the others lack.

        Where nobody has, who is late to the first roll call is waited for.
        """
        while True:
            news = self._news
            able, missing = await self._able(asked)
            left = self._all_seen_at - time.monotonic()
            if able or left <= 0:
                return able, missing
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await news.wait()

    async def _able(self, asked: Requirements) -> tuple[list[Announcement], Requirements]:
        taking = await self.taking()
        await asyncio.gather(*(self._learn(worker) for worker in _strangers(self._registry, taking)))
        found = self._registry.place(asked)
        able = {worker.id for worker in found.able}
        return [worker for worker in taking if worker.id in able], found.missing or ANYBODY

    async def nodes(self) -> dict[str, Any]:
        """The /object_info of every class that some of them have."""
        await self.able(ANYBODY)
        catalogue = self._registry.catalogue
        return dict(catalogue.nodes) if catalogue is not None else {}

    def name_of(self, worker_id: str) -> str:
        """The id, where the worker was not seen."""
        return next((worker.name for worker in self._registry.live if worker.id == worker_id), worker_id)

    async def _call_the_roll(self) -> None:
        """Once: everybody shows up, this worker too. Later ones show up by themselves."""
        async with self._calling:
            if self._called:
                return
            self._wanted.set()
            self._all_seen_at = time.monotonic() + LATE_SECONDS
            # The subscription is made when the loop comes to it; a call that was too early is made again.
            for _ in range(10):
                await self._transport.send(Command(verb="announce"))
                try:
                    async with asyncio.timeout(ROLL_CALL_SECONDS):
                        await self._seen_self.wait()
                except TimeoutError:
                    continue
                self._called = True
                # Who is farther away or has much to do answers later, and would have no part in the first region.
                await asyncio.sleep(ROLL_CALL_SECONDS)
                return

    async def _learn(self, worker: Announcement) -> None:
        reply = await self._transport.ask(Command(verb="catalogue", worker=worker.id), CATALOGUE_SECONDS)
        if reply is None or not reply.result:
            return
        try:
            self._registry.learn(Catalogue.model_validate(reply.result))
        except ValidationError as error:
            log.warning("The catalogue of worker %s is not understood: %s", worker.name, error)


def _strangers(registry: Registry, workers: Sequence[Announcement]) -> list[Announcement]:
    """One for each catalogue that is not known."""
    return list({worker.catalogue: worker for worker in workers if not registry.knows(worker.catalogue)}.values())
