"""Values that a node gives to a workflow executed for it elsewhere, and those that it gets back.

Such a call carries a Handoff's peer (`Call.handoff`). In its prompt `ComfyDistReceived` nodes stand for the values
given, known by their content alone, so that what was computed from them stays cached; a `ComfyDistHand` node
hands values back, which are pulled at once: nothing has to be held when the call has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from comfy_dist.calls.errors import LinkRefused
from comfy_dist.calls.here import Here
from comfy_dist.calls.inbox import NotSent
from comfy_dist.messages import Peer
from comfy_dist.tensors.content import content_of

#: Seconds for an answer in which values are pulled.
ANSWER_SECONDS = 600.0


class Handoff:
    """Of one call. Everything but the making and `close` on the link's loop."""

    def __init__(self, here: Here, owner: str, values: Mapping[str, Any]) -> None:
        """`owner` is released by `close`; one that no other uses. `values`: what is given, by name."""
        self._here = here
        self._owner = owner
        self._values = values
        self._packed: dict[str, Any] = {}
        #: What was handed back, by attempt of the call: the last that hands has it.
        self._attempt = 0
        self._handed: dict[str, Any] = {}

    async def open(self) -> tuple[Peer, dict[str, str]]:
        """Who to ask, and by name the content of each value, for `ComfyDistReceived`. Raises CannotTravel."""
        plane = self._here.plane
        contents = {}
        for name, value in self._values.items():
            content = contents[name] = await asyncio.to_thread(content_of, [value])
            if content not in self._packed:
                self._packed[content] = plane.pack([value], self._owner)
        return plane.expose(self._answer, self._owner), contents

    def handed(self) -> dict[str, Any]:
        """What was handed back, by name: lists of what the links brought."""
        return self._handed

    def close(self) -> None:
        self._here.plane.release(self._owner)

    async def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        if (content := body.get("content")) is not None:
            if content not in self._packed:
                raise NotSent("This value was given to another call.")
            return {"packed": self._packed[content]}
        attempt, packed = int(body["attempt"]), dict(body["hand"])
        if attempt < self._attempt:
            raise LinkRefused("Another attempt of this call has handed its values already.")
        handed = {name: await self._here.plane.unpack(value) for name, value in packed.items()}
        self._attempt, self._handed = attempt, self._handed | handed if attempt == self._attempt else handed
        return {}


async def hand(here: Here, values: Mapping[str, list[Any]]) -> None:
    """Hand values back for the call at hand. Raises NotSent, CannotTravel, NotAnswered, Stopped."""
    job = await here.job()
    peer = peer_of(job.call)
    owner = f"{job.id} hands"
    packed = {name: here.plane.pack(value, owner, ANSWER_SECONDS) for name, value in values.items()}
    try:
        question = {"hand": packed, "attempt": job.attempt}
        await job.wait(here.plane.ask(peer, question, ANSWER_SECONDS))
    finally:
        here.plane.release(owner)


def peer_of(call: Mapping[str, Any] | None) -> Peer:
    """Whom a call has its values from. Raises NotSent where it has none."""
    if call is None or call.get("handoff") is None:
        raise NotSent("This workflow was not called by a node that gives and takes values.")
    return Peer.model_validate(call["handoff"])
