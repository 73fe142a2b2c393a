"""Toy graphs over lists of numbers, executed as one worker does, and as a planned prompt is by many.

A batch is a list of items. What every node makes of an item depends on all that the node is given, so that two
results are equal only if every node got the same.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from comfy_dist.calls.classes import CLOSERS, COLLECTED, COLLECTOR, HELD, OPENERS, RUNS, SEED
from comfy_dist.calls.clones import carry, chunk_prefix, clone, rank_prompt
from comfy_dist.calls.layout import Layout
from comfy_dist.calls.links import Link, is_link

FAN_OUT, FAN_IN, GATHER = "ClusterFanOutImage", "ClusterFanInImages", "ClusterGatherImages"
WORK_ITEM = "ClusterGetInstanceWorkItemFromBatch"
#: How often what is before a collector is executed.
SHARES = 3


def _info(*output: str, output_node: bool = False) -> dict[str, Any]:
    return {"output": list(output), "output_node": output_node}


NODES = {
    "Load": _info("IMAGE"),
    "Model": _info("MODEL"),
    "Anything": _info("*"),
    "Map": _info("IMAGE"),
    "Zip": _info("IMAGE"),
    "Sum": _info("INT"),
    "Flatten": _info("IMAGE"),
    "Save": _info(output_node=True),
    "SaveAndPass": _info("IMAGE", output_node=True),
    "ClusterInfo": _info("INT", "INT", "STRING"),
    "ClusterBroadcastTensor": _info("*"),
    "ClusterListenTensorBroadcast": _info("IMAGE"),
    "ClusterStartSubgraph": _info("IMAGE"),
    "ClusterEndSubgraph": _info("IMAGE"),
    "ClusterUseSubgraph": _info("IMAGE"),
    "ClusterExecuteWorkflow": _info("IMAGE", "*"),
    SEED: _info("INT"),
    COLLECTOR: _info("IMAGE", "AUDIO"),
    COLLECTED: _info("*"),
    "ComfyDistRun": _info("*"),
    "ComfyDistRunAll": _info("*", output_node=True),
    **{name: _info("IMAGE") for name in (*OPENERS, *CLOSERS)},
}


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


class DifferentSizes(Exception):
    """Batches that are to be combined item by item have different sizes."""


def mixed(*values: Any) -> int:
    """A number that depends on each of them, and is the same in every process."""
    result = 7
    for value in values:
        numbers = [len(value), *value] if isinstance(value, (list, tuple)) else [value]
        for number in numbers:
            result = (
                result * 1_000_003 + (mixed(*number) if isinstance(number, (list, tuple)) else int(number))
            ) % (2**61 - 1)
    return result


def ordinary(class_type: str, given: Mapping[str, Any]) -> Any:
    """What a node that is none of ours makes of its inputs."""
    image = given.get("image")
    match class_type:
        case "Load":
            return [mixed(given["seed"], item) for item in range(given["size"])]
        case "Model":
            return ("model", given["name"], given.get("strength", 0))
        case "Anything":
            return given["value"]
        case "Map":
            model = given.get("model", ("model", 0, 0))
            assert model[0] == "model"
            return [mixed(item, given["by"], model[1:], given.get("whole", 0)) for item in image]
        case "Zip":
            if len(given["other"]) != len(image):
                raise DifferentSizes(f"{len(image)} and {len(given['other'])} items")
            return [mixed(one, other) for one, other in zip(image, given["other"], strict=True)]
        case "Sum":
            return mixed(image) % 1000
        case "Flatten":
            return [item for batch in image for item in batch]
        case "DistributedSeed":
            return given["seed"] + given.get("share", 0)
        case "ComfyDistCollected":
            return given["images"]
        case "Save" | "SaveAndPass" | "ClusterBroadcastTensor" | "ClusterStartSubgraph" | "ClusterEndSubgraph":
            return image if "image" in given else given["input"]
    raise AssertionError(f"no toy {class_type}")


def as_one_worker(prompt: Mapping[str, Any], targets: list[str]) -> dict[str, list[int]]:
    """What each target saves where nothing is planned: opening and closing nodes hand on what they get."""
    known: dict[tuple[str, tuple[tuple[str, int], ...]], Any] = {}

    def value_of(link: Link, starts: dict[str, Any]) -> Any:
        node_id = link[0]
        key = (node_id, tuple((start, id(image)) for start, image in sorted(starts.items())))
        if key not in known:
            known[key] = made(node_id, starts)
        return known[key]

    def made(node_id: str, starts: dict[str, Any]) -> Any:
        class_type, inputs = prompt[node_id]["class_type"], prompt[node_id]["inputs"]
        if node_id in starts:
            return starts[node_id]
        given = {name: value_of(each, starts) if is_link(each) else each for name, each in inputs.items()}
        if class_type in OPENERS:
            return given[OPENERS[class_type].input]
        if class_type == GATHER:
            return [given["input"]]
        if class_type in CLOSERS:
            return given["input"]
        if class_type == "ClusterListenTensorBroadcast":
            (source,) = (
                each
                for each, other in prompt.items()
                if other["class_type"] == "ClusterBroadcastTensor"
                and other["inputs"]["channel"] == inputs["channel"]
            )
            return value_of([source, 0], starts)
        if class_type == "ClusterUseSubgraph":
            start, end = piece(prompt, inputs["subgraph_id"])
            return value_of(prompt[end]["inputs"]["image"], {**starts, start: given["image"]})
        return ordinary(class_type, given)

    return {target: value_of([target, 0], {}) for target in targets}


def piece(prompt: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Start and End of a subgraph; toy graphs name the End by it."""
    (start,) = (
        each
        for each, other in prompt.items()
        if other["class_type"] == "ClusterStartSubgraph" and other["inputs"]["subgraph_id"] == name
    )
    return start, f"{start}.end"


