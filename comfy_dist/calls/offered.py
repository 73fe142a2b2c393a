"""What a region's ranks get of its parent: slices of what is divided, and the values that come from outside."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, TypeAlias

from comfy_dist.calls.errors import LinkRefused
from comfy_dist.calls.shares import Chunk
from comfy_dist.errors import ComfyDistError
from comfy_dist.tensors.batches import UnusableBatch, cut, items_of, shape_of
from comfy_dist.tensors.content import content_of, nbytes_of
from comfy_dist.tensors.errors import CannotTravel
from comfy_dist.tensors.packing import refs
from comfy_dist.tensors.plane import Plane

log = logging.getLogger(__name__)

#: What a link has brought: one value, or the items of a list.
Values: TypeAlias = list[Any]


class UnevenBatches(ComfyDistError):
    """Opening nodes of one region that have not equally many items; the text names them."""


class UnusableOffset(ComfyDistError):
    """An opening node's index_offset that is no number."""


def items_in(values: Values) -> int:
    """How many items what a link has brought can be divided into: those of its one batch, or of the list it is."""
    if len(values) != 1:
        return len(values)
    try:
        return items_of(values[0])
    except UnusableBatch:
        return 1


def slice_of(values: Values, start: int, stop: int) -> Values:
    """Items start to stop of it. Raises UnusableBatch."""
    if len(values) != 1:
        return values[start:stop]
    try:
        items_of(values[0])
    except UnusableBatch:
        return values[start:stop]
    return [cut(values[0], start, stop)]


def offset_of(node: str, given: Any) -> int:
    """An opening node's index_offset; a link may bring anything. Raises UnusableOffset."""
    try:
        return int(given)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise UnusableOffset(
            f"The index_offset of node {node} is a whole number; its link has brought {given!r:.50}."
        ) from None


def bounds(chunk: Chunk, items: int, offset: int) -> tuple[int, int]:
    """Start and stop of a chunk for an opening node with that `index_offset`: each rank takes the share of the one
    so many further on, in a circle."""
    if not offset or chunk.world == 1:
        return chunk.start, chunk.stop
    rank = (chunk.rank + offset) % chunk.world
    size, more = divmod(items, chunk.world)
    start = rank * size + min(rank, more)
    return start, start + size + (rank < more)


def items_of_all(divided: Mapping[str, Values]) -> int:
    """How many items the opening nodes share out, which is as many for each. Raises UnevenBatches."""
    counts = {node: items_in(values) for node, values in divided.items()}
    if len(set(counts.values())) > 1:
        told = "; ".join(
            f"node {node} has {count} ({', '.join(map(shape_of, divided[node][:1]))})"
            for node, count in counts.items()
        )
        raise UnevenBatches(
            f"The nodes that open a region divide together, so each must have as many items as the others: {told}."
        )
    return next(iter(counts.values()), 0)


class Offered:
    """Packed when a rank first needs it; several that need the same wait for one packing. On one loop."""

    def __init__(
        self, plane: Plane, owner: str, divided: Mapping[str, Values], values: Mapping[str, Values]
    ) -> None:
        """Raises CannotTravel where what is divided means something to this process alone."""
        self._plane = plane
        self._owner = owner
        self._divided = divided
        self._values = dict(values)
        self._packed: dict[object, asyncio.Task[dict[str, Any]]] = {}
        #: Once it was asked for.
        self._staying: frozenset[str] | None = None
        self._over = False
        self._probe(dict(divided))

    def staying(self) -> frozenset[str]:
        """The inputs whose values cannot travel."""
        if self._staying is None:
            self._staying = frozenset(name for name, each in self._values.items() if not self._travels(each))
        return self._staying

    async def slices(self, chunk: Chunk, offsets: Mapping[str, int]) -> dict[str, Any]:
        """{opening node: {"content": hash, "packed"}} of a chunk. Raises CannotTravel."""
        parts = {
            node: slice_of(values, *bounds(chunk, items_in(values), offsets.get(node, 0)))
            for node, values in self._divided.items()
        }
        return await self._once(chunk.index, parts)

    async def values(self) -> dict[str, Any]:
        """{input: {"content", "packed"}} of those that can travel."""
        staying = self.staying()
        return await self._once(
            "values", {name: each for name, each in self._values.items() if name not in staying}
        )

    def add(self, name: str, value: Values) -> None:
        """One more value, before anything was packed. Raises CannotTravel."""
        self._probe(value)
        self._values[name] = value
        self._staying = None

    def nbytes_of(self, items: int) -> int:
        """Bytes of the tensors in the slices of a chunk of so many items, about."""
        whole = sum(map(nbytes_of, self._divided.values()))
        return whole * items // max(1, max(map(items_in, self._divided.values()), default=1))

    def nbytes_of_values(self) -> int:
        """The same of the values that can travel."""
        staying = self.staying()
        return sum(nbytes_of(each) for name, each in self._values.items() if name not in staying)

    def close(self) -> None:
        """Nothing is packed from now on."""
        self._over = True

    def _probe(self, value: Any) -> None:
        owner = f"{self._owner} probe"
        self._plane.pack(value, owner)
        self._plane.release(owner)

    def _travels(self, value: Values) -> bool:
        try:
            self._probe(value)
        except CannotTravel as error:
            log.debug("%s", error)
            return False
        return True

    async def _once(self, key: object, values: Mapping[str, Values]) -> dict[str, Any]:
        if key not in self._packed:
            task = self._packed[key] = asyncio.create_task(self._pack(values))
            # Whoever asked for it may have gone.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self._packed[key])

    async def _pack(self, values: Mapping[str, Values]) -> dict[str, Any]:
        packed: dict[str, Any] = {}
        for name, each in values.items():
            if self._over:
                # What would be held now nobody would ever release.
                raise LinkRefused("The region is done.")
            named = self._plane.pack(each, self._owner, at_once=True)
            small = next(refs(named), None) is None
            content = content_of(each) if small else await asyncio.to_thread(content_of, each)
            packed[name] = {"content": content, "packed": named}
        return packed
