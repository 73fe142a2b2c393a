"""Those who are called to a region: the invitations that were sent, and who has taken each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from comfy_dist.calls.here import Heard, Here
from comfy_dist.calls.participants import Invitation
from comfy_dist.errors import ComfyDistError

log = logging.getLogger(__name__)

#: Results in a row that could not be had of a rank, after which it goes home.
MOST_FAILURES = 2


@dataclass(slots=True)
class Guest:
    """Who has taken an invitation."""

    rank: int
    #: The only worker that may take it; "": any.
    target: str = ""
    #: Called as others did not come.
    spare: bool = False
    attempt: int = 0
    #: The last attempt of which it has told itself that it has come.
    told: int = 0
    #: Name and id of its worker.
    worker: str = ""
    worker_id: str = ""
    #: There was nothing left for whoever executes it when it asked last, so that it is about to end.
    dismissed: bool = False
    ended: bool = False
    #: How many of its results in a row could not be had.
    failures: int = 0
    fetching: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def unreachable(self) -> bool:
        """It is given nothing more: a wire may be cut for a moment, but not each time."""
        return self.failures >= MOST_FAILURES

    def failure(self, error: Mapping[str, Any]) -> str:
        """A sentence on what its call has failed of."""
        worker = f" on worker {self.worker}" if self.worker else ""
        why = str(error.get("exception_message") or "").strip() or "it does not say why."
        if not error.get("node_id"):
            return f"Rank {self.rank}{worker} failed: {why}"
        return f"Rank {self.rank}{worker} failed at node {error['node_id']} ({error.get('node_type')}): {why}"


class Guests:
    """Of one region, by their calls' ids. On the link's loop."""

    def __init__(self, node: str, heard: Heard, owned: Callable[[int, str], None]) -> None:
        """`heard` is told what becomes of calls; `owned` which share or chunk a call was sent for."""
        self._node = node
        self._heard = heard
        self._owned = owned
        self._guests: dict[str, Guest] = {}
        #: Set while all ids are known here: a worker may have a call before this process knows its id.
        self._known = asyncio.Event()
        #: What was said of calls while they were not.
        self._early: list[dict[str, Any]] = []

    async def invite(
        self, here: Here, call: Mapping[str, Any], invitations: Sequence[Invitation], *, spare: bool = False
    ) -> None:
        """Send the call. Where that cannot be, nobody comes."""
        self._known.clear()
        try:
            if all(each.target is None for each in invitations):
                await self._send(here, call, invitations, spare)
            else:
                # One of them may be gone by now.
                for each in invitations:
                    await self._send(here, call, [each], spare)
        finally:
            self._known.set()
        early, self._early = self._early, []
        for message in early:
            self._heard(message)

    async def known(self) -> None:
        """Wait until the ids of all that was sent are known."""
        await self._known.wait()

    def over(self) -> None:
        """Nobody is waited for any longer."""
        self._known.set()

    def is_early(self, message: dict[str, Any]) -> bool:
        """Whether it is about a call of which the id may not be known; it is told again then."""
        if not self._known.is_set():
            self._early.append(message)
        return not self._known.is_set()

    def get(self, call: str) -> Guest | None:
        return self._guests.get(call)

    def __getitem__(self, call: str) -> Guest:
        return self._guests[call]

    def __iter__(self) -> Iterator[str]:
        return iter(self._guests)

    def __len__(self) -> int:
        return len(self._guests)

    async def _send(
        self, here: Here, call: Mapping[str, Any], invitations: Sequence[Invitation], spare: bool
    ) -> None:
        each = [{"rank": each.rank, "target": each.target, "head_start": each.head_start} for each in invitations]
        try:
            ids = await here.send(call, each, self._heard)
        except ComfyDistError as error:
            log.warning("Nobody is asked to help with node %s: %s", self._node, error)
            return
        for id_, invitation in zip(ids, invitations, strict=True):
            self._guests[id_] = Guest(invitation.rank, invitation.target or "", spare)
            if invitation.share is not None:
                self._owned(invitation.share, id_)


def out_of_reach(error: Mapping[str, Any]) -> bool:
    """Whether a rank failed only because values cannot get from the parent to it, or back, or what it asks for to
    its worker."""
    return _is(error, ".NotPulled", ".CannotTravel", ".LinkLost")


def died(error: Mapping[str, Any]) -> bool:
    """Whether too many engines or workers have died under it."""
    return error.get("exception_type") == "EngineDied"


def cannot_travel(error: Mapping[str, Any]) -> bool:
    """Whether they never will."""
    return _is(error, ".CannotTravel")


def _is(error: Mapping[str, Any], *types: str) -> bool:
    return str(error.get("exception_type", "")).endswith(types)
