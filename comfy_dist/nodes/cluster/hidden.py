"""The nodes that plans and expansions put into prompts: a region shared out, executed in pieces, and joined.

No menu shows them. Their work is done in comfy_dist/calls; they are where an engine meets it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from comfy_dist.calls.classes import HAND, HELD, OPENERS, RANK, RANK_INFO, RECEIVED, RUN, RUN_ALL, SLICE, STEP
from comfy_dist.calls.layout import Layout, UnreadableLayout
from comfy_dist.nodes import node_texts
from comfy_dist.nodes.cluster.fan_out import only_batch
from comfy_dist.nodes.cluster.info import info_text
from comfy_dist.nodes.cluster.inputs import ANY, Inputs
from comfy_dist.nodes.cluster.worker import interrupting, worker

if TYPE_CHECKING:
    from comfy_dist.calls.turns import Expansion

log = logging.getLogger(__name__)

#: Links that a region has at most, of each kind, and closing nodes.
MOST = 64


class _Hidden:
    CATEGORY = "Cluster/hidden"
    #: To our engine (NodeClass.is_hidden).
    COMFY_DIST_HIDDEN = True
    #: Menus hide such nodes.
    DEPRECATED = True
    FUNCTION = "execute"


class Run(_Hidden):
    """Stands before the closing nodes of a region, whose results are its outputs.

    `side` and `watch` are links that are never followed: what lies behind them is in the cache key.
    """

    INPUT_IS_LIST = True
    RETURN_TYPES = (ANY,) * MOST
    OUTPUT_IS_LIST = (True,) * MOST

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        values = {f"in_{n}": (ANY,) for n in range(MOST)}
        lazy = {f"{kind}_{n}": (ANY, {"lazy": True}) for kind in ("side", "watch") for n in range(MOST)}
        return {
            "required": {"layout": ("STRING", {"default": ""})},
            "optional": {**values, **lazy},
            "hidden": {"prompt": "DYNPROMPT"},
        }

    @classmethod
    async def IS_CHANGED(cls, layout: Any = "", **_: Any) -> str:
        """What is executed once for each worker is executed anew where these are others."""
        text = layout[0] if isinstance(layout, list) and layout else layout
        if (here := worker()) is None or not isinstance(text, str):
            return ""
        from comfy_dist.calls.errors import LinkLost, LinkRefused
        from comfy_dist.calls.parent import shares_now

        try:
            return await here.thread.run(shares_now(Layout.from_json(text), here))
        except (LinkLost, LinkRefused, UnreadableLayout) as error:
            log.debug("It is not known who takes part: %s", error)
            return ""

    async def execute(self, layout: list[str], prompt: list[Any], **given: Any) -> Any:
        """Raises UnusableBatch, UnevenBatches, NothingDivided, NobodyElse, CannotTravel, RankFailed."""
        from comfy_dist.calls.parent import share_out
        from comfy_dist.calls.turns import wait_for

        region = Layout.from_json(layout[0])
        for opener in region.openers.values():
            if not OPENERS[opener.class_type].ranked and opener.input in given:
                only_batch(given[opener.input])
        here = worker()

        def say(text: str) -> None:
            log.info("Node %s: %s", region.shown, text)
            node_texts.show(region.shown, text)

        with interrupting():
            begun = await wait_for(here, None, share_out(region, prompt[0].get_node, given, here, say))
        if isinstance(begun, list):
            return (*begun, *[[]] * (MOST - len(begun)))
        return _expanded(begun, max(1, len(region.closers)))


class RunAll(Run):
    """The same for a region with output nodes that are executed for what they do; it may have closing ones too."""

    OUTPUT_NODE = True


class Step(_Hidden):
    """Follows the clones of one chunk: hands in what they gave, and expands into the next."""

    INPUT_IS_LIST = True
    RETURN_TYPES = (ANY,) * MOST

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        links = {f"{kind}_{n}": (ANY,) for kind in ("result", "after") for n in range(MOST)}
        return {"required": {"turn": ("STRING", {}), "chunk": ("INT", {})}, "optional": links}

    async def execute(self, turn: list[str], chunk: list[int], **given: Any) -> Any:
        """What each closing node is to get, as a list: of a list output an expansion can link to no more.

        Raises RankFailed, UnusableBatch.
        """
        from comfy_dist.calls.errors import Stopped
        from comfy_dist.calls.turns import turns

        with interrupting():
            if (found := turns.get(turn[0])) is None:
                here = worker()
                raise here.why_over() if here is not None else Stopped("What this node belongs to is over.")
            results = {closer: given[f"result_{n}"] for n, closer in enumerate(found.layout.closers)}
            expansion = found.next_now(chunk[0], results)
            if expansion is None:
                expansion = await found.wait(found.next(chunk[0], results))
        if expansion is not None:
            return _expanded(expansion, max(1, len(found.layout.closers)))
        outputs = found.outputs()
        # A Run without closing nodes links to an output all the same, and takes a list of it.
        return (*outputs, *[[]] * (MOST - len(outputs)))


class Rank(_Hidden):
    """The only output node of a call: expands into what there is to do for another worker's region."""

    OUTPUT_NODE = True
    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"layout": ("STRING", {"default": ""})}, "hidden": {"prompt": "DYNPROMPT"}}

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:
        """Every call is another."""
        return float("nan")

    async def execute(self, layout: str, prompt: Any) -> Any:
        """Raises NoCall, LinkLost, LinkRefused."""
        from comfy_dist.calls.rank import NoCall, help_now, help_with

        here = worker()
        if here is None:
            raise NoCall("This prompt helps with a region of another one; it is nothing to queue by itself.")
        region = Layout.from_json(layout)
        with interrupting():
            expansion = help_now(region, prompt.get_node, here)
            if expansion is None:
                expansion = await here.thread.run(help_with(region, prompt.get_node, here))
        return (None,) if expansion is None else _expanded(expansion, 1)


