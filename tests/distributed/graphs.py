"""Graphs with regions, of the nodes in tests/packs/distributed_nodes, for one batch size each.

`within` stands for a node that says how many workers can help, `meet` for one where these wait for each other, so
that none has done it all before the others came. `placed` puts the real ones in; `undivided` makes the graph that
a ComfyUI without a cluster would be given.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.support.talking import Prompt, node

#: Kind -> the classes that open and close a region of it.
KINDS = {
    "Image": ("ClusterFanOutImage", "ClusterFanInImages"),
    "Latent": ("ClusterFanOutLatent", "ClusterFanInLatent"),
    "Mask": ("ClusterFanOutMask", "ClusterFanInMask"),
}
_IN_PLACE = {name for pair in KINDS.values() for name in pair}


def placed(prompt: Prompt, world: int, at: str = "", workers: int = 0) -> Prompt:
    """For that many workers. Where so many are to meet, at a folder of its own for each `meet`."""
    made = {}
    for id_, each in prompt.items():
        inputs = {**each["inputs"]}
        match each["class_type"]:
            case "within":
                made[id_] = node(f"DistWithin{world}", **inputs)
            case "meet" if workers:
                made[id_] = node("DistMeet", **inputs, at=f"{at}/{id_}", workers=workers)
            case "meet":
                made[id_] = node("DistAsItIs", input=inputs["value"])
            case class_type:
                made[id_] = node(class_type, **inputs)
    return made


def undivided(prompt: Prompt) -> Prompt:
    """The same without a node of ours that divides or joins."""
    made = {}
    for id_, each in placed(prompt, 1).items():
        inputs = {**each["inputs"]}
        if each["class_type"] in _IN_PLACE:
            made[id_] = node("DistAsItIs", input=inputs["input"])
        else:
            made[id_] = node(each["class_type"], **inputs)
    return made


def source(kind: str, batch: int, **more: Any) -> dict[str, Any]:
    return node({"Image": "DistImages", "Latent": "DistLatents", "Mask": "DistMasks"}[kind], batch=batch, **more)


def region(kind: str, batch: int, work: str = "DistScale", **more: Any) -> Prompt:
    """A batch divided, worked on, and joined. `more`: inputs of what makes the batch."""
    opens, closes = KINDS[kind]
    more = ({"channels": 3} if kind == "Image" else {}) | {"seed": batch} | more
    worked = {"latent": ["meet", 0], "seed": 5} if work == "DistSample" else {"value": ["meet", 0]}
    return {
        "made": source(kind, batch, **more),
        "out": node(opens, input=["made", 0]),
        "within": node("within", value=["out", 0]),
        "meet": node("meet", value=["within", 0]),
        "work": node(work, **worked),
        "in": node(closes, input=["work", 0]),
        "digest": node("DistDigest", value=["in", 0]),
    }


def image_with_mask(batch: int) -> Prompt:
    return {
        "images": source("Image", batch, channels=3, seed=1),
        "masks": source("Mask", batch, seed=2),
        "out": node("ClusterFanOutImage", input=["images", 0]),
        "out mask": node("ClusterFanOutMask", input=["masks", 0]),
        "within": node("within", value=["out", 0]),
        "meet": node("meet", value=["within", 0]),
        "masked": node("DistMasked", image=["meet", 0], mask=["out mask", 0]),
        "both": node("DistImageToMask", image=["masked", 0]),
        "in": node("ClusterFanInImages", input=["both", 0]),
        "in mask": node("ClusterFanInMask", input=["both", 1]),
        "digest": node("DistDigest", value=["in", 0]),
        "digest mask": node("DistDigest", value=["in mask", 0]),
    }


def one_after_another(batch: int) -> Prompt:
    first = region("Image", batch)
    del first["digest"]
    return first | {
        "between": node("DistScale", value=["in", 0], by=0.3),
        "out 2": node("ClusterFanOutImage", input=["between", 0]),
        "within 2": node("within", value=["out 2", 0]),
        "meet 2": node("meet", value=["within 2", 0]),
        "work 2": node("DistScale", value=["meet 2", 0], by=7.0),
        "in 2": node("ClusterFanInImages", input=["work 2", 0]),
        "digest": node("DistDigest", value=["in 2", 0]),
    }


def nested(batch: int) -> Prompt:
    """Each rank divides its part again. The outer parts wait for no others: all may be at work on inner ones."""
    return {
        "made": source("Image", batch, channels=3, seed=3),
        "out": node("ClusterFanOutImage", input=["made", 0]),
        "within": node("within", value=["out", 0]),
        "work": node("DistScale", value=["within", 0]),
        "inner out": node("ClusterFanOutImage", input=["work", 0]),
        "inner within": node("within", value=["inner out", 0]),
        "inner work": node("DistScale", value=["inner within", 0], by=0.7),
        "inner in": node("ClusterFanInImages", input=["inner work", 0]),
        "more": node("DistScale", value=["inner in", 0], by=1.3),
        "in": node("ClusterFanInImages", input=["more", 0]),
        "digest": node("DistDigest", value=["in", 0]),
    }


def showing_inside(batch: int) -> Prompt:
    return region("Image", batch) | {"shown": node("DistShow", value=["work", 0])}


def nothing_closes_it(batch: int) -> Prompt:
    made = showing_inside(batch)
    del made["in"], made["digest"]
    return made


def with_a_model(batch: int) -> Prompt:
    """The model cannot travel; the value that makes it is the parent's."""
    made = region("Image", batch)
    return made | {
        "factor": node("PrimitiveFloat", value=1.7),
        "model": node("DistModel", factor=["factor", 0]),
        "work": node("DistApply", image=["meet", 0], model=["model", 0]),
    }


