"""The live workers, folded from their announcements, and what they can run together."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from comfy_dist.messages import ANYBODY, Announcement, Catalogue, Requirements, WorkerState
from comfy_dist.routing import Offer, lacks, together, who_has_what, with_options_of

#: Seconds after which a worker that was not seen is gone.
GONE_AFTER = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which of the live workers can execute a job."""

    able: tuple[Announcement, ...]
    #: What at least one of their engines lacks.
    missing: Requirements
    #: How many live workers' catalogues are known.
    known: int


class Registry:
    """A fold without I/O; times are seconds of a monotonic clock given by the caller."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Announcement, float]] = {}
        self._catalogues: dict[str, Catalogue] = {}
        self._merged: Catalogue | None = None
        self._common: Catalogue | None = None
        #: What each live worker can run: as it announced last, or before that while this is still to be fetched.
        self._known: dict[str, Catalogue] = {}
        #: {worker id: what its engines have} of the live workers, by name.
        self._offers: dict[str, tuple[Offer, ...]] = {}
        #: Whether what is above is to be made anew before they are looked at: workers come by the hundred.
        self._changed = False

    def see(self, announcement: Announcement, now: float) -> None:
        """Fold one announcement. Mostly it says what the last one did, and then costs the same with any number."""
        before, _ = self._seen.get(announcement.id, (None, now))
        if announcement.state is WorkerState.GONE:
            self._seen.pop(announcement.id, None)
        else:
            self._seen[announcement.id] = (announcement, now)
            if before is not None and _same_offers(before, announcement):
                return
        self._changed = True

    def expire(self, now: float) -> list[Announcement]:
        """Forget and return the workers that were not seen for too long."""
        gone = [worker for worker, seen in self._seen.values() if now - seen > GONE_AFTER]
        for worker in gone:
            del self._seen[worker.id]
        if gone:
            self._changed = True
        return gone

    @property
    def workers(self) -> list[Announcement]:
        """The live workers, by name."""
        return sorted((worker for worker, _ in self._seen.values()), key=lambda worker: (worker.name, worker.id))

    def place(self, asked: Requirements) -> Placement:
        """Where a job that asks for this can be executed, as far as the live workers' catalogues are known."""
        self._refresh()
        # Most workers are alike.
        judged: dict[Hashable, Requirements] = {}
        able: list[str] = []
        for id_, offers in self._offers.items():
            for offer in offers:
                key = (id(offer.catalogue), offer.tags, offer.vram, offer.worker if asked.worker else None)
                if key not in judged:
                    judged[key] = lacks(asked, offer)
                if judged[key] is ANYBODY and id_ not in able[-1:]:
                    able.append(id_)
        return Placement(
            able=tuple(self._seen[id_][0] for id_ in able),
            missing=together(judged.values()),
            known=len(self._offers),
        )

    @property
    def common(self) -> Catalogue | None:
        """The one catalogue of all live workers; None where they differ, or one is not known yet."""
        self._refresh()
        return self._common

    @property
    def live(self) -> tuple[Announcement, ...]:
        """The live workers."""
        return tuple(worker for worker, _ in self._seen.values())

    def who_has_what(self, asked: Requirements) -> list[str]:
        """A line for each thing that some live workers lack."""
        self._refresh()
        return who_has_what(asked, [offer for offers in self._offers.values() for offer in offers])

    def learn(self, catalogue: Catalogue) -> None:
        """Remember a catalogue, from a worker or from an earlier run of this frontend."""
        self._catalogues[catalogue.hash] = catalogue
        self._changed = True
        self._refresh()

    def knows(self, hash_: str) -> bool:
        """Whether the catalogue with this hash was learned."""
        return hash_ in self._catalogues

    @property
    def catalogue(self) -> Catalogue | None:
        """The union over the live workers; with none live, the last known; None before the first."""
        self._refresh()
        return self._merged

    def _refresh(self) -> None:
        if not self._changed:
            return
        self._changed = False
        self._known = {
            id_: catalogue
            for id_, (worker, _) in self._seen.items()
            if (catalogue := self._catalogues.get(worker.catalogue) or self._known.get(id_)) is not None
        }
        live = {catalogue.hash for catalogue in self._known.values()}
        if live:
            parts = [self._catalogues[hash_] for hash_ in sorted(live)]
            if self._merged is None or self._merged.hash != _joint_hash(parts):
                self._merged = merge(parts)
            self._catalogues = {hash_: self._catalogues[hash_] for hash_ in live}
        elif self._merged is None and self._catalogues:
            self._merged = merge(list(self._catalogues.values()))
        announced = {worker.catalogue for worker, _ in self._seen.values()}
        self._common = self._catalogues.get(announced.pop()) if len(announced) == 1 else None
        self._offers = {
            worker.id: _offers(worker, catalogue)
            for worker in self.workers
            if (catalogue := self._known.get(worker.id)) is not None
        }


def _same_offers(one: Announcement, other: Announcement) -> bool:
    return (one.name, one.catalogue, one.tags) == (other.name, other.catalogue, other.tags) and [
        device.vram_total for device in one.devices
    ] == [device.vram_total for device in other.devices]


def _offers(worker: Announcement, catalogue: Catalogue) -> tuple[Offer, ...]:
    """One for each engine."""
    sizes = [device.vram_total for device in worker.devices] or [0]
    return tuple(
        Offer(worker=worker.name, catalogue=catalogue, tags=frozenset(worker.tags), vram=size) for size in sizes
    )


def _joint_hash(parts: list[Catalogue]) -> str:
    return "+".join(sorted(part.hash for part in parts))


def version_of(text: str) -> tuple[int, ...]:
    """A version to compare by: 0.3.100 is newer than 0.3.64."""
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


def merge(parts: list[Catalogue]) -> Catalogue:
    """The union; of a class or web folder that differs, the newest engine's stands, with the options of all."""
    ordered = sorted(parts, key=lambda part: version_of(part.engine_version))
    if len(ordered) == 1:
        return ordered[0]
    nodes: dict[str, dict[str, Any]] = {}
    by_code: dict[str, tuple[str, ...]] = {}
    models: dict[str, set[str]] = {}
    web: dict[str, str] = {}
    for part in ordered:
        nodes |= {
            name: dict(with_options_of(definition, nodes[name])) if name in nodes else definition
            for name, definition in part.nodes.items()
        }
        by_code |= part.validated_by_code
        web |= part.web_directories
        for folder, names in part.models.items():
            models.setdefault(folder, set()).update(names)
    return ordered[-1].model_copy(
        update={
            "hash": _joint_hash(parts),
            "kind": "+".join(sorted({part.kind for part in parts})),
            "nodes": nodes,
            "validated_by_code": by_code,
            "models": {folder: tuple(sorted(names)) for folder, names in sorted(models.items())},
            "web_directories": web,
            "devices": tuple(device for part in ordered for device in part.devices),
        }
    )
