"""What calls bring with them: a first chunk for whoever will come at once, who then begins without a question.

The moment in which all ranks come is the one in which nobody has time for their questions.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from comfy_dist.calls.asking import Answer, HeadStart
from comfy_dist.calls.offered import Offered
from comfy_dist.calls.participants import Invitation
from comfy_dist.calls.shares import Chunk, Pool
from comfy_dist.messages import now_ms
from comfy_dist.tensors.packing import INLINE_AT_ONCE

log = logging.getLogger(__name__)

#: Seconds for which a chunk is kept for who was to come at once.
KEPT_SECONDS = 1.0
#: Bytes that are hashed for all head starts of a region: the calls wait for it. Of larger ones ranks ask.
MOST_BYTES = 4 * 2**20
#: Characters of one, which goes through the broker.
MOST_CHARACTERS = 2**16


class HeadStarts:
    """Of one region that is divided. On the link's loop."""

    def __init__(
        self,
        pool: Pool,
        offered: Offered,
        answer: Callable[[Chunk], Awaitable[Answer]],
        changed: Callable[[], object],
    ) -> None:
        """`answer` makes what a rank is told of its first chunk; `changed` is told when chunks have gone back."""
        self._pool = pool
        self._offered = offered
        self._answer = answer
        self._changed = changed
        #: Chunks by the calls that have yet to come, and by those that did not in time.
        self._awaited: dict[str, int] = {}
        self._late: dict[str, int] = {}
        self._unsent: set[int] = set()
        #: Bytes that may still be hashed.
        self._room = 0
        #: Whether chunks are to be small.
        self._little = True
        self._timer: asyncio.TimerHandle | None = None

    async def added(self, invitations: Sequence[Invitation]) -> list[Invitation]:
        """The invitations, with head starts where that can be. They are to be sent now."""
        until = now_ms() + round(KEPT_SECONDS * 1000)
        nbytes_of_values = self._offered.nbytes_of_values()
        self._room = MOST_BYTES - nbytes_of_values
        # What is not written out has to be pulled: then a little is begun with, and the rest is pulled meanwhile.
        share = self._pool.items // self._pool.world
        self._little = self._offered.nbytes_of(share) + nbytes_of_values > INLINE_AT_ONCE
        found = []
        for each in invitations:
            if each.awaited and self._room > 0:
                each = await self._with_head_start(each, until)
            found.append(each)
        self._timer = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._give_up)
        return found

    def owned(self, index: int, call: str) -> None:
        """The chunk is on its way with that call."""
        if index not in self._unsent:
            # It took so long to be sent that it was given up.
            self._late[call] = index
            return
        self._unsent.discard(index)
        self._pool.owned(index, call)
        self._awaited[call] = index

    def sent(self) -> None:
        """Whatever was not sent by now will not be."""
        self._give_back_unsent()

    def came(self, call: str, at: int | None) -> None:
        """Whoever has that call asks something, being at that chunk."""
        self._awaited.pop(call, None)
        if (index := self._late.pop(call, None)) is not None and index == at:
            self._pool.begun(index, call, time.monotonic())

    def close(self) -> None:
        """The region is over."""
        if self._timer is not None:
            self._timer.cancel()

    async def _with_head_start(self, invitation: Invitation, until: int) -> Invitation:
        """Where that cannot be, others are given none either."""
        if (chunk := self._pool.keep(time.monotonic(), little=self._little)) is not None:
            self._unsent.add(chunk.index)
            self._room -= self._offered.nbytes_of(chunk.items)
            if self._room >= 0 and (head_start := await self._head_start(chunk, until)) is not None:
                return replace(invitation, share=chunk.index, head_start=head_start)
            self._give_back(chunk.index)
        self._room = 0
        return invitation

    async def _head_start(self, chunk: Chunk, until: int) -> dict[str, object] | None:
        try:
            head_start = HeadStart(answer=await self._answer(chunk), until=until)
        except Exception as error:  # noqa: BLE001 - no memory for it, say: who comes asks
            log.debug("Chunk %d is not sent along: %s", chunk.index, error)
            return None
        told = head_start.model_dump(mode="json", exclude_defaults=True)
        return told if len(json.dumps(told)) <= MOST_CHARACTERS else None

    def _give_back_unsent(self) -> None:
        for index in tuple(self._unsent):
            self._give_back(index)

    def _give_back(self, index: int) -> None:
        self._unsent.discard(index)
        self._pool.owned(index, None)
        self._changed()

    def _give_up(self) -> None:
        """Others may have what was kept for who has not come."""
        self._give_back_unsent()
        late, self._awaited = self._awaited, {}
        self._late |= late
        for call in late:
            self._pool.lost(call)
        if late:
            self._changed()
