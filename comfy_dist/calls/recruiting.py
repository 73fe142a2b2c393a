"""Workers that come while a batch is being shared out are called to it too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from comfy_dist.calls.errors import LinkLost, LinkRefused
from comfy_dist.calls.guests import Guests
from comfy_dist.calls.here import Here
from comfy_dist.calls.participants import Invitation, NobodyElse, Participants, engines_of, participants
from comfy_dist.calls.shares import Pool
from comfy_dist.messages import Spread

log = logging.getLogger(__name__)

#: Seconds between two looks at who has come.
RECRUIT_SECONDS = 2.0


class Recruiting:
    """Of one region that is divided, and in which nothing looks at ranks. On the link's loop."""

    def __init__(
        self, here: Here, found: Participants, spread: Spread, prompt: Mapping[str, Any], node: str
    ) -> None:
        """`found`: who was there at the beginning; `prompt`: what others are to execute."""
        self._here = here
        self._known = {str(worker["id"]) for worker in found.others}
        self._spread = spread
        self._prompt = prompt
        self._node = node

    async def run(self, pool: Pool, guests: Guests, call: Mapping[str, Any]) -> None:
        """Call them, as long as items are left that nobody has."""
        while pool.uncut:
            await asyncio.sleep(RECRUIT_SECONDS)
            try:
                more = await self._newcomers(guests)
            except (LinkLost, LinkRefused, NobodyElse) as error:
                log.debug("It is not known who has come: %s", error)
                continue
            if more and pool.uncut:
                log.info("%d more are called to help with node %s.", len(more), self._node)
                pool.joined(len(more))
                await guests.invite(self._here, call, more)

    async def _newcomers(self, guests: Guests) -> list[Invitation]:
        """Raises LinkLost, LinkRefused, NobodyElse."""
        workers = (await self._here.ask("peers", prompt=self._prompt))["workers"]
        found = participants(workers, self._here.worker_id, self._spread, self._node)
        new = [worker for worker in found.others if str(worker["id"]) not in self._known]
        self._known.update(str(worker["id"]) for worker in new)
        names = [str(worker["name"]) for worker in new for _ in range(engines_of(worker))]
        return [
            Invitation(name if found.chosen else None, rank) for rank, name in enumerate(names, len(guests) + 1)
        ]
