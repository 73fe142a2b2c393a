"""The node classes that the planning knows: what opens a region, what closes it, what is inlined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

#: How a closing node puts the chunks' results together: into one batch, or into a list with one for each rank.
Joining: TypeAlias = Literal["join", "list"]


@dataclass(frozen=True, slots=True)
class Opening:
    """A class that opens a region."""

    #: The input whose items are shared out.
    input: str
    #: Whether each rank gets exactly one chunk.
    ranked: bool = False


OPENERS = {
    "ClusterFanOutImage": Opening("input"),
    "ClusterFanOutLatent": Opening("input"),
    "ClusterFanOutMask": Opening("input"),
    "ClusterGetInstanceWorkItemFromBatch": Opening("images", ranked=True),
}
CLOSERS: dict[str, Joining] = {
    "ClusterFanInImages": "join",
    "ClusterFanInLatent": "join",
    "ClusterFanInMask": "join",
    "ClusterGatherImages": "list",
    "ClusterGatherLatents": "list",
    "ClusterGatherMasks": "list",
}
#: The input of closing nodes that a region's results come through.
CLOSED = "input"
#: Opens a region where it feeds a closing node and nothing else opens one; inside one it tells its rank.
INFO = "ClusterInfo"

#: Closes a region of its own kind (collecting.py): everything before it is executed once for each share.
COLLECTOR = "DistributedCollector"
#: All that close a region.
CLOSING = frozenset({*CLOSERS, COLLECTOR})
#: What it collects, by input.
COLLECTED_INPUTS = ("images", "audio")
#: Its input that has the region executed once, by one worker.
BALANCED = "load_balance"
#: They give each share its own. Before no collector they work in place.
SEED, VALUE = "DistributedSeed", "DistributedValue"
SHARED = frozenset({SEED, VALUE})

LISTEN = "ClusterListenTensorBroadcast"
BROADCASTS = frozenset({"ClusterBroadcastTensor", "ClusterBroadcastLoadedImage"})
#: Set on a Broadcast: workflows that the prompt has executed elsewhere may listen to it.
PUBLISH = "publish"
EXECUTING = frozenset({"ClusterExecuteWorkflow", "ClusterExecuteCurrentWorkflow"})
START, END, USE = "ClusterStartSubgraph", "ClusterEndSubgraph", "ClusterUseSubgraph"
#: They hand on their input `results` once planned.
PASSING = frozenset({LISTEN, USE})

#: Unfolded into nodes that share its tiles (tiling.py).
UPSCALE = "UltimateSDUpscaleDistributed"

# The hidden nodes (nodes/cluster/hidden.py).
RUN, RUN_ALL, RANK = "ComfyDistRun", "ComfyDistRunAll", "ComfyDistRank"
RUNS = frozenset({RUN, RUN_ALL})
HAND = "ComfyDistHand"
STEP, SLICE, RECEIVED, RANK_INFO = "ComfyDistStep", "ComfyDistSlice", "ComfyDistReceived", "ComfyDistRankInfo"
#: Puts together what a share gives to one collector.
COLLECTED = "ComfyDistCollected"
# Those of an upscale (nodes/distributed/tiles.py).
TILES, REFINE = "ComfyDistTiles", "ComfyDistRefineTiles"
#: In the clones of a region: an output node of a region inside it. It is in the cache keys and never executed,
#: as engines execute every output node of an expansion where it stands.
HELD = "ComfyDistHeld"
#: The input of a held node that says what it is.
HELD_CLASS = "held_class"

#: Types of outputs that can travel between processes.
TRAVELLING = frozenset(
    {
        "AUDIO",
        "BOOLEAN",
        "COMBO",
        "CONDITIONING",
        "FLOAT",
        "IMAGE",
        "INT",
        "LATENT",
        "MASK",
        "SIGMAS",
        "STRING",
    }
)
ANY_TYPE = "*"


def closed_inputs(class_type: str) -> tuple[str, ...]:
    """The inputs of a closing node that a region's results come through."""
    return COLLECTED_INPUTS if class_type == COLLECTOR else (CLOSED,)
