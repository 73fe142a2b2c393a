"""Who takes part where a prompt's work is shared out."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from comfy_dist.messages.base import Message
from comfy_dist.messages.presence import Announcement


class Participation(StrEnum):
    """Whether the worker that has the prompt does a part itself."""

    PARTICIPATING = "participating"
    #: It only sends and collects; without others the prompt fails.
    ORCHESTRATOR_ONLY = "orchestrator-only"
    #: The same, but without others it does everything.
    FALLBACK = "fallback"


class Spread(Message):
    """Of one prompt; its calls have the same."""

    #: Names or ids of workers, in the order that was chosen; None: every live one.
    workers: tuple[str, ...] | None = None
    participation: Participation = Participation.PARTICIPATING


#: Everybody.
EVERYWHERE = Spread()


def selected(workers: Sequence[Announcement], spread: Spread, own: str) -> list[Announcement]:
    """Those of the workers that take part, in the order that was chosen.

    The one of the id `own`, which has the prompt, is always among them, if only to send and to collect.
    """
    if spread.workers is None:
        return list(workers)
    places = {name: place for place, name in reversed(list(enumerate(spread.workers)))}
    last = len(spread.workers)

    def place(worker: Announcement) -> int:
        return min(places.get(worker.name, last), places.get(worker.id, last))

    return sorted((each for each in workers if each.id == own or place(each) < last), key=place)
