"""The routes beside the common ones: who serves which, and which are forgotten."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

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

    async def keep(self) -> None:
        """Review the routes, until cancelled: facts are kept for a while only.

        The workers do so at moments of their own, so one tells and the others see that it was told.
        """
        while True:
            await asyncio.sleep(self._review * random.uniform(0.05, 0.1))
            for route, told in list(self._told.items()):
                if time.monotonic() - told < self._review:
                    continue
                try:
                    if await self._transport.waiting(route):
                        await self._transport.append_fact(RouteFact(route=route))
                    else:
                        del self._told[route]
                        self._changed()
                except BrokerUnavailable as error:
                    log.debug("A route is not yet reviewed: %s", error)
