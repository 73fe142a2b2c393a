"""The node that stands for an Exporter where its workflow is executed in a Master's or Join's own place."""

from __future__ import annotations

import json
from typing import Any

from comfy_dist.calls.legion_prompts import CHANNELS, KEPT
from comfy_dist.nodes.cluster.inputs import ANY, Inputs


class Kept:
    """Gives on each channel its items as one list: to a list an expansion can link to no more."""

    CATEGORY = "Legion/hidden"
    DEPRECATED = True
    INPUT_IS_LIST = True
    RETURN_TYPES = (ANY,) * len(CHANNELS)
    FUNCTION = "keep"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        values = {f"value_{n}": (ANY,) for n in range(len(CHANNELS))}
        return {"required": {"names": ("STRING", {}), "campaign": ("STRING", {})}, "optional": values}

    def keep(self, names: list[str], campaign: list[str], **given: list[Any]) -> tuple[list[Any], ...]:
        from comfy_dist.calls.legion_campaigns import settle

        values = [given.get(f"value_{n}", [None]) for n in range(len(CHANNELS))]
        settle(campaign[0], dict(zip(json.loads(names[0]), values, strict=False)))
        return tuple(values)


HIDDEN = {KEPT: Kept}
