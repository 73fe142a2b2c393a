"""What all nodes have that close a region.

`results` is an input that only the worker's plan sets: a link to what its ranks have made. Where it is there the
nodes before this one are not asked to run here, so `input` is lazy.
"""

from __future__ import annotations

from typing import Any, ClassVar

from comfy_dist.nodes.cluster.inputs import ANY, Inputs


class Closing:
    CATEGORY = "Cluster"
    INPUT_IS_LIST = True
    RETURN_TYPES: ClassVar[tuple[str, ...]]
    FUNCTION = "close"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"input": (*cls.RETURN_TYPES, {"lazy": True})},
            # Hidden, so that no page shows a socket for it; a type of its own, so that engines follow its link.
            "hidden": {"results": (ANY,)},
        }

    def check_lazy_status(self, input: list[Any] | None = None, results: list[Any] | None = None) -> list[str]:
        return ["input"] if results is None else []
