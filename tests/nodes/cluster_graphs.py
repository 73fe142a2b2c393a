"""Graphs with Cluster nodes, for an engine without a worker: what `got` shows is what `want` shows."""

from __future__ import annotations

from typing import Any

Prompt = dict[str, Any]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def images(batch: int = 3, channels: int = 3, seed: int = 1) -> dict[str, Any]:
    return node("DistImages", batch=batch, channels=channels, seed=seed)


def latents(batch: int = 3, **more: Any) -> dict[str, Any]:
    return node("DistLatents", batch=batch, seed=2, **more)


def masks(batch: int = 3) -> dict[str, Any]:
    return node("DistMasks", batch=batch, seed=3)


def same(got: str, want: str, **nodes: Any) -> Prompt:
    """Both are first outputs of nodes."""
    return {**nodes, "got": node("DistDigest", value=[got, 0]), "want": node("DistDigest", value=[want, 0])}


def through(opens: str, closes: str, made: dict[str, Any]) -> Prompt:
    return same(
        "in", "made", made=made, out=node(opens, input=["made", 0]), **{"in": node(closes, input=["out", 0])}
    )


def subgraph(name: str = "piece", by: float = 2.0) -> Prompt:
    """A named piece on an image of its own, with a value from outside of it."""
    return {
        "own": images(seed=8),
        "factor": node("PrimitiveFloat", value=by),
        "start": node("ClusterStartSubgraph", image=["own", 0], subgraph_id=name),
        "scale": node("DistScale", value=["start", 0], by=["factor", 0]),
        "twice": node("DistAdd", one=["scale", 0], other=["start", 0]),
        "end": node("ClusterEndSubgraph", image=["twice", 0]),
    }


def used(use: str, source: str, by: float = 2.0) -> Prompt:
    """The piece used on the image that `source` gives, and the same written out."""
    return {
        "use": node("ClusterUseSubgraph", image=[source, 0], subgraph_id=use),
        "plain": node("DistScale", value=[source, 0], by=by),
        "sum": node("DistAdd", one=["plain", 0], other=[source, 0]),
    }


