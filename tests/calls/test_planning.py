"""A planned graph makes what one worker would have made of it, however it is cut; and a plan can be undone."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field
from typing import Any

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from comfy_dist.calls.errors import RegionError
from comfy_dist.calls.planning import Planned, plan, restore
from comfy_dist.calls.showing import Shown
from tests.calls.toy import FAN_IN, FAN_OUT, GATHER, NODES, WORK_ITEM, Machine, as_one_worker, node

SAVES = ("Save", "SaveAndPass")


@dataclass
class Value:
    """An output while a graph is drawn: through which opening nodes it came that are still open."""

    link: list[Any]
    cuts: tuple[str, ...] = ()


@dataclass
class Drawing:
    """A toy graph while it is drawn. Only batches that were cut alike are combined item by item."""

    size: int
    prompt: dict[str, Any] = field(default_factory=dict)
    images: list[Value] = field(default_factory=list)
    models: list[list[Any]] = field(default_factory=list)
    numbers: list[list[Any]] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    def add(self, class_type: str, **inputs: Any) -> list[Any]:
        node_id = str(len(self.prompt) + 1)
        self.prompt[node_id] = node(class_type, **inputs)
        return [node_id, 0]

    def map(self, draw: st.DrawFn, image: list[Any]) -> list[Any]:
        inputs: dict[str, Any] = {"image": image, "by": draw(st.integers(0, 9))}
        if self.models and draw(st.booleans()):
            inputs["model"] = draw(st.sampled_from(self.models))
        if self.numbers and draw(st.booleans()):
            inputs["whole"] = draw(st.sampled_from(self.numbers))
        return self.add("Map", **inputs)

    def step(self, draw: st.DrawFn) -> None:
        """One more node, or a few."""
        value = draw(st.sampled_from(self.images[-6:]))
        match draw(st.sampled_from(STEPS)):
            case "load":
                self.images.append(Value(self.add("Load", seed=draw(st.integers(0, 9)), size=self.size)))
            case "model":
                model = self.add("Model", name=draw(st.integers(0, 9)))
                if self.numbers and draw(st.booleans()):
                    self.prompt[model[0]]["inputs"]["strength"] = draw(st.sampled_from(self.numbers))
                self.models.append(self.add("Anything", value=model) if draw(st.booleans()) else model)
            case "map":
                self.images.append(Value(self.map(draw, value.link), value.cuts))
            case "zip":
                other = draw(st.sampled_from([each for each in self.images if each.cuts == value.cuts]))
                self.images.append(Value(self.add("Zip", image=value.link, other=other.link), value.cuts))
            case "open":
                opener, name = draw(st.sampled_from([(FAN_OUT, "input"), (WORK_ITEM, "images")]))
                opened = self.add(opener, **{name: value.link})
                self.images.append(Value(self.map(draw, opened), (*value.cuts, opened[0])))
            case "open two":
                # An image with its mask.
                for link in (value.link, self.map(draw, value.link)):
                    opened = self.add(FAN_OUT, input=link)
                    cuts = (*value.cuts, f"two at {value.link[0]} of {len(self.images)}")
                    self.images.append(Value(opened, cuts))
                one, other = self.images[-2:]
                other.cuts = one.cuts
                self.images.append(Value(self.add("Zip", image=one.link, other=other.link), one.cuts))
            case "join" if value.cuts:
                self.images.append(Value(self.map(draw, self.add(FAN_IN, input=value.link)), value.cuts[:-1]))
            case "gather" if value.cuts:
                listed = self.add(GATHER, input=value.link)
                self.images.append(Value(self.add("Flatten", image=listed), value.cuts[:-1]))
            case "sum" if not value.cuts:
                self.numbers.append(self.add("Sum", image=value.link))
            case "save":
                self.add("Save", image=value.link)
            case "save and pass":
                self.images.append(Value(self.add("SaveAndPass", image=value.link), value.cuts))
            case "broadcast":
                channel = f"channel {len(self.prompt)}"
                self.add("ClusterBroadcastTensor", input=value.link, channel=channel)
                self.images.append(Value(self.add("ClusterListenTensorBroadcast", channel=channel), value.cuts))
            case "piece":
                name = f"piece {len(self.pieces)}"
                start = self.add("ClusterStartSubgraph", image=value.link, subgraph_id=name)
                inside = self.map(draw, start)
                if self.pieces and draw(st.booleans()):
                    inside = self.add(
                        "ClusterUseSubgraph", image=inside, subgraph_id=draw(st.sampled_from(self.pieces))
                    )
                if draw(st.booleans()):
                    inside = self.add(FAN_IN, input=self.map(draw, self.add(FAN_OUT, input=inside)))
                end = f"{start[0]}.end"
                self.prompt[end] = node("ClusterEndSubgraph", image=inside)
                self.pieces.append(name)
                self.images.append(Value([end, 0], value.cuts))
            case "use" if self.pieces:
                name = draw(st.sampled_from(self.pieces))
                used = self.add("ClusterUseSubgraph", image=value.link, subgraph_id=name)
                self.images.append(Value(used, value.cuts))


STEPS = (
    *("load", "model", "map", "map", "zip", "zip", "open", "open", "open two", "join", "join", "join", "gather"),
    *("sum", "save", "save and pass", "broadcast", "piece", "use"),
)


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    drawing = Drawing(draw(st.integers(0, 7)))
    drawing.images.append(Value(drawing.add("Load", seed=1, size=drawing.size)))
    for _ in range(draw(st.integers(3, 22))):
        drawing.step(draw)
    for value in drawing.images[-draw(st.integers(1, 4)) :]:
        drawing.add("Save", image=value.link)
    return drawing.prompt


def targets_of(prompt: dict[str, Any]) -> list[str]:
    return [each for each, its in prompt.items() if its["class_type"] in SAVES]


def executed(planned: Planned, seed: int) -> dict[str, list[int]]:
    """What each target saved, as clients see it, with the planned prompt on a cluster that cuts by chance."""
    machine = Machine(copy.deepcopy(planned.prompt), random.Random(seed))
    machine.execute(planned.targets)
    outputs, meta = Shown(planned.shown).merged((machine.outputs, machine.meta), machine.called)
    assert all(about["node_id"] == node_id for node_id, about in meta.items())
    return {node_id: entry["saved"] for node_id, entry in outputs.items()}


@settings(max_examples=150, deadline=None)
@given(graphs(), st.integers(0, 2**32), st.data())
def test_many_make_what_one_worker_makes(prompt: dict[str, Any], seed: int, data: st.DataObject) -> None:
    targets = targets_of(prompt)
    if data.draw(st.booleans()):
        targets = data.draw(st.lists(st.sampled_from(targets), min_size=1, unique=True))
    before = copy.deepcopy(prompt)
    try:
        planned = plan(prompt, NODES, targets)
    except RegionError as error:
        # Two regions that turned out to be one, and one of them feeds the other.
        event("refused")
        assume("takes a rank's part of the region" not in str(error))
        raise
    assert prompt == before, "a plan changes nothing in place"
    if planned is None:
        planned = Planned(prompt, tuple(targets), {})
    runs = [each for each in planned.prompt.values() if each["class_type"].startswith("ComfyDistRun")]
    event(f"{min(len(runs), 4)} regions")
    whole = as_one_worker(prompt, targets)
    saved = executed(planned, seed)
    assert {target: saved.get(target) for target in targets} == whole
    others = saved.keys() - set(targets)
    assert all(prompt[each]["class_type"] == "SaveAndPass" for each in others), "they are on the way to a target"
    assert restore(planned.prompt) == prompt
    if runs:
        assert plan(planned.prompt, NODES, planned.targets) == planned
        assert plan(planned.prompt, NODES, targets) == planned
