"""The routes beside the common ones: who serves which, and which are forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator

from comfy_dist.errors import BrokerUnavailable
from comfy_dist.messages import ANYBODY, Fact, Route, RouteFact
from comfy_dist.routing import Offer, lacks
from comfy_dist.transport import Transport

log = logging.getLogger(__name__)

#: Seconds after which a route of which nobody has told again is looked at: told again while jobs wait on it, else
#: forgotten. Who puts jobs on it tells of it at least every hour.
REVIEW_SECONDS = 43200.0


class Routes:
    """Folds the `route` facts; shared by a worker's engines."""

    def __init__(
        self, transport: Transport, changed: Callable[[], object], review: float = REVIEW_SECONDS
    ) -> None:
        """`changed` is called when a route has become known; `review` in seconds."""
        self._transport = transport
        self._changed = changed
        self._review = review
        #: When each was last told of, by the monotonic clock.
        self._told: dict[Route, float] = {}
        #: Of how many jobs in this worker's hands: they may come back, and are not among those that wait.
        self._held = Counter[Route]()
        #: Set when one is held that others may be about to forget.
        self._old_held = asyncio.Event()

    def fold(self, fact: Fact) -> None:
        """Take in the next fact of the control stream."""
        if not isinstance(fact, RouteFact) or fact.route.common:
            return
        known = fact.route in self._told
        self._told[fact.route] = time.monotonic()
        if not known:
            self._changed()

    def served(self, offer: Offer) -> tuple[Route, ...]:
        """Those whose jobs that engine can execute."""
        return tuple(route for route in self._told if lacks(route.requirements, offer) is ANYBODY)

    @contextlib.contextmanager
    def holding(self, route: Route) -> Iterator[None]:
        """Meanwhile a job of that route is in this worker's hands: nobody forgets the route."""
        self._held[route] += 1
        if self._is_old(route):
            self._old_held.set()
        try:
            yield
        finally:
            self._held[route] -= 1
            if not self._held[route]:
                del self._held[route]

    async def keep(self) -> None:
        """Review the routes, until cancelled: facts are kept for a while only.

        The workers do so at moments of their own, so one tells and the others see that it was told.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._review * random.uniform(0.05, 0.1)):
                    await self._old_held.wait()
            self._old_held.clear()
            for route in list(self._told):
                try:
                    await self._look_at(route)
                except BrokerUnavailable as error:
                    log.debug("A route is not yet reviewed: %s", error)

    async def _look_at(self, route: Route) -> None:
        told = self._told[route]
        if route in self._held:
            # Said early, lest others look first and see that nothing waits there.
            needed = self._is_old(route)
        elif time.monotonic() - told < self._review:
            needed = False
        else:
            needed = await self._transport.waiting(route) > 0
            if not needed and self._told[route] == told:
                del self._told[route]
                self._changed()
        if needed:
            await self._transport.append_fact(RouteFact(route=route))

    def _is_old(self, route: Route) -> bool:
        told = self._told.get(route)
        return told is not None and time.monotonic() - told >= self._review / 2
