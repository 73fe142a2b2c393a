"""Whole workflows as calls send them: what of a prompt is changed before another worker executes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from comfy_dist.calls.classes import BROADCASTS, LISTEN
from comfy_dist.calls.links import Link, class_of, inputs_of, is_link, shown_as
from comfy_dist.calls.listens import DEFAULT_CHANNEL
from comfy_dist.calls.unfolding import Unfolded
from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import Peer
from comfy_dist.workflows.folder import canonical

Prompt: TypeAlias = dict[str, dict[str, Any]]

EXECUTE, EXECUTE_CURRENT = "ClusterExecuteWorkflow", "ClusterExecuteCurrentWorkflow"
#: An input of ClusterExecuteWorkflow that only a called workflow has: the names of those around it, a line each.
WITHIN = "within"


#: What the `results` output of the nodes has of each worker: {"worker": name, "outputs": {node: what it showed}}.
Result: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """What is to be executed elsewhere."""

    #: In errors: "The workflow a.json".
    title: str
    prompt: Prompt
    targets: Sequence[str]
    #: Id of the node that asks for it, as clients know it.
    node: str
    #: What the workflow is called with.
    image: Any = None
    #: Where its prompt has values from and hands others to (calls/handoff.py).
    handoff: Peer | None = None

    def call(self, world: int) -> dict[str, Any]:
        """As worker/desk.py wants it, but for whom it is."""
        return {
            "prompt": self.prompt,
            "targets": list(self.targets),
            "world": world,
            "node": self.node,
            "plan": True,
            "handoff": None if self.handoff is None else self.handoff.model_dump(mode="json"),
        }


def shown_by(results: Sequence[Result]) -> dict[str, list[Any]]:
    """What the output nodes of all workers showed, as if one node had: lists are joined, in the workers' order."""
    together: dict[str, list[Any]] = {}
    for result in results:
        for output in result["outputs"].values():
            for key, value in output.items():
                if isinstance(value, list):
                    together.setdefault(key, []).extend(value)
    return together


def gives_way(name: str, waits_for: Mapping[str, Sequence[str]]) -> bool:
    """Whether that worker is the first by name in a circle of workers that wait for each other."""
    reached = list(waits_for.get(name, ()))
    for each in reached:
        # Through workers after it alone: of every circle exactly the first finds one.
        reached += [other for other in waits_for.get(each, ()) if each > name and other not in reached]
    return name in reached


class ExecutesItself(ComfyDistError):
    """A saved workflow that executes itself, directly or through others."""


class CallsBack(ComfyDistError):
    """What was called is to wait for workers that wait for it."""

    def __init__(self, title: str, whom: str, instead: str) -> None:
        super().__init__(
            f"{title} cannot be executed on {whom} from here: what asks for that was itself called by another "
            f"worker, which waits for it, and they would wait for each other. {instead}"
        )


def refuse_all_others(title: str) -> None:
    """Raises CallsBack. Of all others some wait for what was called; and if they were left out, it would be a
    matter of chance who is called."""
    raise CallsBack(title, "all others", "Set the node's target to any, or put it into the prompt that is queued.")


def without_execute_current(prompt: Mapping[str, Any]) -> Prompt:
    """The prompt as if nodes that execute the current workflow only passed their image through.

    So what is called calls nobody again, and there is no end to nothing.
    """
    passing = {node_id for node_id, node in prompt.items() if class_of(node) == EXECUTE_CURRENT}
    return {
        node_id: {
            **node,
            "inputs": {name: _passed(prompt, passing, each) for name, each in inputs_of(node).items()},
        }
        for node_id, node in prompt.items()
        if node_id not in passing
    }


def _passed(prompt: Mapping[str, Any], passing: set[str], value: Any) -> Any:
    seen: set[str] = set()
    while is_link(value) and value[0] in passing:
        # In a circle of these alone nothing comes from anywhere.
        if value[1] != 0 or value[0] in seen:
            return {"__value__": []}
        seen.add(value[0])
        value = inputs_of(prompt[value[0]]).get("image", {"__value__": []})
    return value


def listeners(prompt: Mapping[str, Any]) -> frozenset[str]:
    """The nodes that wait for the image which the workflow is called with.

    They listen on the default channel, and nothing in the workflow itself broadcasts on that.
    """

    def on_default(node: Any) -> bool:
        return bool(inputs_of(node).get("channel", DEFAULT_CHANNEL) == DEFAULT_CHANNEL)

    if any(class_of(node) in BROADCASTS and on_default(node) for node in prompt.values()):
        return frozenset()
    return frozenset(node_id for node_id, node in prompt.items() if class_of(node) == LISTEN and on_default(node))


def tuned_to(channel: str, prompt: Mapping[str, Any]) -> Prompt:
    """The prompt whose listeners listen on that channel."""
    return _with_inputs(prompt, listeners(prompt), {"channel": channel})


def within(prompt: Mapping[str, Any], names: tuple[str, ...]) -> Prompt:
    """The prompt of the last of these workflows, each called by the one before: what it calls knows of them."""
    executing = frozenset(node_id for node_id, node in prompt.items() if class_of(node) == EXECUTE)
    return _with_inputs(prompt, executing, {WITHIN: "\n".join(names)})


def called_within(inputs: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The workflows that the one of this name is called within, itself last. Raises ExecutesItself."""
    around = inputs.get(WITHIN)
    names = tuple(around.split("\n")) if isinstance(around, str) else ()
    name = canonical(name)
    if name in names:
        raise ExecutesItself(
            f"The workflow {name} executes itself ({' → '.join((*names, name))}); "
            "take the node that does out of one of them."
        )
    return (*names, name)


def in_place(prompt: Mapping[str, Any], targets: Sequence[str], prefix: str, image: Any, *, shown: bool) -> Prompt:
    """What the targets need, as an expansion of the node that was to call it: ids begin with the prefix, and its
    listeners are replaced by `image`, the link that brings the node its image.

    `shown`: the prompt's nodes are those that clients see, so what is executed is shown under them. Raises
    RegionError for subgraphs and channels that are not as they should be.
    """
    unfolded = Unfolded(prompt, targets)
    given = listeners(prompt)

    def relinked(value: Any) -> Any:
        if not is_link(value):
            return value
        return image if value[0] in given else _prefixed(prefix, value)

    return {
        f"{prefix}.{node_id}": {
            "class_type": node["class_type"],
            "inputs": {name: relinked(value) for name, value in inputs_of(node).items()},
            **({"override_display_id": shown_as(node_id, node)} if shown else {}),
        }
        for node_id, node in unfolded.nodes.items()
        if node_id in unfolded.needed and node_id not in given
    }


def _prefixed(prefix: str, link: Link) -> Link:
    return [f"{prefix}.{link[0]}", link[1]]


def _with_inputs(prompt: Mapping[str, Any], nodes: frozenset[str], inputs: Mapping[str, Any]) -> Prompt:
    return {
        node_id: {**node, "inputs": {**inputs_of(node), **inputs}} if node_id in nodes else node
        for node_id, node in prompt.items()
    }
