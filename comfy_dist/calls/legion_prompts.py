"""A saved workflow with Legion's Importer and Exporter as it is executed for a Master: what is given comes from
`ComfyDistReceived` nodes, what is exported goes to one that hands it back. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from comfy_dist.calls.classes import HAND, RECEIVED
from comfy_dist.calls.links import Link, class_of, inputs_of, is_link, links_of
from comfy_dist.calls.sent_workflows import Prompt, in_place
from comfy_dist.errors import ComfyDistError

IMPORTER, EXPORTER = "LegionImporter", "LegionExporter"
#: In the place of the one that hands back, where the Master executes the workflow itself (nodes/legion/hidden.py).
KEPT = "ComfyDistKept"
#: As many as a Master has at most.
CHANNELS = range(1, 13)
#: The output of an Importer between channels 5 and 6, and what it gives: nothing is exchanged through files.
ROOT_SLOT, ROOT = 5, "legion"


class NoBridge(ComfyDistError):
    """A workflow that takes nothing, or gives nothing back."""


def channel_of(slot: int) -> int:
    """The channel that an Importer's output of that number gives."""
    return slot + 1 if slot < ROOT_SLOT else slot


def imported(prompt: Mapping[str, Any]) -> set[int]:
    """The channels that the workflow takes from its Importers."""
    importers = _of_class(prompt, IMPORTER)
    links = (link for node in prompt.values() for _, link in links_of(node))
    return {channel_of(int(slot)) for source, slot in links if source in importers and int(slot) != ROOT_SLOT}


def check(prompt: Mapping[str, Any], given: Sequence[int], title: str) -> None:
    """Raises NoBridge where the workflow cannot take what is given, or gives nothing back."""
    if given and not _of_class(prompt, IMPORTER):
        raise NoBridge(f"{title} has no Legion Importer, so it cannot take input_{min(given)}; add one to it.")
    if not (exporters := _of_class(prompt, EXPORTER)):
        raise NoBridge(f"{title} has no Legion Exporter, so it gives nothing back; add one to it.")
    exported: dict[str, str] = {}
    for node_id in exporters:
        for name in _exported(prompt[node_id]):
            if name in exported:
                raise NoBridge(
                    f"{title} exports {name} twice, at nodes {exported[name]} and {node_id}; use another channel."
                )
            exported[name] = node_id


def bridged(
    prompt: Mapping[str, Any], targets: Sequence[str], contents: Mapping[int, str]
) -> tuple[Prompt, list[str]]:
    """The prompt without Importers and Exporters, and its targets, the node that hands back the first of them.

    `contents`: of each channel in `imported`, what its value is received by.
    """
    importers, exporters = _of_class(prompt, IMPORTER), _of_class(prompt, EXPORTER)
    received = {channel: _fresh(prompt, f"legion.input_{channel}") for channel in contents}

    def relinked(value: Any) -> Any:
        if not (is_link(value) and value[0] in importers):
            return value
        slot = int(value[1])
        return ROOT if slot == ROOT_SLOT else [received[channel_of(slot)], 0]

    exported = {name: value for each in exporters for name, value in _exported(prompt[each]).items()}
    values = {f"value_{number}": relinked(value) for number, value in enumerate(exported.values())}
    hand = _fresh(prompt, "legion.outputs")
    kept = {
        node_id: {**node, "inputs": {name: relinked(value) for name, value in inputs_of(node).items()}}
        for node_id, node in prompt.items()
        if node_id not in importers and node_id not in exporters
    }
    given = {
        node_id: {"class_type": RECEIVED, "inputs": {"content": contents[channel]}}
        for channel, node_id in received.items()
    }
    handing = {"class_type": HAND, "inputs": {"names": json.dumps(list(exported)), **values}}
    return {**kept, **given, hand: handing}, [hand, *(each for each in targets if each not in exporters)]


def expansion(
    prompt: Mapping[str, Any], targets: Sequence[str], prefix: str, campaign: str
) -> tuple[Prompt, dict[int, Link]]:
    """What was `bridged`, as an expansion of the node that is to execute it itself, and its outputs by channel."""
    hand = targets[0]
    inputs = inputs_of(prompt[hand])
    keeping = {"class_type": KEPT, "inputs": {**inputs, "campaign": campaign}}
    graph = in_place({**prompt, hand: keeping}, targets, prefix, None, shown=False)
    names: list[str] = json.loads(inputs["names"])
    return graph, {_number(name): [f"{prefix}.{hand}", place] for place, name in enumerate(names)}


def _number(name: str) -> int:
    return int(name.removeprefix("input_"))


def by_channel(handed: Mapping[str, Any]) -> dict[int, list[Any]]:
    """What was handed back by the Exporter's inputs."""
    return {_number(name): values for name, values in handed.items()}


def _of_class(prompt: Mapping[str, Any], class_type: str) -> list[str]:
    return [node_id for node_id, node in prompt.items() if class_of(node) == class_type]


def _exported(exporter: Any) -> dict[str, Any]:
    """What an Exporter takes, by the names of its channels."""
    inputs = inputs_of(exporter)
    return {name: inputs[name] for name in (f"input_{each}" for each in CHANNELS) if name in inputs}


def _fresh(prompt: Mapping[str, Any], node_id: str) -> str:
    while node_id in prompt:
        node_id += "'"
    return node_id