def a_chain_with_values(batch: int) -> Prompt:
    made = region("Image", batch)
    made["add"] = node("PrimitiveFloat", value=0.25)
    before = "work"
    for name in ("b", "c", "d"):
        made[name] = node("DistScale", value=[before, 0], by=1.1, add=["add", 0])
        before = name
    made["in"] = node("ClusterFanInImages", input=[before, 0])
    return made


def a_subgraph_inside(batch: int) -> Prompt:
    """Its piece is used on other images first, and twice within the region."""
    made = region("Image", batch)
    made |= {
        "elsewhere": source("Image", 2, channels=3, seed=9),
        "start": node("ClusterStartSubgraph", image=["elsewhere", 0], subgraph_id="piece"),
        "piece": node("DistScale", value=["start", 0], by=0.9),
        "end": node("ClusterEndSubgraph", image=["piece", 0]),
        "digest elsewhere": node("DistDigest", value=["end", 0]),
        "use": node("ClusterUseSubgraph", image=["meet", 0], subgraph_id="piece"),
        "use again": node("ClusterUseSubgraph", image=["use", 0], subgraph_id="piece"),
        "work": node("DistScale", value=["use again", 0]),
    }
    return made


def a_broadcast_inside(batch: int) -> Prompt:
    """Every rank has the whole of what was broadcast."""
    made = region("Image", batch)
    made |= {
        "whole": source("Image", 1, channels=3, seed=4),
        "sent": node("ClusterBroadcastTensor", input=["whole", 0], channel="c"),
        "heard": node("ClusterListenTensorBroadcast", channel="c"),
        "add": node("DistAdd", one=["meet", 0], other=["heard", 0]),
        "work": node("DistScale", value=["add", 0]),
        "digest sent": node("DistDigest", value=["sent", 0]),
    }
    return made


def a_list_inside(batch: int) -> Prompt:
    """Split into a list, mapped over, and flattened again inside."""
    made = region("Image", batch)
    made |= {
        "list": node("ClusterSplitBatchToList", image=["meet", 0], images_per_list_element=2),
        "mapped": node("DistScale", value=["list", 0]),
        "in": node("ClusterFanInImages", input=["mapped", 0]),
    }
    return made


def upscale(
    world: int, at: object = "", *, batch: int = 1, side: int = 200, held: bool = False, **more: Any
) -> Prompt:
    """A picture refined by `world` workers, which wait for each other at `at`, or hold there until they may go."""
    given = {
        "seed": 2**64 - 1,
        "steps": 20,
        "cfg": 8.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 0.5,
        "tile_width": 64,
        "tile_height": 72,
        "padding": 32,
        "mask_blur": 8,
        "force_uniform_tiles": True,
        "tiled_decode": False,
    }
    return {
        "made": node("FaultImages", batch=batch, size=side, seed=3),
        "model": node(f"RefiningModel{world}", at=str(at), workers=0 if held else world),
        "positive": node("RefiningText", strength=2.0, side=96),
        "negative": node("RefiningText", strength=1.0, side=0),
        "upscale": node(
            "UltimateSDUpscaleDistributed",
            upscaled_image=["made", 0],
            model=["model", 0],
            positive=["positive", 0],
            negative=["negative", 0],
            vae=["model", 1],
            **given | more,
        ),
        "digest": node("DistDigest", value=["upscale", 0]),
    }


#: Name -> what makes the graph for a batch size; all bit for bit what one worker makes of it undivided.
EXACT: dict[str, Callable[[int], Prompt]] = {
    **{f"images of {n} channels": lambda batch, n=n: region("Image", batch, channels=n) for n in (1, 3, 4)},
    "masks": lambda batch: region("Mask", batch),
    "latents": lambda batch: region("Latent", batch, "DistSample"),
    "half latents": lambda batch: region("Latent", batch, "DistSample", half=True),
    "latents, a noise mask": lambda batch: region("Latent", batch, "DistSample", masks=1),
    "latents, a noise mask each": lambda batch: region("Latent", batch, "DistSample", masks=batch),
    "latents, noise masks in turn": lambda batch: region("Latent", batch, "DistSample", masks=2),
    "latents with positions": lambda batch: region(
        "Latent", batch, "DistSample", index=json.dumps([3 * n + 2 for n in reversed(range(batch))])
    ),
    "video latents": lambda batch: region("Latent", batch, "DistSample", frames=3),
    "images with their masks": image_with_mask,
    "one after another": one_after_another,
    "nested": nested,
    "showing inside": showing_inside,
    "nothing closes it": nothing_closes_it,
    "a model": with_a_model,
    "a chain with values": a_chain_with_values,
    "a subgraph inside": a_subgraph_inside,
    "a broadcast inside": a_broadcast_inside,
}