GRAPHS: dict[str, Prompt] = {
    "images": through("ClusterFanOutImage", "ClusterFanInImages", images()),
    "images of 1 channel": through("ClusterFanOutImage", "ClusterFanInImages", images(channels=1)),
    "no images": through("ClusterFanOutImage", "ClusterFanInImages", images(0)),
    "latents": through("ClusterFanOutLatent", "ClusterFanInLatent", latents(masks=2, index="[4, 0, 7]")),
    "videos": through("ClusterFanOutLatent", "ClusterFanInLatent", latents(frames=2)),
    "masks": through("ClusterFanOutMask", "ClusterFanInMask", masks()),
    "images gathered": through("ClusterFanOutImage", "ClusterGatherImages", images()),
    "latents gathered": through("ClusterFanOutLatent", "ClusterGatherLatents", latents()),
    "masks gathered": through("ClusterFanOutMask", "ClusterGatherMasks", masks()),
    "a list fanned in": same(
        "in",
        "made",
        made=images(5),
        parts=node("DistSplit", image=["made", 0], parts=3),
        **{"in": node("ClusterFanInImages", input=["parts", 0])},
    ),
    "a list gathered": same(
        "in",
        "made",
        made=images(5),
        parts=node("DistSplit", image=["made", 0], parts=3),
        **{"in": node("ClusterGatherImages", input=["parts", 0])},
    ),
    "a batch as work items": same(
        "out", "made", made=images(), out=node("ClusterGetInstanceWorkItemFromBatch", images=["made", 0])
    ),
    "values as work items": same(
        "out",
        "made",
        made=node("DistNumbers", count=4, first=7),
        out=node("ClusterGetInstanceWorkItemFromBatch", images=["made", 0], index_offset=1),
    ),
    "a broadcast": same(
        "listen",
        "made",
        made=images(),
        other=latents(),
        cast=node("ClusterBroadcastTensor", input=["made", 0], channel="a"),
        cast_b=node("ClusterBroadcastTensor", input=["other", 0], channel="b"),
        listen=node("ClusterListenTensorBroadcast", channel="a"),
    ),
    "a broadcast list": same(
        "listen",
        "made",
        made=node("DistSplit", image=["whole", 0], parts=2),
        whole=images(),
        cast=node("ClusterBroadcastTensor", input=["made", 0]),
        listen=node("ClusterListenTensorBroadcast"),
    ),
    "a broadcast passes on": same(
        "cast", "made", made=latents(), cast=node("ClusterBroadcastTensor", input=["made", 0])
    ),
    "a loaded image": same(
        "cast",
        "made",
        made=node("LoadImage", image="some.png"),
        cast=node("ClusterBroadcastLoadedImage", image="some.png"),
    ),
    "a subgraph in place": same(
        "end",
        "sum",
        **subgraph(),
        plain=node("DistScale", value=["own", 0], by=2.0),
        sum=node("DistAdd", one=["plain", 0], other=["own", 0]),
    ),
    "a subgraph used": same("use", "sum", **subgraph(), made=images(2), **used("piece", "made")),
    "a subgraph used on each of a list": same(
        "use",
        "sum",
        **subgraph(),
        whole=images(5),
        made=node("DistSplit", image=["whole", 0], parts=2),
        **used("piece", "made"),
    ),
    "a subgraph that uses another": same(
        "outer use",
        "more",
        **subgraph(),
        **{
            "outer own": images(1, seed=9),
            "outer start": node("ClusterStartSubgraph", image=["outer own", 0], subgraph_id="outer"),
            "outer": node("ClusterUseSubgraph", image=["outer start", 0], subgraph_id="piece"),
            "outer more": node("DistScale", value=["outer", 0], by=5.0),
            "outer end": node("ClusterEndSubgraph", image=["outer more", 0]),
            "outer use": node("ClusterUseSubgraph", image=["made", 0], subgraph_id="outer"),
        },
        made=images(2),
        **used("piece", "made"),
        more=node("DistScale", value=["sum", 0], by=5.0),
    ),
    "batches of a batch": same(
        "split",
        "made",
        whole=images(4),
        split=node("ClusterSplitBatchToList", image=["whole", 0], images_per_list_element=2),
        made=node("DistSplit", image=["whole", 0], parts=2),
    ),
    "single images": same(
        "flat",
        "made",
        whole=images(5),
        split=node("ClusterSplitBatchToList", image=["whole", 0], images_per_list_element=2),
        flat=node("ClusterFlattenBatchedImageList", images=["split", 0]),
        made=node("DistSplit", image=["whole", 0], parts=5),
    ),
    "images inserted at the end": same(
        "insert",
        "made",
        whole=images(4),
        more=images(2, seed=5),
        insert=node("ClusterInsertAtIndex", batch=["whole", 0], images_to_insert=["more", 0], insert_at_index=9),
        made=node("ImageBatch", image1=["whole", 0], image2=["more", 0]),
    ),
    "images in the order of a stride that none has": same(
        "order", "made", made=images(4), order=node("ClusterStridedReorder", image=["made", 0], stride=9)
    ),
    "freed now": same(
        "free",
        "made",
        made=latents(),
        free=node("ClusterFreeNow", anything=["made", 0], unload_models=True, free_memory=True),
    ),
    "freed at the end": same("made", "made", made=masks())
    | {"free": node("ClusterFinallyFree", anything=["made", 0], unload_models=False, free_memory=True)},
    # The Distributed nodes: one share, and values as they stand.
    "images collected": same(
        "in", "made", made=images(), **{"in": node("DistributedCollector", images=["made", 0], load_balance=True)}
    ),
    "a list collected": same(
        "in",
        "made",
        made=images(5),
        parts=node("DistSplit", image=["made", 0], parts=3),
        **{"in": node("DistributedCollector", images=["parts", 0], load_balance=False)},
    ),
    "a seed": same(
        "made",
        "other",
        seed=node("DistributedSeed", seed=2**64 - 1),
        made=node("DistNumberImage", number=["seed", 0]),
        other=node("DistNumberImage", number=2**64 - 1),
    ),
    "a value": same(
        "made",
        "other",
        value=node("DistributedValue", default_value="7", worker_values='{"1": "8", "_type": "INT"}'),
        made=node("DistNumberImage", number=["value", 0]),
        other=node("DistNumberImage", number=7),
    ),
    "a model's name": same(
        "name",
        "text",
        text=node("PrimitiveString", value="a.ckpt"),
        name=node("DistributedModelName", text="a.ckpt"),
    ),
    "a batch divided": same(
        "both",
        "made",
        made=images(5),
        parts=node("ImageBatchDivider", images=["made", 0], divide_by=2),
        both=node("ImageBatch", image1=["parts", 0], image2=["parts", 1]),
    ),
    "a sound divided": same(
        "both",
        "made",
        made=node("EmptyAudio", duration=0.5, sample_rate=8001, channels=2),
        parts=node("AudioBatchDivider", audio=["made", 0], divide_by=2),
        both=node("AudioConcat", audio1=["parts", 0], audio2=["parts", 1], direction="after"),
    ),
    "an output after the last part": same(
        "part",
        "empty",
        made=images(2),
        parts=node("ImageBatchDivider", images=["made", 0], divide_by=1),
        part=node("DistAsItIs", input=["parts", 9]),
        empty=node("DistributedEmptyImage", height=6, width=5, channels=3),
    ),
}

