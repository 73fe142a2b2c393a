"""What a session answers to ranks that get a chunk."""

from __future__ import annotations

from collections.abc import Mapping

from comfy_dist.calls.asking import Answer, Sent
from comfy_dist.calls.offered import Offered
from comfy_dist.calls.share_pool import SharePool
from comfy_dist.calls.shares import Chunk, Pool


class Answers:
    """Of one region. On the link's loop."""

    def __init__(self, pool: Pool | SharePool, offered: Offered, offsets: Mapping[str, int], workers: str) -> None:
        """`offsets`: of opening nodes (offered.bounds); `workers`: what ClusterInfo tells."""
        self._pool = pool
        self._offered = offered
        self._offsets = offsets
        self._workers = workers

    async def first(self, chunk: Chunk) -> Answer:
        """With what is the same for all chunks of a rank. Raises CannotTravel, LinkRefused."""
        answer = await self.further(chunk)
        values = await self._offered.values()
        more = {
            "values": {name: Sent(**each) for name, each in values.items()},
            "staying": sorted(self._offered.staying()),
            "workers": self._workers,
        }
        return answer.model_copy(update=more)

    async def further(self, chunk: Chunk) -> Answer:
        """Of a rank that has had a first one. Raises as it does."""
        slices = await self._offered.slices(chunk, self._offsets)
        sent = {node: Sent(**each) for node, each in slices.items()}
        return Answer(chunk=chunk, slices=sent, last=not self._pool.left)
