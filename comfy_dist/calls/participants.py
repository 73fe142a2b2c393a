"""Who takes part in a region: which calls are sent to whom, and which share of a workflow is whose. Pure.

Workers are as a worker tells its nodes of them (link op "peers"): {"id", "name", "devices", "state"}, the selected
ones in the order that was chosen, the parent's own among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from comfy_dist.calls.share_pool import Share
from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import Participation, Spread

Worker: TypeAlias = Mapping[str, Any]


class NobodyElse(ComfyDistError):
    """Only other workers are to do a region's work, and there are none."""

    def __init__(self, node: str) -> None:
        super().__init__(
            f"There is no other worker that can do the work of node {node}, and this prompt is orchestrator-only: "
            "the worker that has it only sends and collects. Start another worker, select one that is live, or "
            "let this one participate."
        )


@dataclass(frozen=True, slots=True)
class Participants:
    """Of one region."""

    #: Those that take part beside the parent, in order.
    others: tuple[Worker, ...]
    #: How many engines the parent's own worker has beside the one that executes the prompt.
    beside: int
    #: Whether the parent does a part itself.
    parent: bool
    #: Whether only some of the live workers were chosen.
    chosen: bool

    @property
    def engines(self) -> int:
        """How many can work at once."""
        return sum(map(engines_of, self.others)) + (1 + self.beside if self.parent else 0)


def participants(workers: Sequence[Worker], own: str, spread: Spread, node: str) -> Participants:
    """`own`: the id of the parent's worker. Raises NobodyElse."""
    others = tuple(each for each in workers if each["id"] != own)
    parent = spread.participation is Participation.PARTICIPATING
    if not parent and not others:
        if spread.participation is Participation.ORCHESTRATOR_ONLY:
            raise NobodyElse(node)
        parent = True
    beside = sum(engines_of(each) - 1 for each in workers if each["id"] == own)
    return Participants(others, beside, parent, spread.workers is not None)


@dataclass(frozen=True, slots=True)
class Invitation:
    """A call to send."""

    #: The name of the worker that is meant; None: whoever has time.
    target: str | None
    rank: int
    #: What it is for: a share of a workflow, or the chunk to begin with. None: what is left when it comes.
    share: int | None = None
    #: Whether somebody has nothing else to do, and so will take it at once.
    awaited: bool = False
    #: What is to be begun with (asking.HeadStart), as JSON.
    head_start: Mapping[str, Any] | None = None


def invitations(found: Participants, own: str, count: int) -> list[Invitation]:
    """To so many ranks of a region that is divided.

    Each worker gets one before any gets a second for another of its engines. `own`: the parent's worker's name.
    """
    idle = {str(each["name"]) for each in found.others if each["state"] == "idle"}
    if found.parent and not found.chosen:
        ready = sum(engines_of(each) for each in found.others if each["name"] in idle)
        return [Invitation(None, rank, awaited=rank <= ready) for rank in range(1, count + 1)]
    engines = [(str(each["name"]), engines_of(each)) for each in found.others]
    if found.parent:
        engines.append((own, found.beside))
    rounds = max((many for _, many in engines), default=0)
    names = [name for number in range(rounds) for name, many in engines if many > number]
    return [Invitation(name, rank, awaited=name in idle) for rank, name in enumerate(names[:count], 1)]


def shares(found: Participants, own: tuple[str, str], spread: Spread) -> list[Share]:
    """What is to be done by whom. `own`: name and id of the parent's worker.

    A worker's share has its place among those that were chosen, whether others are live or not.
    """
    found_shares = [Share(0)] if found.parent else []
    if spread.workers is None:
        workers: Iterable[Worker | None] = found.others
    else:
        chosen = [name for name in dict.fromkeys(spread.workers) if name not in own]
        workers = [_of(found.others, name) for name in chosen]
    taken: set[str] = set()
    for number, worker in enumerate(workers, 1):
        if worker is not None and worker["id"] not in taken:
            taken.add(worker["id"])
            found_shares.append(Share(number, str(worker["name"]), str(worker["id"])))
    return found_shares


def least_loaded(found: Participants) -> Share:
    """The one share of what is done by one: an idle worker's, else the parent's, else the first that can."""
    idle = next((each for each in found.others if each["state"] == "idle"), None)
    if idle is None and found.parent:
        return Share(0)
    worker = idle or found.others[0]
    return Share(0, str(worker["name"]), str(worker["id"]))


def _of(workers: Iterable[Worker], name: str) -> Worker | None:
    return next((each for each in workers if name in (each["name"], each["id"])), None)


def engines_of(worker: Worker) -> int:
    """How many calls it can execute at once."""
    return max(1, len(worker["devices"]))
