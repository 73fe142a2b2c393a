"""Workflows as the page saves them, small, one for each thing that makes the conversion hard."""

from __future__ import annotations

import copy
from typing import Any

MUTED, BYPASSED = 2, 4
_TYPES = {"EmptyImage": ("IMAGE",), "WidgetsOfAllKinds": ("IMAGE", "INT"), "ImageInvert": ("IMAGE",)}
_TYPES |= {"SaveImage": (), "Reroute": ("*",), "PrimitiveNode": ("INT",), "PrimitiveInt": ("INT",)}
_TYPES |= {
    "ForcedInput": ("INT",),
    "Note": (),
    "MarkdownNote": (),
    "ImageBatch": ("IMAGE",),
    "LoadImage": ("IMAGE", "MASK"),
}


class Canvas:
    """A graph drawn by code."""

    def __init__(self) -> None:
        self.nodes: dict[int, dict[str, Any]] = {}
        self.links: list[list[Any]] = []

    def node(
        self, id_: int, type_: str, *values: Any, mode: int = 0, title: str = "", outputs: Any = None
    ) -> Canvas:
        types = _TYPES[type_] if outputs is None else outputs
        self.nodes[id_] = {
            "id": id_,
            "type": type_,
            "pos": [300 * (id_ % 5), 200 * (id_ // 5)],
            "size": [240, 120],
            "flags": {},
            "order": id_,
            "mode": mode,
            "inputs": [],
            "outputs": [{"name": each, "type": each, "links": []} for each in types],
            "properties": {},
            "widgets_values": list(values),
        } | ({"title": title} if title else {})
        return self

    def slot(self, id_: int, name: str, type_: str, *, widget: bool = False, link: int | None = None) -> Canvas:
        extra = {"widget": {"name": name}} if widget else {}
        self.nodes[id_]["inputs"].append({"name": name, "type": type_, "link": link, **extra})
        return self

    def link(self, origin: int, slot: int, target: int, name: str, type_: str, *, widget: bool = False) -> Canvas:
        number = len(self.links) + 1
        inputs = self.nodes[target]["inputs"] if target in self.nodes else []
        at = next((index for index, each in enumerate(inputs) if each["name"] == name), len(inputs))
        if at == len(inputs):
            self.slot(target, name, type_, widget=widget)
        inputs[at]["link"] = number
        if origin in self.nodes:
            self.nodes[origin]["outputs"][slot]["links"].append(number)
        self.links.append([number, origin, slot, target, at, type_])
        return self

    def workflow(self, **extra: Any) -> dict[str, Any]:
        return copy.deepcopy(
            {
                "last_node_id": max(self.nodes),
                "last_link_id": len(self.links),
                "nodes": list(self.nodes.values()),
                "links": self.links,
                "groups": [],
                "config": {},
                "extra": {},
                "version": 0.4,
                **extra,
            }
        )

    def subgraph(self, id_: str, inputs: list[tuple[str, str]], outputs: list[tuple[str, str]]) -> dict[str, Any]:
        """As a definition; links from -10 are its inputs, those to -20 its outputs."""
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")

        def ends(slots: list[tuple[str, str]], column: int, border: int) -> list[dict[str, Any]]:
            return [
                {
                    "id": f"{id_[:-2]}{border % 7}{slot}",
                    "name": name,
                    "type": type_,
                    "linkIds": [
                        link[0] for link in self.links if link[column] == border and link[column + 1] == slot
                    ],
                    "pos": [0, 0],
                }
                for slot, (name, type_) in enumerate(slots)
            ]

        return copy.deepcopy(
            {
                "id": id_,
                "version": 1,
                "state": {"lastGroupId": 0, "lastNodeId": 90, "lastLinkId": 90, "lastRerouteId": 0},
                "revision": 0,
                "config": {},
                "name": "Inner",
                "inputNode": {"id": -10, "bounding": [-200, 0, 120, 60]},
                "outputNode": {"id": -20, "bounding": [900, 0, 120, 60]},
                "inputs": ends(inputs, 1, -10),
                "outputs": ends(outputs, 3, -20),
                "widgets": [],
                "nodes": list(self.nodes.values()),
                "groups": [],
                "links": [dict(zip(names, link, strict=True)) for link in self.links],
                "extra": {},
            }
        )


KINDS = (7, "randomize", 30, "second", "a text", 9, "increment", 0.25, False)


def widgets() -> dict[str, Any]:
    """Seeds with their controls, widgets that became inputs, a forced one."""
    canvas = Canvas().node(1, "EmptyImage", 64, 32, 1, 255).node(2, "PrimitiveInt", 42, "fixed")
    canvas.node(3, "WidgetsOfAllKinds", *KINDS, title="Everything").node(4, "SaveImage", "kinds")
    canvas.node(5, "ForcedInput", 5).link(2, 0, 5, "forced", "INT").link(1, 0, 3, "image", "IMAGE")
    return canvas.link(5, 0, 3, "steps", "INT", widget=True).link(3, 0, 4, "images", "IMAGE").workflow()


def objects() -> dict[str, Any]:
    """Links as objects."""
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    workflow = widgets()
    workflow["links"] = [dict(zip(names, link, strict=True)) for link in workflow["links"]]
    return workflow | {
        "version": 1,
        "state": {"lastGroupId": 0, "lastNodeId": 9, "lastLinkId": 9, "lastRerouteId": 0},
    }


def virtual() -> dict[str, Any]:
    """What exists on the page only: reroutes, primitives, notes."""
    canvas = Canvas().node(1, "EmptyImage", 64, 32, 1, 255).node(2, "Reroute").node(3, "Reroute")
    canvas.node(5, "SaveImage", "virtual").node(6, "PrimitiveNode", 128, "fixed").node(7, "Note", "read me")
    canvas.node(8, "MarkdownNote", "# read me")
    canvas.link(6, 0, 1, "width", "INT", widget=True)
    return canvas.link(1, 0, 2, "", "*").link(2, 0, 3, "", "*").link(3, 0, 5, "images", "IMAGE").workflow()


def modes() -> dict[str, Any]:
    """Muted and bypassed nodes in the way of links."""
    canvas = Canvas().node(1, "EmptyImage", 64, 32, 1, 255).node(2, "ImageInvert", mode=BYPASSED)
    canvas.node(3, "SaveImage", "past the bypassed").node(4, "ImageInvert", mode=MUTED)
    canvas.node(5, "SaveImage", "behind the muted").node(6, "WidgetsOfAllKinds", *KINDS, mode=BYPASSED)
    canvas.node(7, "SaveImage", "past widgets").node(8, "SaveImage", "muted itself", mode=MUTED)
    canvas.link(1, 0, 2, "image", "IMAGE").link(2, 0, 3, "images", "IMAGE").link(1, 0, 4, "image", "IMAGE")
    canvas.link(4, 0, 5, "images", "IMAGE").link(2, 0, 6, "image", "IMAGE").link(6, 0, 7, "images", "IMAGE")
    return canvas.link(1, 0, 8, "images", "IMAGE").workflow()


INNER = "11111111-1111-4111-8111-111111111111"
OUTER = "22222222-2222-4222-8222-222222222222"


def _inner() -> dict[str, Any]:
    # The page numbers nodes anew whose ids occur twice in a file.
    canvas = Canvas().node(11, "WidgetsOfAllKinds", *KINDS).node(12, "ImageInvert")
    canvas.link(-10, 0, 11, "image", "IMAGE").link(-10, 1, 11, "steps", "INT", widget=True)
    canvas.link(-10, 2, 11, "text", "STRING", widget=True).link(11, 0, 12, "image", "IMAGE")
    canvas.links.append([5, 12, 0, -20, 0, "IMAGE"])
    canvas.nodes[12]["outputs"][0]["links"].append(5)
    return canvas.subgraph(INNER, [("image", "IMAGE"), ("steps", "INT"), ("text", "STRING")], [("IMAGE", "IMAGE")])


def _instance(canvas: Canvas, id_: int, type_: str, *values: Any, mode: int = 0) -> Canvas:
    canvas.node(id_, type_, *values, mode=mode, outputs=("IMAGE",)).slot(id_, "image", "IMAGE")
    return canvas.slot(id_, "steps", "INT", widget=True).slot(id_, "text", "STRING", widget=True)


def subgraphs() -> dict[str, Any]:
    """Two instances of one subgraph: with a linked input and with values of its own."""
    canvas = Canvas().node(1, "EmptyImage", 64, 32, 1, 255).node(2, "PrimitiveInt", 42, "fixed")
    _instance(_instance(canvas, 3, INNER, 5, "mine"), 4, INNER, 6, "yours")
    canvas.node(5, "SaveImage", "inner").link(1, 0, 3, "image", "IMAGE").link(3, 0, 4, "image", "IMAGE")
    canvas.link(2, 0, 4, "steps", "INT", widget=True).link(4, 0, 5, "images", "IMAGE")
    return canvas.workflow(definitions={"subgraphs": [_inner()]})


def nested() -> dict[str, Any]:
    """A subgraph inside a subgraph, and a bypassed instance."""
    outer = _instance(Canvas(), 7, INNER, 8, "deep")
    outer.link(-10, 0, 7, "image", "IMAGE").link(-10, 1, 7, "text", "STRING", widget=True)
    outer.links.append([3, 7, 0, -20, 0, "IMAGE"])
    outer.nodes[7]["outputs"][0]["links"].append(3)
    definition = outer.subgraph(OUTER, [("image", "IMAGE"), ("words", "STRING")], [("IMAGE", "IMAGE")])
    canvas = Canvas().node(1, "EmptyImage", 64, 32, 1, 255).node(2, OUTER, "from above", outputs=("IMAGE",))
    canvas.slot(2, "image", "IMAGE").slot(2, "words", "STRING", widget=True)
    _instance(canvas, 3, INNER, 5, "skipped", mode=BYPASSED).node(4, "SaveImage", "nested")
    canvas.link(1, 0, 2, "image", "IMAGE").link(2, 0, 3, "image", "IMAGE").link(3, 0, 4, "images", "IMAGE")
    return canvas.workflow(definitions={"subgraphs": [_inner(), definition]})


ALL = (widgets, objects, virtual, modes, subgraphs, nested)
