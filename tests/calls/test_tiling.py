"""The plan of a tiled upscale: its tiles are shared, its models come along, and the plan can be undone."""

from __future__ import annotations

import copy
from typing import Any

from comfy_dist.calls.classes import RUNS
from comfy_dist.calls.layout import Layout
from comfy_dist.calls.links import inputs_of
from comfy_dist.calls.planning import Planned, plan, restore
from tests.calls.toy import FAN_IN, FAN_OUT, NODES, node

INFO = NODES | {
    "Text": {"output": ["CONDITIONING"], "output_node": False},
    "UltimateSDUpscaleDistributed": {"output": ["IMAGE"], "output_node": False},
    "ComfyDistTiles": {"output": ["*"], "output_node": False},
    "ComfyDistRefineTiles": {"output": ["*"], "output_node": False},
}


def upscale(picture: str, **more: Any) -> dict[str, Any]:
    return {
        "model": node("Model", name=1),
        "text": node("Text"),
        "up": node(
            "UltimateSDUpscaleDistributed",
            upscaled_image=[picture, 0],
            model=["model", 0],
            vae=["model", 1],
            positive=["text", 0],
            negative=["text", 0],
            tile_width=64,
            mask_blur=8,
            steps=20,
            **more,
        ),
        "save": node("Save", image=["up", 0]),
    }


def planned(prompt: dict[str, Any]) -> Planned:
    """Checked: the prompt is as it was, the plan can be undone, and made anew."""
    before = copy.deepcopy(prompt)
    made = plan(prompt, INFO, ())
    assert made is not None
    assert prompt == before
    assert restore(made.prompt) == prompt
    assert plan(made.prompt, INFO, made.targets) == made
    return made


def layout_in(made: Planned) -> Layout:
    """That of its only region."""
    (run,) = (each for each in made.prompt.values() if each["class_type"] in RUNS)
    return Layout.from_json(run["inputs"]["layout"])


def test_the_tiles_are_shared_out_and_a_rank_gets_nothing_of_the_picture_but_these() -> None:
    prompt = {"load": node("Load", seed=1, size=1), "number": node("Sum", image=["load", 0])}
    prompt |= upscale("load", seed=["number", 0])
    made = planned(prompt)
    layout = layout_in(made)
    tiles = made.prompt["up.tiles"]
    assert tiles["inputs"] == {"upscaled_image": ["load", 0], "tile_width": 64, "mask_blur": 8}
    assert list(layout.openers) == ["up.share"]
    assert layout.members == ("up.refine",)
    assert layout.closers == {"up.refined": "join"}
    assert not layout.ranked, "a fast worker takes more tiles"
    assert layout.carried == ("model",)
    assert set(layout.links) == {"up.tiles:0", "number:0", "text:0"}
    refine = inputs_of(made.prompt["up.refine"])
    assert refine["tiles"] == ["up.share", 0]
    assert refine["steps"] == 20
    assert inputs_of(made.prompt["up"]) == inputs_of(prompt["up"]) | {"results": ["up.refined", 0]}


def test_clients_see_all_of_it_under_the_upscale() -> None:
    made = planned({"load": node("Load", seed=1, size=1), **upscale("load")})
    assert set(made.shown.values()) == {"up"}
    assert {"up.tiles", "up.share", "up.refine", "up.refined"} < set(made.shown)
    assert layout_in(made).shown == "up"


def test_two_upscales_after_each_other_are_two_regions() -> None:
    first, second = upscale("load"), upscale("up")
    prompt = {"load": node("Load", seed=1, size=1), **first, "again": second["up"]}
    prompt["save"] = node("Save", image=["again", 0])
    made = planned(prompt)
    runs = [each for each in made.prompt.values() if each["class_type"] in RUNS]
    assert sorted(Layout.from_json(each["inputs"]["layout"]).shown for each in runs) == ["again", "up"]


def test_an_upscale_within_a_region_divides_each_ranks_part_again() -> None:
    prompt = {"load": node("Load", seed=1, size=4), "out": node(FAN_OUT, input=["load", 0]), **upscale("out")}
    prompt |= {"in": node(FAN_IN, input=["up", 0]), "save": node("Save", image=["in", 0])}
    made = planned(prompt)
    layouts = [
        Layout.from_json(each["inputs"]["layout"]) for each in made.prompt.values() if each["class_type"] in RUNS
    ]
    (outer,) = (each for each in layouts if "out" in each.openers)
    (inner,) = (each for each in layouts if "up.share" in each.openers)
    assert {inner.run, "up", "up.tiles", "up.refined"} <= set(outer.members)


def test_an_upscale_in_a_named_piece_is_shared_wherever_it_is_used() -> None:
    prompt = {
        "load": node("Load", seed=1, size=1),
        "start": node("ClusterStartSubgraph", image=["load", 0], subgraph_id="piece"),
        **upscale("start"),
        "end": node("ClusterEndSubgraph", image=["up", 0]),
        "use": node("ClusterUseSubgraph", image=["end", 0], subgraph_id="piece"),
        "save": node("Save", image=["use", 0]),
    }
    made = planned(prompt)
    opened = {
        opener
        for each in made.prompt.values()
        if each["class_type"] in RUNS
        for opener in Layout.from_json(each["inputs"]["layout"]).openers
    }
    assert len(opened) == 2


def test_what_has_no_picture_or_is_nobodys_is_left_to_validation() -> None:
    prompt = upscale("load")
    prompt["up"]["inputs"]["upscaled_image"] = "a picture"
    assert plan(prompt, INFO, ()) is None
    prompt = {"load": node("Load", seed=1, size=1), **upscale("load"), "save": node("Save", image=["load", 0])}
    assert plan(prompt, INFO, ()) is None


def test_an_id_that_a_node_has_is_not_taken() -> None:
    prompt = {"up.tiles": node("Load", seed=1, size=1), **upscale("up.tiles")}
    made = planned(prompt)
    assert made.prompt["up.tiles"] == prompt["up.tiles"]
    assert made.prompt["up.tiles_"]["class_type"] == "ComfyDistTiles"
