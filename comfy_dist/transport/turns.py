"""In which order a taker looks at the routes it serves."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from comfy_dist.messages import Route, Urgency

#: The routes that every worker serves.
COMMON = tuple(Route(urgency=urgency) for urgency in Urgency)


class Turns:
    """The most urgent first. Within an urgency users take turns; of one user's routes those that not every worker
    serves come before the common one, and take turns too."""

    def __init__(self) -> None:
        self._count = itertools.count(1)
        self._users: dict[str | None, int] = {}
        self._routes: dict[Route, int] = {}

    def order(self, routes: Iterable[Route]) -> list[Route]:
        return sorted(
            routes,
            key=lambda route: (
                route.urgency.rank,
                self._users.get(route.user, 0),
                route.common,
                self._routes.get(route, 0),
            ),
        )

    def took(self, route: Route) -> None:
        """A job came from that route: its turn is over."""
        self._users[route.user] = self._routes[route] = next(self._count)
