"""What another ComfyUI executes for a queue node of the Remote family: the prompt without that family. Pure.

What a queue node gives there is known when it is sent, so numbers take the place of its links, and an image node
that of what would have fetched it. So the other one needs no node of ours.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from comfy_dist.calls.classes import HAND
from comfy_dist.calls.links import Link, Node, class_of, inputs_of, is_link, links_of, natural
from comfy_dist.errors import ComfyDistError

Prompt: TypeAlias = dict[str, Node]

SIMPLE, FETCH = "RemoteQueueSimple", "FetchRemote"
CHAIN_START, CHAIN_WORKER, CHAIN_END = "RemoteChainStart", "RemoteQueueWorker", "RemoteChainEnd"
QUEUES = frozenset({SIMPLE, CHAIN_WORKER})
#: Links to these may stand for something else.
_STANDING_FOR = frozenset({SIMPLE, FETCH, CHAIN_END})
#: Where a workflow that fetches nothing has its images.
_SHOWING = frozenset({"SaveImage", "PreviewImage"})
#: Seeds are numbers below this.
SEEDS = 2**64
#: Images that RemoteQueueSimple makes at most on its remote; where their number is linked, it is taken for this.
MOST_IMAGES = 8

#: A link that no node of the family stands behind.
_HERE = object()


class NothingToFetch(ComfyDistError):
    """A workflow in which nothing gives the images that are to be fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """What the images and the other output nodes need."""

    prompt: Prompt
    #: FetchRemote -> what makes its images.
    images: Mapping[str, Link]
    #: Output nodes that are executed beside.
    outputs: tuple[str, ...]


def fetches_of(prompt: Mapping[str, Any], queue: str) -> tuple[str, ...]:
    """The FetchRemotes that are linked to that queue node."""
    return tuple(
        node_id
        for node_id, node in prompt.items()
        if class_of(node) == FETCH and _linked(node, "remote_info") == queue
    )


def for_remote(
    prompt: Mapping[str, Any],
    queue: str,
    fetches: Sequence[str],
    *,
    seed: int,
    batch: int,
    outputs: Iterable[str] = (),
) -> Rewritten:
    """The prompt with what the queue node gives on its remote, for the images of these FetchRemotes.

    Other queue nodes give what they give on the prompt's own machine, and FetchRemotes what they are given there.
    `outputs`: output nodes to keep; those that need what is fetched are left out all the same. A prompt of other
    ids, saved once, gives what its last FetchRemote fetches, or its last image node shows. Raises NothingToFetch.
    """
    aliases = _Aliases(prompt, queue, seed, batch)
    images = {fetch: _image(prompt, fetch, aliases) for fetch in fetches}
    kept = _without_followers(prompt, outputs)
    made: Prompt = {}
    waiting = [link[0] for link in images.values()] + kept
    for node_id in waiting:
        node = prompt.get(node_id)
        if node_id in made or node is None or not (name := class_of(node)):
            continue
        inputs = {}
        for key, value in inputs_of(node).items():
            inputs[key] = further = aliases.behind(value) if isinstance(value, list) else value
            if isinstance(further, list) and is_link(further):
                waiting.append(further[0])
        if name in QUEUES:
            inputs["enabled"] = "false"
        # And nothing else: ComfyUI adds to nodes what is nobody else's.
        made[node_id] = {"class_type": name, "inputs": inputs}
        if "_meta" in node:
            made[node_id]["_meta"] = node["_meta"]
    return Rewritten(prompt=made, images=images, outputs=tuple(kept))


def showing(rewritten: Rewritten) -> tuple[Prompt, dict[str, str]]:
    """The prompt with an image node for each FetchRemote, and the ids of these."""
    return _marked(rewritten, lambda _, image: {"class_type": "PreviewImage", "inputs": {"images": image}})


def handing(rewritten: Rewritten) -> tuple[Prompt, dict[str, str]]:
    """The prompt as a call, which hands each FetchRemote's images back by its id, and who hands them."""

    def hand(fetch: str, image: Link) -> Node:
        return {"class_type": HAND, "inputs": {"names": json.dumps([fetch]), "value_0": image}}

    return _marked(rewritten, hand)


def is_wanted(prompt: Mapping[str, Any], nodes: Collection[str], targets: Iterable[str]) -> bool:
    """Whether the targets need one of these nodes."""
    reached = dict.fromkeys(targets)
    waiting = list(reached)
    for node_id in waiting:
        if node_id in nodes:
            return True
        new = [link[0] for _, link in links_of(prompt.get(node_id)) if link[0] not in reached]
        reached |= dict.fromkeys(new)
        waiting += new
    return False


