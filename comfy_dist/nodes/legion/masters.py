"""Masters have a saved workflow executed with what they are given; Warmup only starts the process for one."""

from __future__ import annotations

import importlib
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from comfy_dist.calls.legion_prompts import CHANNELS, expansion
from comfy_dist.errors import ComfyDistError
from comfy_dist.nodes.cluster.inputs import ANY, Inputs
from comfy_dist.nodes.cluster.worker import interrupting, worker
from comfy_dist.nodes.legion.configuring import CAMPAIGN, CONFIG

if TYPE_CHECKING:
    from comfy_dist.calls.here import Here
    from comfy_dist.calls.legion_campaigns import Campaign, Done, InPlace
    from comfy_dist.calls.legion_configuration import Configuration
    from comfy_dist.calls.sent_workflows import Prompt

T = TypeVar("T")

_NODE = {"prompt": "DYNPROMPT", "node_id": "UNIQUE_ID"}
_LATER = "This Legion Master is asynchronous: its outputs come from a Legion Join on its campaign."


class NoWorker(ComfyDistError):
    """A node that needs the worker which started its process, where none has."""


class WhichConfiguration(ComfyDistError):
    """A Master with two configurations, or none."""


class LegionMaster:
    CATEGORY = "Legion"
    WIDTH: ClassVar[int] = len(CHANNELS)
    RETURN_TYPES: ClassVar[tuple[str, ...]] = (CAMPAIGN, *(ANY,) * WIDTH)
    RETURN_NAMES: ClassVar[tuple[str, ...]] = ("legion_campaign", *(f"output_{each}" for each in CHANNELS))
    OUTPUT_IS_LIST: ClassVar[tuple[bool, ...]] = (False, *(True,) * WIDTH)
    FUNCTION = "command"

    def __init_subclass__(cls) -> None:
        cls.RETURN_TYPES = cls.RETURN_TYPES[: cls.WIDTH + 1]
        cls.RETURN_NAMES = cls.RETURN_NAMES[: cls.WIDTH + 1]
        cls.OUTPUT_IS_LIST = cls.OUTPUT_IS_LIST[: cls.WIDTH + 1]

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        inputs = {f"input_{each}": (ANY,) for each in CHANNELS[: cls.WIDTH]}
        return {
            "required": {},
            "optional": {"legion_config": (CONFIG,), "legion_campaign": (CAMPAIGN,), **inputs},
            "hidden": _NODE,
        }

    async def command(
        self,
        prompt: Any,
        node_id: str,
        legion_config: Configuration | None = None,
        legion_campaign: Campaign | None = None,
        **inputs: Any,
    ) -> dict[str, Any]:
        """The campaign, and what the workflow gives back by channel. Raises ComfyDistError."""
        from comfy_dist.calls.legion_campaigns import Campaign, dry_run

        if (legion_config is None) == (legion_campaign is None):
            raise WhichConfiguration("A Legion Master needs a legion_config or a legion_campaign, and not both.")
        configuration = legion_config or getattr(legion_campaign, "configuration", None)
        assert configuration is not None
        given = {channel: inputs.get(f"input_{channel}") for channel in CHANNELS[: self.WIDTH]}
        given = {channel: value for channel, value in given.items() if value is not None}
        campaign = Campaign(configuration, given)
        here = own_worker()
        if configuration.execution.dry_run:
            await waited(here, dry_run(here, configuration, given))
            unchanged = {channel: [value] for channel, value in given.items()}
            campaign.settle(unchanged)
            return {"result": (campaign, *outputs(unchanged, self.WIDTH))}
        shown_as = prompt.get_display_node_id(node_id)
        if configuration.execution.asynch:
            await waited(here, campaign.begin(here, shown_as))
            later = importlib.import_module("comfy_execution.graph_utils").ExecutionBlocker(_LATER)
            return {"result": (campaign, *([later] for _ in range(self.WIDTH)))}
        found = await waited(here, campaign.outcome(here, shown_as))
        return given_back(found, campaign, node_id, self.WIDTH, first=(campaign,))


class LegionMaster3(LegionMaster):
    WIDTH = 3


class LegionMaster6(LegionMaster):
    WIDTH = 6


class LegionWarmup:
    CATEGORY = "Legion"
    RETURN_TYPES = (CAMPAIGN,)
    RETURN_NAMES = ("legion_campaign",)
    FUNCTION = "warm_up"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"legion_config": (CONFIG,)}}

    async def warm_up(self, legion_config: Configuration) -> tuple[Campaign]:
        """A campaign for a Master; the process that it is to run in is there. Raises ComfyDistError."""
        from comfy_dist.calls.legion_campaigns import Campaign, warm_up

        here = own_worker()
        await waited(here, warm_up(here, legion_config))
        return (Campaign(legion_config, None),)


def own_worker() -> Here:
    if (here := worker()) is None:
        raise NoWorker("Legion workflows are executed by workers of a cluster, and none has started this engine.")
    return here


async def waited(here: Here, work: Coroutine[Any, Any, T]) -> T:
    with interrupting():
        return await here.thread.run(work)


def outputs(found: Mapping[int, list[Any]], width: int) -> list[list[Any]]:
    return [found.get(channel, [None]) for channel in CHANNELS[:width]]


def given_back(
    found: Done | InPlace, campaign: Campaign, node_id: str, width: int, *, first: tuple[Any, ...] = ()
) -> dict[str, Any]:
    """What a node returns for a campaign's outcome: its outputs behind `first`."""
    from comfy_dist.calls.legion_campaigns import Done

    if isinstance(found, Done):
        return {"ui": campaign.take_shown(), "result": (*first, *outputs(found.outputs, width))}
    graph: Prompt = {}
    if campaign.links is None:
        # Whoever comes later has its outputs from the same nodes.
        graph, campaign.links = expansion(found.prompt, found.targets, f"{node_id}.legion", campaign.id)
    links = campaign.links
    return {"expand": graph, "result": (*first, *(links.get(channel, [None]) for channel in CHANNELS[:width]))}


NODE_CLASS_MAPPINGS = {
    "LegionMaster3": LegionMaster3,
    "LegionMaster6": LegionMaster6,
    "LegionMaster": LegionMaster,
    "LegionWarmup": LegionWarmup,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "LegionMaster3": "Legion: Master (3 channels)",
    "LegionMaster6": "Legion: Master (6 channels)",
    "LegionMaster": "Legion: Master (12 channels)",
    "LegionWarmup": "Legion: Warmupper",
}
