"""Joins wait for campaigns that run beside the prompt's own nodes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from comfy_dist.calls.legion_prompts import CHANNELS
from comfy_dist.nodes.cluster.inputs import ANY, Inputs
from comfy_dist.nodes.legion.configuring import CAMPAIGN
from comfy_dist.nodes.legion.masters import given_back, own_worker, waited

if TYPE_CHECKING:
    from comfy_dist.calls.here import Here
    from comfy_dist.calls.legion_campaigns import Campaign

_MOST = 4


class LegionJoin:
    CATEGORY = "Legion"
    RETURN_TYPES = (ANY,) * len(CHANNELS)
    RETURN_NAMES = tuple(f"output_{each}" for each in CHANNELS)
    OUTPUT_IS_LIST = (True,) * len(CHANNELS)
    FUNCTION = "join"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"legion_campaign": (CAMPAIGN,)},
            "hidden": {"prompt": "DYNPROMPT", "node_id": "UNIQUE_ID"},
        }

    async def join(self, legion_campaign: Campaign, prompt: Any, node_id: str) -> dict[str, Any]:
        """What the campaign's workflow gives back by channel. Raises whatever it failed with."""
        here = own_worker()
        found = await waited(here, legion_campaign.outcome(here, prompt.get_display_node_id(node_id)))
        return given_back(found, legion_campaign, node_id, len(CHANNELS))


class LegionJoinAll:
    CATEGORY = "Legion"
    RETURN_TYPES = (CAMPAIGN,) * _MOST
    RETURN_NAMES = tuple(f"campaign_{each}" for each in range(1, _MOST + 1))
    FUNCTION = "join"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {"campaign_1": (CAMPAIGN,)},
            "optional": {f"campaign_{each}": (CAMPAIGN,) for each in range(2, _MOST + 1)},
            "hidden": {"prompt": "DYNPROMPT", "node_id": "UNIQUE_ID"},
        }

    async def join(self, prompt: Any, node_id: str, **campaigns: Campaign | None) -> tuple[Campaign | None, ...]:
        """The campaigns, all of them done. Raises what the first that fails has failed with."""
        here = own_worker()
        found = [campaigns.get(name) for name in self.RETURN_NAMES]
        executed = [each for each in found if each is not None and each.is_executed]
        await waited(here, _all(here, executed, prompt.get_display_node_id(node_id)))
        return tuple(found)


async def _all(here: Here, campaigns: list[Campaign], node: str) -> None:
    try:
        async with asyncio.TaskGroup() as waiting:
            for each in campaigns:
                waiting.create_task(each.outcome(here, node))
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


NODE_CLASS_MAPPINGS = {"LegionJoin": LegionJoin, "LegionJoinAll": LegionJoinAll}
NODE_DISPLAY_NAME_MAPPINGS = {
    "LegionJoin": "Legion: Join Campaign",
    "LegionJoinAll": "Legion: Join All Campaigns",
}