@dataclass
class Machine:
    """An engine that executes planned prompts, and the cluster around it, which shares regions out by chance."""

    nodes: dict[str, Any]
    rng: random.Random
    #: {unique id: {"saved": […]}} and what ComfyUI tells about each, of this engine.
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    meta: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Of the calls that it sent.
    called: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    def execute(self, targets: Any) -> None:
        for target in targets:
            self.value_of([target, 0])

    def value_of(self, link: Link) -> Any:
        node_id, slot = link
        if node_id not in self.values:
            self.values[node_id] = self._execute(node_id)
        value = self.values[node_id]
        return value[slot] if self.nodes[node_id]["class_type"] in RUNS and value else value

    def add(self, graph: Mapping[str, Any]) -> None:
        """An expansion: engines execute every output node in it."""
        self.nodes.update(json.loads(json.dumps(graph)))
        for node_id, each in graph.items():
            if NODES.get(each["class_type"], {}).get("output_node"):
                self.value_of([node_id, 0])

    def hold(self, name: str, value: Any) -> Link:
        """A node that gives a value: a slice, or what was received."""
        self.nodes[name] = node("Held value")
        self.values[name] = value
        return [name, 0]

    def _execute(self, node_id: str) -> Any:
        class_type, inputs = self.nodes[node_id]["class_type"], self.nodes[node_id]["inputs"]
        assert class_type != HELD, f"{node_id} is executed where it must only be kept"
        if class_type == COLLECTOR:
            return [item for share in self.value_of(inputs["results"]) for item in share]
        if "results" in inputs:
            return self.value_of(inputs["results"])
        if class_type in RUNS:
            return self._run(node_id, inputs)
        given = {name: self.value_of(each) if is_link(each) else each for name, each in inputs.items()}
        assert class_type not in OPENERS, f"the opening node {node_id} is executed in place"
        value = ordinary(class_type, given)
        if NODES[class_type]["output_node"]:
            display = self.nodes[node_id].get("override_display_id", node_id)
            self.outputs[node_id] = {"saved": list(value), "kind": class_type}
            self.meta[node_id] = {"node_id": node_id, "display_node": display}
        return value

    def _run(self, run_id: str, inputs: Mapping[str, Any]) -> list[Any]:
        layout = Layout.from_json(inputs["layout"])
        assert layout.run == run_id
        values = {name: self.value_of(each) for name, each in inputs.items() if name.startswith("in_")}
        batches = {opener: values[each.input] for opener, each in layout.openers.items()}
        sizes = {len(batch) for batch in batches.values()}
        if len(sizes) > 1:
            raise DifferentSizes(f"{sizes} items at {[*batches]}")
        cuts = self._cuts(layout, sizes.pop() if sizes else 3)
        parts = [self._chunk(layout, values, batches, number, cut) for number, cut in enumerate(cuts)]
        joined = {
            closer: [part[closer] for part in parts]
            if joining == "list"
            else [item for part in parts for item in part[closer]]
            for closer, joining in layout.closers.items()
        }
        return list(joined.values())

    def _cuts(self, layout: Layout, items: int) -> list[tuple[int, int]]:
        """The chunks of a region: for ranks as torch.tensor_split cuts, otherwise anywhere."""
        if layout.shares:
            return [(share, share + 1) for share in range(SHARES)]
        if layout.ranked:
            world = self.rng.randint(1, 4)
            ends = [rank * (items // world) + min(rank, items % world) for rank in range(world + 1)]
        else:
            ends = sorted({0, items, *(self.rng.randint(0, items) for _ in range(self.rng.randint(0, 3)))})
            ends = ends if items else [0, 0]
        return list(pairwise(ends))

    def _chunk(
        self, layout: Layout, values: dict[str, Any], batches: dict[str, Any], number: int, cut: tuple[int, int]
    ) -> dict[str, Any]:
        slices = {opener: batch[slice(*cut)] for opener, batch in batches.items()}
        if self.rng.random() < 0.5:
            return self._work(layout, number, slices, lambda name, link: link, lambda link: link)
        staying = {name for name, value in values.items() if isinstance(value, tuple)}
        prompt = json.loads(json.dumps(rank_prompt(layout, self.nodes.__getitem__, "rank", staying)))
        other = Machine(prompt, self.rng)
        result = other.help(Layout.from_json(prompt["rank"]["inputs"]["layout"]), number, slices, values, staying)
        self.called += [(other.outputs, other.meta), *other.called]
        return result

    def help(
        self, layout: Layout, number: int, slices: dict[str, Any], values: dict[str, Any], staying: set[str]
    ) -> dict[str, Any]:
        """One chunk of another machine's region."""

        def received(name: str, link: Link) -> Link:
            return self.hold(f"{layout.run}.value.{name}", json.loads(json.dumps(values[name])))

        carried = carry(layout, self.nodes.__getitem__, received, staying)

        def value(name: str, link: Link) -> Link:
            return carried.link(link) if name in staying else received(name, link)

        self.add(carried.graph)
        return self._work(layout, number, slices, value, carried.link)

    def _work(
        self,
        layout: Layout,
        number: int,
        slices: dict[str, Any],
        value: Callable[[str, Link], Link],
        carried: Callable[[Link], Link],
    ) -> dict[str, Any]:
        machine = self
        prefix = chunk_prefix(layout.run, number)

        class Here:
            def opener(self, node_id: str) -> Link:
                return machine.hold(f"{layout.run}.slice.{number}.{node_id}", slices[node_id])

            def info(self, node_id: str, slot: int) -> Link:
                return machine.hold(f"{layout.run}.info.{number}.{slot}", number if slot == 0 else -1)

            def differing(self, node_id: str) -> dict[str, int]:
                return {"share": number}

            def value(self, name: str, link: Link) -> Link:
                return value(name, link)

            def carried(self, link: Link) -> Link:
                return carried(link)

        node_of = self.nodes.__getitem__
        clones = clone(layout, node_of, prefix, Here())
        assert clones == clone(layout, node_of, prefix, Here()), "clones are deterministic"
        self.add(clones.graph)
        for link in clones.after:
            assert link[0] in self.values, "an output node inside was executed"
        return {closer: self.value_of(link) for closer, link in clones.results.items()}
