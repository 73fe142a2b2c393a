"""Which workers take no jobs for now: the fold of the `paused` and `resumed` facts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from comfy_dist.messages import PausedFact, ResumedFact

#: Everyone, one start of a worker, or those of a name.
_Whom: TypeAlias = tuple[Literal["all", "worker", "name"], str]


class Pauses:
    """The pauses that stand after the facts folded so far."""

    def __init__(self) -> None:
        self._standing: dict[_Whom, PausedFact] = {}
        self._resumed: set[_Whom] = set()

    def fold(self, fact: PausedFact | ResumedFact) -> None:
        """Take in the next fact of the stream."""
        for whom in _whom(fact):
            kind, who = whom
            if isinstance(fact, ResumedFact):
                self._standing.pop(whom, None)
                self._resumed.add(whom)
            # Who says a pause again may not know yet that it is over. Streams forget from their beginning, so
            # where a resumption is seen, a pause that came after it is seen in its own words.
            elif not (fact.again and whom in self._resumed):
                # Of a fact about one worker and a name either may be resumed by itself.
                alone = {"worker": None, "name": None} | ({} if kind == "all" else {kind: who})
                self._standing.setdefault(whom, fact.model_copy(update={"again": False, **alone}))

    def hold(self, worker: str, name: str) -> bool:
        """Whether the worker of that id and name is paused."""
        return not self._standing.keys().isdisjoint({("all", ""), ("worker", worker), ("name", name)})

    @property
    def standing(self) -> list[PausedFact]:
        """What would have to be said to someone who knows nothing."""
        return list(self._standing.values())


def _whom(fact: PausedFact | ResumedFact) -> Iterator[_Whom]:
    if fact.worker is not None:
        yield "worker", fact.worker
    if fact.name is not None:
        yield "name", fact.name
    if fact.worker is None and fact.name is None:
        yield "all", ""
