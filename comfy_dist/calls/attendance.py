"""Whether those who were called to a region come: where they are to do all of it, or shares of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from comfy_dist.calls.guests import Guests
from comfy_dist.calls.here import Here
from comfy_dist.calls.participants import Invitation, NobodyElse, Worker
from comfy_dist.calls.sent_workflows import gives_way
from comfy_dist.calls.share_pool import SharePool
from comfy_dist.calls.shares import Pool
from comfy_dist.messages import Participation, Spread

#: Seconds between two looks at who is there.
ATTEND_SECONDS = 2.0
#: Seconds that an orchestrator-only prompt waits for a worker to come back, once all are gone, and goes on calling
#: others whose results do not get here.
ALONE_SECONDS = 30.0
#: What is said where that happens.
FALLING_BACK = "No other worker is there, so this one does it (fallback)."


class Attendance:
    """Of one region. On the link's loop."""

    def __init__(
        self,
        here: Here,
        own: str,
        spread: Spread,
        prompt: Mapping[str, Any],
        node: str,
        *,
        parent: bool,
        say: Callable[[str], None],
    ) -> None:
        """`own`: id of the parent's worker; `prompt`: what the others are to execute."""
        #: Whether the parent does what is left itself.
        self.parent = parent
        self._here = here
        self._own = own
        self._spread = spread
        self._prompt = prompt
        self._node = node
        self._say = say
        self._looked = time.monotonic()
        self._alone_since: float | None = None
        #: Since when no result of another one has got here, though there was one.
        self._in_vain_since: float | None = None
        self._waits: list[str] = []

    @property
    def due(self) -> bool:
        """Whether it is time for another look."""
        return time.monotonic() - self._looked >= ATTEND_SECONDS

    async def missing(self, pool: Pool | SharePool, guests: Guests) -> list[Invitation]:
        """Whom to call for what those who were called will not do. Raises LinkLost, LinkRefused, NobodyElse."""
        others = await self._others()
        names = {str(worker["name"]) for worker in others}
        at_work = [guests[call] for call in guests if pool.outstanding(call)]
        awaited = [
            guests[call]
            for call in guests
            if not guests[call].ended and guests[call].target in names and not pool.outstanding(call)
        ]
        coming = {guest.target for guest in (*at_work, *awaited)}
        await self._wait_for([guest.target for guest in awaited])
        if isinstance(pool, SharePool):
            # Whoever has something else to do may be long, or even wait for this one.
            idle = {str(worker["name"]) for worker in others if worker["state"] == "idle"}
            begun = {guests[call].target for call in guests if guests[call].attempt}
            pool.unowned(names & (idle | begun))
            left = len(pool.free(time.monotonic())) - sum(guest.spare for guest in awaited)
        else:
            left = max(1, len(others)) if pool.left and not coming else 0
        if left > 0 and not others:
            self._alone()
        more = [str(worker["name"]) for worker in others if worker["name"] not in coming][: max(0, left)]
        return [Invitation(name, rank) for rank, name in enumerate(more, len(guests) + 1)]

    def came(self) -> None:
        """A result of another one is here."""
        self._in_vain_since = None

    def in_vain(self) -> bool:
        """A result of another one did not get here. Whether it is of no use to call others for it again."""
        now = time.monotonic()
        self._in_vain_since = now if self._in_vain_since is None else self._in_vain_since
        return not self.parent and now - self._in_vain_since > ALONE_SECONDS

    def over(self) -> None:
        """Nobody is waited for any longer."""
        if self._waits:
            self._here.tell("waits", node=self._node, workers=[])

    async def _others(self) -> list[Worker]:
        """The other workers that can help, idle ones first."""
        self._looked = time.monotonic()
        workers = (await self._here.ask("peers", prompt=self._prompt))["workers"]
        await self._give_way_in_a_circle(workers)
        others = [worker for worker in workers if worker["id"] != self._own]
        if others:
            self._alone_since = None
        return sorted(others, key=lambda worker: worker["state"] != "idle")

    async def _wait_for(self, names: Sequence[str]) -> None:
        """Those workers have been called and have not begun: only they can, if the parent does nothing itself."""
        waits = [] if self.parent else sorted(set(names))
        if waits != self._waits:
            self._waits = waits
            await self._here.ask("waits", node=self._node, workers=waits)

    def _alone(self) -> None:
        """There are no others, and something is left to do. Raises NobodyElse, if that lasts."""
        now = time.monotonic()
        self._alone_since = now if self._alone_since is None else self._alone_since
        if self.parent:
            return
        if self._spread.participation is Participation.FALLBACK:
            self.parent = True
            self._say(FALLING_BACK)
        elif now - self._alone_since > ALONE_SECONDS:
            raise NobodyElse(self._node)

    async def _give_way_in_a_circle(self, workers: Sequence[Worker]) -> None:
        """Of workers that wait for each other to begin one gives its job back; it comes again when others have
        ended. Never returns then."""
        # This one need not be able to do the work itself, and then is none of them.
        name = self._here.worker
        if gives_way(name, {worker["name"]: worker["waits_for"] for worker in workers} | {name: self._waits}):
            await self._here.ask("give_way")
            await asyncio.Event().wait()