class Slice(_Hidden):
    """A chunk's part of what is divided."""

    INPUT_IS_LIST = True
    RETURN_TYPES = (ANY,)
    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"values": (ANY,), "start": ("INT", {}), "stop": ("INT", {})}}

    def execute(self, values: list[Any], start: list[int], stop: list[int]) -> tuple[list[Any]]:
        from comfy_dist.calls.offered import slice_of

        return (slice_of(values, start[0], stop[0]),)


class Received(_Hidden):
    """What a parent sent to a rank, known by its content alone."""

    RETURN_TYPES = (ANY,)
    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"content": ("STRING", {})}}

    async def execute(self, content: str) -> tuple[list[Any]]:
        """Raises NotPulled, or NotSent for what was sent to a call that is over."""
        from comfy_dist.calls.inbox import NotSent

        here = worker()
        if here is None:
            raise NotSent("This value was sent to a call that is over.")
        if (at_hand := here.at_hand(content)) is not None:
            return at_hand
        with interrupting():
            return (await here.thread.run(here.receive(content)),)


class Hand(_Hidden):
    """Hands what it is given back to the node that called this workflow, by the `names` of its inputs."""

    OUTPUT_NODE = True
    INPUT_IS_LIST = True
    RETURN_TYPES = ()

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        values = {f"value_{n}": (ANY,) for n in range(MOST)}
        return {"required": {"names": ("STRING", {})}, "optional": values}

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:
        """Every call wants it again."""
        return float("nan")

    async def execute(self, names: list[str], **given: Any) -> tuple[()]:
        """`names`: a JSON list, a name for each value. Raises NotSent, CannotTravel, NotAnswered."""
        from comfy_dist.calls.handoff import hand
        from comfy_dist.calls.inbox import NotSent

        here = worker()
        if here is None:
            raise NotSent("This workflow was not called by a node that gives and takes values.")
        values = {
            name: given[f"value_{n}"] for n, name in enumerate(json.loads(names[0])) if f"value_{n}" in given
        }
        with interrupting():
            await here.thread.run(hand(here, values))
        return ()


class RankInfo(_Hidden):
    """ClusterInfo inside a region."""

    RETURN_TYPES = ("INT", "INT", "STRING")

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"rank": ("INT", {}), "world": ("INT", {}), "workers": ("STRING", {})}}

    def execute(self, rank: int, world: int, workers: str) -> tuple[int, int, str]:
        return rank, world, info_text(rank, world, json.loads(workers))


class _AnyInputs(dict[str, Any]):
    """Optional inputs of any name."""

    def __contains__(self, name: object) -> bool:
        return True

    def __getitem__(self, name: str) -> Any:
        return (ANY, {})


class Held(_Hidden):
    """In the clones of a region an output node of a region inside it: in the cache key, and never executed."""

    RETURN_TYPES = (ANY,)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {}, "optional": _AnyInputs()}

    def execute(self, **_: Any) -> tuple[Any]:
        return (None,)


def _expanded(expansion: Expansion, outputs: int) -> dict[str, Any]:
    node_id, first = expansion.first
    return {"expand": expansion.graph, "result": tuple([node_id, first + n] for n in range(outputs))}


HIDDEN: Mapping[str, type] = {
    RUN: Run,
    RUN_ALL: RunAll,
    STEP: Step,
    RANK: Rank,
    SLICE: Slice,
    RECEIVED: Received,
    HAND: Hand,
    RANK_INFO: RankInfo,
    HELD: Held,
}