def images_before(prompt: Mapping[str, Any], node_id: str) -> int:
    """How many images the remotes of the queue nodes make that this one has its seed from, one after the other."""
    passed = {node_id}
    images = 0
    while (before := _linked(prompt.get(node_id), "seed")) is not None and before not in passed:
        passed.add(before)
        node_id, node = before, prompt.get(before)
        if class_of(node) != SIMPLE:
            break
        batch = inputs_of(node).get("batch_remote", 1)
        images += batch if isinstance(batch, int) else MOST_IMAGES
    return images


class _Aliases:
    """What links to nodes of the family stand for on the remote of one queue node."""

    def __init__(self, prompt: Mapping[str, Any], queue: str, seed: int, batch: int) -> None:
        self._prompt = prompt
        self._gives = (seed, batch)
        self._known: dict[tuple[str, Any], Any] = {}
        #: Nodes of chains -> the first of their chain.
        self._starts: dict[str, str] = {}
        self._queue = queue if class_of(prompt.get(queue)) in QUEUES else None
        self._standing_for = {node_id for node_id, node in prompt.items() if class_of(node) in _STANDING_FOR}

    def behind(self, value: Any) -> Any:
        """The value, or what it is a link to: another link, a number. Raises NothingToFetch for a circle."""
        if is_link(value) and value[0] not in self._standing_for:
            return value
        passed: dict[tuple[str, Any], None] = {}
        while is_link(value):
            key = value[0], value[1]
            further = self._known[key] if key in self._known else self._given(*key)
            if further is _HERE:
                break
            if key in passed:
                raise NothingToFetch(f"Node {key[0]} fetches what it has fetched itself; remove one of its links.")
            passed[key] = None
            value = further
        self._known |= dict.fromkeys(passed, value)
        return value

    def _given(self, node_id: str, slot: Any) -> Any:
        node = self._prompt.get(node_id)
        inputs = inputs_of(node)
        name = class_of(node)
        if name == FETCH:
            return inputs.get("final_image")
        if name not in (SIMPLE, CHAIN_END) or slot not in (0, 1):
            return _HERE
        if name == SIMPLE:
            sent, batch = node_id == self._queue, "batch_local"
        else:
            start = self._start(node_id)
            # A saved prompt has one chain, whatever its ids are.
            sent, batch = self._queue is None or start == self._start(self._queue), "batch"
            inputs = inputs_of(self._prompt.get(start))
        if sent:
            return self._gives[int(slot)]
        return inputs.get(batch, 1) if slot else inputs.get("seed", 0)

    def _start(self, node_id: str) -> str:
        passed: dict[str, None] = {}
        while node_id not in self._starts and node_id not in passed:
            passed[node_id] = None
            node_id = _linked(self._prompt.get(node_id), "remote_chain") or node_id
        start = self._starts.get(node_id, node_id)
        self._starts |= dict.fromkeys(passed, start)
        return start


def _linked(node: Any, name: str) -> str | None:
    """The node that an input is linked to."""
    value: Any = inputs_of(node).get(name)
    return str(value[0]) if is_link(value) else None


def _image(prompt: Mapping[str, Any], fetch: str, aliases: _Aliases) -> Link:
    found: Any = None
    if class_of(prompt.get(fetch)) == FETCH:
        found = inputs_of(prompt[fetch]).get("final_image")
    else:
        for classes, name in (({FETCH}, "final_image"), (_SHOWING, "images")):
            nodes = [node_id for node_id, node in prompt.items() if class_of(node) in classes]
            if nodes:
                found = inputs_of(prompt[max(nodes, key=natural)]).get(name)
                break
    image = aliases.behind(found)
    if not is_link(image):
        raise NothingToFetch(
            f"Nothing in the workflow that is sent makes images for node {fetch} ({FETCH}): link its final_image; "
            "a saved workflow needs such a node too, or a Save Image."
        )
    return [image[0], image[1]]


def _without_followers(prompt: Mapping[str, Any], outputs: Iterable[str]) -> list[str]:
    """The outputs, but for those that need what a FetchRemote gives."""
    outputs = list(outputs)
    if not outputs:
        return []
    consumers: defaultdict[str, list[str]] = defaultdict(list)
    for node_id, node in prompt.items():
        for value in inputs_of(node).values():
            if isinstance(value, list) and is_link(value):
                consumers[value[0]].append(node_id)
    after = dict.fromkeys(node_id for node_id, node in prompt.items() if class_of(node) == FETCH)
    waiting = list(after)
    for node_id in waiting:
        new = [each for each in consumers[node_id] if each not in after]
        after |= dict.fromkeys(new)
        waiting += new
    return [node_id for node_id in outputs if node_id not in after]


def _marked(rewritten: Rewritten, marker: Callable[[str, Link], Node]) -> tuple[Prompt, dict[str, str]]:
    prompt = dict(rewritten.prompt)
    ids = {}
    for fetch, image in rewritten.images.items():
        node_id = fetch
        while node_id in prompt:
            node_id += "_"
        prompt[node_id] = marker(fetch, image)
        ids[fetch] = node_id
    return prompt, ids
