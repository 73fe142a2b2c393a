"""The workers that a node's calls can go to: announcements followed while somebody asks."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from comfy_dist.calls.errors import LinkRefused
from comfy_dist.errors import BrokerUnavailable
from comfy_dist.messages import (
    ANYBODY,
    Announcement,
    Catalogue,
    Command,
    Requirements,
    Route,
    Urgency,
    WorkerState,
)
from comfy_dist.registry import Registry
from comfy_dist.transport import Transport

#: Seconds in which a live worker that has much to do answers the roll call; one that hangs is waited for as long.
LATE_SECONDS = 5.0
#: Between two looks how many live workers there are, while not all have answered.
RECOUNT_SECONDS = 0.5
#: Seconds after the last question for which announcements are followed.
KEEP_SECONDS = 60.0
CATALOGUE_SECONDS = 5.0
#: States of a worker that takes calls now or when what it executes has ended.
TAKING = (WorkerState.IDLE, WorkerState.BUSY)

log = logging.getLogger(__name__)


class Peers:
    """A registry kept by a worker while its nodes ask. Most workers' never do, and these follow nothing.

    It begins with a roll call, that is complete when as many have answered as the broker knows to be connected.
    """

    def __init__(self, transport: Transport, worker_id: str) -> None:
        self._transport = transport
        self._worker = worker_id
        self._registry = Registry()
        self._wanted = asyncio.Event()
        self._asked_at = 0.0
        #: Set while announcements are followed and the roll has been called.
        self._called = asyncio.Event()
        #: Who has answered.
        self._seen: set[str] = set()
        #: Set by the next announcement.
        self._news = asyncio.Event()

    async def follow(self) -> None:
        """Fold announcements from a question on, for as long as others follow it, until cancelled."""
        while True:
            await self._wanted.wait()
            async with self._transport.announcements() as announcements, asyncio.TaskGroup() as tasks:
                # Who has left meanwhile has told nobody here.
                self._registry.expire(math.inf)
                self._seen.clear()
                tasks.create_task(self._call_the_roll())
                async for announcement in announcements:
                    self._registry.see(announcement, time.monotonic())
                    self._seen.add(announcement.id)
                    self._news.set()
                    if self._called.is_set() and time.monotonic() - self._asked_at > KEEP_SECONDS:
                        self._wanted.clear()
                        self._called.clear()
                        break
                else:
                    # The transport was closed.
                    return

    async def taking(self) -> list[Announcement]:
        """The live workers that take calls, by name; this one among them."""
        self._asked_at = time.monotonic()
        self._wanted.set()
        with suppress(TimeoutError):
            # Longer only where there is no connection.
            async with asyncio.timeout(LATE_SECONDS + RECOUNT_SECONDS):
                await self._called.wait()
        self._registry.expire(time.monotonic())
        return [worker for worker in self._registry.workers if worker.state in TAKING and not worker.paused]

    async def able(self, asked: Requirements) -> tuple[list[Announcement], Requirements]:
        """Those of them that have what is asked for, and what some of the others lack."""
        taking = await self.taking()
        await asyncio.gather(*(self._learn(worker) for worker in _strangers(self._registry, taking)))
        found = self._registry.place(asked)
        able = {worker.id for worker in found.able}
        return [worker for worker in taking if worker.id in able], found.missing or ANYBODY

    async def route(self, asked: Requirements) -> Route:
        """Of a call that asks for this. Raises LinkRefused where nobody can execute it."""
        able, missing = await self.able(asked)
        if not able:
            what = ", ".join(missing.nodes) or missing.worker or "what it asks for"
            raise LinkRefused(f"No live worker can execute this call: none has {what}.")
        return Route(urgency=Urgency.CALL, requirements=missing)

    async def nodes(self) -> dict[str, Any]:
        """The /object_info of every class that some of them have."""
        await self.able(ANYBODY)
        catalogue = self._registry.catalogue
        return dict(catalogue.nodes) if catalogue is not None else {}

    def name_of(self, worker_id: str) -> str:
        """The id, where the worker was not seen."""
        return next((worker.name for worker in self._registry.live if worker.id == worker_id), worker_id)

    async def _call_the_roll(self) -> None:
        """Everybody who is connected shows up, this worker too. Later ones do by themselves."""
        began = time.monotonic()
        complete = False
        while not complete:
            if self._worker not in self._seen:
                # Lost with a connection, where it is not the first.
                await self._transport.send(Command(verb="announce"))
            with suppress(BrokerUnavailable, TimeoutError):
                live = await self._transport.enlisted()
                async with asyncio.timeout(RECOUNT_SECONDS):
                    while self._worker not in self._seen or len(self._seen) < live:
                        self._news.clear()
                        await self._news.wait()
                complete = True
            complete |= self._worker in self._seen and time.monotonic() - began > LATE_SECONDS
        self._called.set()

    async def _learn(self, worker: Announcement) -> None:
        reply = await self._transport.ask(Command(verb="catalogue", worker=worker.id), CATALOGUE_SECONDS)
        if reply is None or not reply.result:
            return
        try:
            self._registry.learn(Catalogue.model_validate(reply.result))
        except ValidationError as error:
            log.warning("The catalogue of worker %s is not understood: %s", worker.name, error)


def as_told(worker: Announcement, state: str) -> dict[str, Any]:
    """What nodes are told of a worker."""
    return {
        "id": worker.id,
        "name": worker.name,
        "engine": worker.engine,
        "devices": [device.name for device in worker.devices],
        "state": state,
        "waits_for": list(worker.waits_for),
    }


def _strangers(registry: Registry, workers: Sequence[Announcement]) -> list[Announcement]:
    """One for each catalogue that is not known."""
    return list({worker.catalogue: worker for worker in workers if not registry.knows(worker.catalogue)}.values())