#: Graphs that fail, and what the error of which node says.
FAILING: dict[str, tuple[Prompt, str, str]] = {
    "values that are no JSON": (
        same(
            "value",
            "made",
            made=images(),
            value=node("DistributedValue", default_value="7", worker_values="{"),
        ),
        "value",
        "worker_values is no JSON",
    ),
    "sizes that cannot be collected": (
        same(
            "in",
            "made",
            made=images(5),
            parts=node("DistSplit", image=["made", 0], parts=2),
            uneven=node("ImageCrop", image=["parts", 0], width=["sizes", 0], height=1, x=0, y=0),
            sizes=node("DistNumbers", count=2, first=1),
            **{"in": node("DistributedCollector", images=["uneven", 0], load_balance=False)},
        ),
        "in",
        "Those of this worker are 1 x 1, 3 channels, and those of this worker 2 x 1, 3 channels",
    ),
    "a list fanned out": (
        same(
            "out",
            "made",
            made=images(5),
            parts=node("DistSplit", image=["made", 0], parts=3),
            out=node("ClusterFanOutImage", input=["parts", 0]),
        ),
        "out",
        "divides one batch, and was given a list of 3",
    ),
    "sizes that are no batch": (
        same(
            "in",
            "made",
            made=images(5),
            parts=node("DistSplit", image=["made", 0], parts=2),
            uneven=node("ImageCrop", image=["parts", 0], width=["sizes", 0], height=1, x=0, y=0),
            sizes=node("DistNumbers", count=2, first=1),
            **{"in": node("ClusterFanInImages", input=["uneven", 0])},
        ),
        "in",
        "a tensor [3, 1, 1, 3] and a tensor [2, 1, 2, 3]",
    ),
    "sizes that cannot be inserted": (
        same(
            "insert",
            "made",
            made=images(channels=4),
            other=images(),
            insert=node(
                "ClusterInsertAtIndex", batch=["made", 0], images_to_insert=["other", 0], insert_at_index=0
            ),
        ),
        "insert",
        "6 x 5 x 4, and those to insert 6 x 5 x 3",
    ),
    "nobody broadcasts": (
        same("listen", "made", made=images(), listen=node("ClusterListenTensorBroadcast", channel="a")),
        "listen",
        "Nothing in this workflow broadcasts on the channel 'a'",
    ),
    "two broadcast on one channel": (
        same(
            "listen",
            "made",
            made=images(),
            one=node("ClusterBroadcastTensor", input=["made", 0]),
            two=node("ClusterBroadcastLoadedImage", image="some.png"),
            listen=node("ClusterListenTensorBroadcast"),
        ),
        "listen",
        "one, two broadcast on it",
    ),
    "a subgraph that nothing starts": (
        same(
            "use",
            "made",
            **subgraph(),
            made=images(),
            use=node("ClusterUseSubgraph", image=["made", 0], subgraph_id="other"),
        ),
        "use",
        "use one that is there: 'piece'",
    ),
    "a subgraph that contains itself": (
        same(
            "use",
            "made",
            start=node("ClusterStartSubgraph", image=["made", 0], subgraph_id="piece"),
            again=node("ClusterUseSubgraph", image=["start", 0], subgraph_id="piece"),
            end=node("ClusterEndSubgraph", image=["again", 0]),
            made=images(),
            use=node("ClusterUseSubgraph", image=["made", 0], subgraph_id="piece"),
        ),
        "use",
        "which contains itself",
    ),
}
