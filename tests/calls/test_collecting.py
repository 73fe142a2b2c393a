"""However a graph with collectors is planned: each share has its own seed, all else is made as it stands."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from comfy_dist.calls.classes import CLOSERS, COLLECTOR, OPENERS, SEED
from comfy_dist.calls.errors import RegionError
from comfy_dist.calls.layout import Layout
from comfy_dist.calls.links import is_link
from comfy_dist.calls.planning import Planned, plan, restore
from tests.calls.test_planning import executed, targets_of
from tests.calls.toy import FAN_IN, FAN_OUT, NODES, SHARES, node, ordinary


@dataclass
class Value:
    """An image: how often it was collected, and whether a region that divides it is open."""

    link: list[Any]
    collected: int = 0
    #: The opening node.
    opened: str = ""


@dataclass
class Drawing:
    prompt: dict[str, Any] = field(default_factory=dict)
    images: list[Value] = field(default_factory=list)
    numbers: list[list[Any]] = field(default_factory=list)
    models: list[list[Any]] = field(default_factory=list)

    def add(self, class_type: str, **inputs: Any) -> list[Any]:
        node_id = str(len(self.prompt) + 1)
        self.prompt[node_id] = node(class_type, **inputs)
        return [node_id, 0]

    def step(self, draw: st.DrawFn) -> None:
        value = draw(st.sampled_from(self.images[-5:]))
        match draw(st.sampled_from(STEPS)):
            case "load":
                self.images.append(Value(self.add("Load", seed=draw(st.integers(0, 9)), size=2)))
            case "seed":
                self.numbers.append(self.add(SEED, seed=draw(st.integers(0, 9))))
            case "seed of a number" if self.numbers:
                self.numbers.append(self.add(SEED, seed=draw(st.sampled_from(self.numbers))))
            case "model" if self.numbers:
                self.models.append(self.add("Model", name=1, strength=draw(st.sampled_from(self.numbers))))
            case "map":
                more = (
                    {"whole": draw(st.sampled_from(self.numbers))} if self.numbers and draw(st.booleans()) else {}
                )
                if self.models and draw(st.booleans()):
                    more["model"] = draw(st.sampled_from(self.models))
                self.images.append(
                    Value(self.add("Map", image=value.link, by=1, **more), value.collected, value.opened)
                )
            case "zip":
                alike = [
                    each
                    for each in self.images
                    if (each.collected, each.opened) == (value.collected, value.opened)
                ]
                other = draw(st.sampled_from(alike))
                link = self.add("Zip", image=value.link, other=other.link)
                self.images.append(Value(link, value.collected, value.opened))
            case "sum" if not value.opened:
                self.numbers.append(self.add("Sum", image=value.link))
            case "open" if not value.opened:
                opened = self.add(FAN_OUT, input=value.link)
                self.images.append(Value(opened, value.collected, opened[0]))
            case "close" if value.opened:
                # One end for each: of two, one may differ between shares, and the region then is in these.
                self.images = [each for each in self.images if each.opened != value.opened]
                self.images.append(Value(self.add(FAN_IN, input=value.link), value.collected))
            case "collect" if not value.opened and value.collected < 3:
                link = self.add(COLLECTOR, images=value.link, load_balance=False)
                self.images.append(Value(link, value.collected + 1))
            case "save" if not value.opened:
                self.add("Save", image=value.link)
            case "save and pass" if not value.opened:
                self.images.append(Value(self.add("SaveAndPass", image=value.link), value.collected))


STEPS = ("load", "seed", "seed of a number", "model", *["map"] * 4, "zip", "zip", "sum", "open", "close", "close")
STEPS += ("collect", "collect", "collect", "save", "save and pass")


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    drawing = Drawing()
    drawing.images.append(Value(drawing.add("Load", seed=1, size=2)))
    drawing.numbers.append(drawing.add(SEED, seed=5))
    for _ in range(draw(st.integers(3, 18))):
        drawing.step(draw)
    last = drawing.images[-1]
    collected = drawing.add(FAN_IN, input=last.link) if last.opened else last.link
    drawing.add("Save", image=drawing.add(COLLECTOR, images=collected, load_balance=False))
    for value in drawing.images[-draw(st.integers(1, 3)) :]:
        if not value.opened:
            drawing.add("Save", image=value.link)
    return drawing.prompt


class ByHand:
    """What each node gives in each share, and what each target saves: written down, not planned."""

    def __init__(self, prompt: dict[str, Any], targets: list[str]) -> None:
        self._prompt = prompt
        self._known: dict[tuple[str, int], Any] = {}
        needed = set(targets)
        for node_id in sorted(prompt, key=int, reverse=True):
            if node_id in needed:
                needed.update(self._sources(node_id))
        self._needed = needed

    def saves(self, target: str) -> list[int]:
        shares = range(SHARES) if self._differs(target) else (0,)
        return [item for share in shares for item in self.value(target, share)]

    def value(self, node_id: str, share: int) -> Any:
        share = share if self._differs(node_id) else 0
        if (node_id, share) not in self._known:
            self._known[node_id, share] = self._made(node_id, share)
        return self._known[node_id, share]

    def _made(self, node_id: str, share: int) -> Any:
        class_type, inputs = self._prompt[node_id]["class_type"], self._prompt[node_id]["inputs"]
        if class_type == COLLECTOR:
            return [item for each in range(SHARES) for item in self.value(inputs["images"][0], each)]
        made = {name: self.value(each[0], share) if is_link(each) else each for name, each in inputs.items()}
        if class_type in OPENERS or class_type in CLOSERS:
            return made["input"]
        if class_type == SEED:
            made["share"] = share
        return ordinary(class_type, made)

    def _differs(self, node_id: str) -> bool:
        """Whether the node is executed for each share."""
        if self._prompt[node_id]["class_type"] == COLLECTOR:
            return False
        sources = self._sources(node_id)
        differing = [each for each in sources if self._differs(each)]
        if self._leads_to_a_collector(node_id):
            return bool(differing) or self._prompt[node_id]["class_type"] == SEED
        if (opener := self._opener(node_id)) is not None and not self._leads_to_a_collector(opener):
            return False
        # It hangs on what differs, and follows no collector that that does not follow.
        return any(self._behind(node_id) == self._behind(each) for each in differing)

    def _opener(self, node_id: str) -> str | None:
        """What opens the region that the node is in: there are none inside each other."""
        class_type = self._prompt[node_id]["class_type"]
        if class_type in OPENERS:
            return node_id
        if class_type in (*CLOSERS, COLLECTOR):
            return None
        return next(filter(None, map(self._opener, self._sources(node_id))), None)

    def _behind(self, node_id: str) -> int:
        """How many collectors come one after another before it."""
        sources = self._sources(node_id)
        return max(
            (self._behind(each) + (self._prompt[each]["class_type"] == COLLECTOR) for each in sources), default=0
        )

    def _leads_to_a_collector(self, node_id: str) -> bool:
        takers = [each for each in self._needed if node_id in self._sources(each)]
        return any(
            self._prompt[each]["class_type"] == COLLECTOR or self._leads_to_a_collector(each) for each in takers
        )

    def _sources(self, node_id: str) -> list[str]:
        return [each[0] for each in self._prompt[node_id]["inputs"].values() if is_link(each)]


@settings(max_examples=150, deadline=None)
@given(graphs(), st.integers(0, 2**32))
def test_every_share_has_its_own_seed_and_collectors_have_all(prompt: dict[str, Any], seed: int) -> None:
    targets = targets_of(prompt)
    before = copy.deepcopy(prompt)
    planned = plan(prompt, NODES, targets)
    assert prompt == before
    assert planned is not None
    by_hand = ByHand(prompt, targets)
    saved = executed(planned, seed)
    assert {target: saved.get(target) for target in targets} == {each: by_hand.saves(each) for each in targets}
    assert restore(planned.prompt) == prompt
    assert plan(planned.prompt, NODES, planned.targets) == planned
    event(f"{min(len(layouts(planned)), 4)} regions")


def layouts(planned: Planned) -> list[Layout]:
    """Of the regions that are executed once for each share."""
    runs = (each for each in planned.prompt.values() if each["class_type"].startswith("ComfyDistRun"))
    found = (Layout.from_json(run["inputs"]["layout"]) for run in runs)
    return [layout for layout in found if layout.shares]


def planned(**nodes: dict[str, Any]) -> Planned:
    found = plan({"load": node("Load", seed=1, size=2), **nodes}, NODES, [])
    assert found is not None
    return found


def collector(source: str, load_balance: Any = False) -> dict[str, Any]:
    return node(COLLECTOR, images=[source, 0], load_balance=load_balance)


SEEDED = {"seed": node(SEED, seed=1), "map": node("Map", image=["load", 0], by=1, whole=["seed", 0])}


def test_what_does_not_differ_is_not_made_by_the_parent() -> None:
    """It comes with the region, and nothing that is executed before it links to it."""
    made = planned(
        **SEEDED, model=node("Model", name=1), collect=collector("map"), save=node("Save", image=["collect", 0])
    )
    (layout,) = layouts(made)
    assert set(layout.carried) == {"load"}
    assert layout.links == {}
    assert layout.differing == ("seed",)
    assert not [name for name in made.prompt[layout.run]["inputs"] if name.startswith("in_")]


def test_a_collector_without_a_seed_is_a_region_too() -> None:
    (layout,) = layouts(planned(collect=collector("load"), save=node("Save", image=["collect", 0])))
    assert (layout.members, layout.carried) == ((), ("load",))


@pytest.mark.parametrize(("one", "other", "balanced"), [(True, False, True), (False, False, False)])
def test_one_collectors_word_balances_its_region(one: bool, other: bool, balanced: bool) -> None:
    (layout,) = layouts(
        planned(
            **SEEDED,
            a=collector("map", one),
            b=collector("map", other),
            save=node("Save", image=["a", 0]),
            save2=node("Save", image=["b", 0]),
        )
    )
    assert layout.balanced is balanced
    assert set(layout.closers) == {"a", "b"}


def test_collectors_that_share_nothing_have_regions_of_their_own() -> None:
    seed2 = {"seed2": node(SEED, seed=2), "map2": node("Map", image=["load", 0], by=1, whole=["seed2", 0])}
    made = planned(
        **SEEDED,
        **seed2,
        a=collector("map", True),
        b=collector("map2"),
        save=node("Save", image=["a", 0]),
        save2=node("Save", image=["b", 0]),
    )
    assert [(set(each.closers), each.balanced) for each in layouts(made)] == [({"a"}, True), ({"b"}, False)]


def test_a_seed_before_no_collector_is_left_alone() -> None:
    prompt = {"load": node("Load", seed=1, size=2), **SEEDED, "save": node("Save", image=["map", 0])}
    assert plan(prompt, NODES, []) is None


def test_a_collector_inside_of_a_divided_batch_is_refused() -> None:
    with pytest.raises(
        RegionError, match=r"collects from inside of a region that node out \(ClusterFanOutImage\)"
    ) as told:
        planned(
            out=node(FAN_OUT, input=["load", 0]), collect=collector("out"), save=node("Save", image=["collect", 0])
        )
    assert told.value.node_id == "collect"


def test_a_batch_divided_before_no_collector_is_divided_once_with_the_parents_seed() -> None:
    made = planned(
        **SEEDED,
        collect=collector("map"),
        save=node("Save", image=["collect", 0]),
        out=node(FAN_OUT, input=["load", 0]),
        work=node("Map", image=["out", 0], by=1, whole=["seed", 0]),
        **{"in": node(FAN_IN, input=["work", 0])},
        after=node("Save", image=["in", 0]),
    )
    divided = made.prompt["out.region"]
    assert not Layout.from_json(divided["inputs"]["layout"]).shares
    assert ["seed", 0] in divided["inputs"].values()
    assert not any(each.outputs for each in layouts(made)), "what follows it is executed once"


def test_what_follows_a_collector_is_divided_together_with_what_hangs_on_a_seed() -> None:
    made = planned(
        **SEEDED,
        collect=collector("map"),
        out=node(FAN_OUT, input=["collect", 0]),
        out2=node(FAN_OUT, input=["map", 0]),
        both=node("Zip", image=["out", 0], other=["out2", 0]),
        **{"in": node(FAN_IN, input=["both", 0])},
        save=node("Save", image=["in", 0]),
    )
    layout = Layout.from_json(made.prompt["out.region"]["inputs"]["layout"])
    assert set(layout.openers) == {"out", "out2"}
    assert not layout.shares


def test_what_follows_a_collector_takes_no_part_of_what_each_share_divides() -> None:
    with pytest.raises(
        RegionError, match=r"add \(Zip\) takes a part of what node out \(ClusterFanOutImage\) divides"
    ) as told:
        planned(
            **SEEDED,
            out=node(FAN_OUT, input=["map", 0]),
            **{"in": node(FAN_IN, input=["out", 0])},
            collect=collector("in"),
            add=node("Zip", image=["collect", 0], other=["out", 0]),
            save=node("Save", image=["add", 0]),
        )
    assert told.value.node_id == "add"
