"""Whether a worker is paused, told to who waits for it; and pauses kept from being forgotten."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable

from comfy_dist.errors import BrokerUnavailable
from comfy_dist.messages import Fact, PausedFact, ResumedFact
from comfy_dist.pauses import Pauses
from comfy_dist.transport import Transport

log = logging.getLogger(__name__)

#: Seconds after which a pause that stands is said again, by one of the workers.
SAY_AGAIN_SECONDS = 3600.0


class Pausing:
    """Shared by a worker's engines: folds the pauses that concern it and the others."""

    def __init__(
        self,
        transport: Transport,
        worker_id: str,
        name: str,
        changed: Callable[[], object],
        say_again: float = SAY_AGAIN_SECONDS,
    ) -> None:
        """`changed` is called on every change; `say_again` in seconds."""
        self._transport = transport
        self._id = worker_id
        self._name = name
        self._changed = changed
        self._say_again = say_again
        self._pauses = Pauses()
        #: When each pause that stands was last said, by the monotonic clock.
        self._said: dict[PausedFact, float] = {}
        self._begun = asyncio.Event()
        self._lifted = asyncio.Event()
        self._lifted.set()

    @property
    def paused(self) -> bool:
        return self._begun.is_set()

    async def lifted(self) -> None:
        """Returns when the worker is not paused."""
        await self._lifted.wait()

    def fold(self, fact: Fact) -> None:
        """Take in the next fact of the control stream."""
        if not isinstance(fact, (PausedFact, ResumedFact)):
            return
        self._pauses.fold(fact)
        if isinstance(fact, PausedFact):
            self._said[fact.model_copy(update={"again": False})] = time.monotonic()
        if (paused := self._pauses.hold(self._id, self._name)) == self.paused:
            return
        log.info("Worker %s is %s.", self._name, "paused: it takes no more jobs" if paused else "resumed")
        now, before = (self._begun, self._lifted) if paused else (self._lifted, self._begun)
        before.clear()
        now.set()
        self._changed()

    async def keep(self) -> None:
        """Say pauses again that nobody has said for long, until cancelled: streams forget what is old.

        The workers look at moments of their own, so one says it and the others see that it was said.
        """
        while True:
            await asyncio.sleep(self._say_again * random.uniform(0.5, 1))
            for fact in self._pauses.standing:
                # Of another's id it need not be said: another start of that worker has another one.
                if fact.worker not in (None, self._id):
                    continue
                if time.monotonic() - self._said.get(fact, -math.inf) >= self._say_again / 2:
                    try:
                        await self._transport.append_fact(fact.model_copy(update={"again": True}))
                    except BrokerUnavailable as error:
                        log.debug("A pause is not yet said again: %s", error)
