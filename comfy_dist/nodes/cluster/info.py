"""Which rank of how many a node is executed by, and who there is to work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from comfy_dist.nodes.cluster.inputs import Inputs
from comfy_dist.nodes.cluster.worker import worker


class Info:
    """Outside of a region there is one rank; in the clones of a region another node stands in its place."""

    CATEGORY = "Cluster"
    RETURN_TYPES = ("INT", "INT", "STRING")
    RETURN_NAMES = ("Instance Index", "Instance Count", "info")
    FUNCTION = "inform"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {}

    @classmethod
    async def IS_CHANGED(cls) -> str:
        return await info(0, 1)

    async def inform(self) -> tuple[int, int, str]:
        """Rank, world size, and a list to read."""
        return 0, 1, await info(0, 1)


async def info(rank: int, world: int) -> str:
    """The rank and the live workers, in words; the same as long as these are. Raises LinkLost, LinkRefused."""
    if (here := worker()) is None:
        return info_text(rank, world, ())
    found = await here.thread.run(here.ask("peers"))
    return info_text(rank, world, found["workers"])


def info_text(rank: int, world: int, workers: Sequence[Mapping[str, Any]]) -> str:
    """`workers`: {"name", "engine", "devices"} each. What they do at the moment is left out."""
    lines = [f"rank {rank} of {world}"]
    if workers:
        lines.append(f"{len(workers)} worker{'s' if len(workers) > 1 else ''}:")
    lines += sorted(f"{each['name']}: {each['engine']} on {', '.join(each['devices'])}" for each in workers)
    return "\n".join(lines)


NODE_CLASS_MAPPINGS = {"ClusterInfo": Info}
NODE_DISPLAY_NAME_MAPPINGS = {"ClusterInfo": "Cluster Info"}
