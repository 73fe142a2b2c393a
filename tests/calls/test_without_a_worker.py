"""Regions in a process that no worker started."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from comfy_dist.calls.layout import Layout, Opener
from comfy_dist.calls.parent import share_out
from comfy_dist.calls.turns import turns

BATCH = torch.zeros(2, 1, 1, 3)
LAYOUT = Layout(
    run="1.region",
    shown="1",
    openers={"1": Opener(class_type="ClusterFanOutImage", input="in_0")},
    closers={"2": "join"},
    members=(),
    outputs={},
)


class Prompt:
    """As engines show it to nodes."""

    def get_node(self, node_id: str) -> dict[str, Any]:
        return {
            "1": {"class_type": "ClusterFanOutImage", "inputs": {"input": ["0", 0]}},
            "1.region": {"class_type": "ComfyDistRun", "inputs": {"in_0": ["0", 0]}},
            "2": {"class_type": "ClusterFanInImages", "inputs": {"input": ["1", 0]}},
        }[node_id]


@pytest.mark.asyncio
async def test_a_prompt_that_failed_leaves_nothing_behind_once_another_executes() -> None:
    turns.clear()
    first, second = Prompt(), Prompt()
    for _ in range(2):
        await share_out(LAYOUT, first.get_node, {"in_0": [BATCH]}, None)
    # One region may lie inside another.
    failed = list(turns)
    assert len(failed) == 2
    expansion = await share_out(LAYOUT, second.get_node, {"in_0": [BATCH]}, None)
    (turn,) = turns.values()
    assert expansion.graph["1.region.step.0"]["inputs"]["turn"] not in failed
    assert await turn.next(0, {"2": [BATCH]}) is None
    (values,) = turn.outputs()
    assert torch.equal(values[0], BATCH)
    assert not turns
