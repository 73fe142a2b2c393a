"""The layout of a region: what its Run node knows of it. Ids and structure only: the same for the same prompt."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from comfy_dist.calls.classes import Joining
from comfy_dist.calls.links import Link, key_of, link_of
from comfy_dist.errors import ComfyDistError

#: Chunks for each rank where a region may be cut finer than the world, unless its opening node says otherwise.
CHUNKS_PER_WORKER = 4


class UnreadableLayout(ComfyDistError):
    """What is no layout, or one of another version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """An opening node of a region."""

    class_type: str
    #: The Run node's input with what is shared out; "" where nothing is linked.
    input: str
    #: Its other inputs: constants (`index_offset`), …
    given: Mapping[str, Any] = field(default_factory=dict)
    #: … and those that are linked: their name -> the Run node's input.
    linked: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A region of a prompt. Ids are those of the prompt, or of the clones of the region around it."""

    #: Id of the Run node; the clones' ids begin with it.
    run: str
    #: The id under which clients see what the region's hidden nodes do: a closing node's, else an opening node's.
    shown: str
    #: Opening nodes. They share world and cuts. None where ClusterInfo alone opens it.
    openers: Mapping[str, Opener]
    #: Closing nodes, and how they put results together. None where the region goes to output nodes.
    closers: Mapping[str, Joining]
    #: Every node that is cloned: those between, output nodes inside, whole regions inside with their Run nodes.
    members: tuple[str, ...]
    #: Output nodes among the members that are executed for what they do. Of those that give nothing with class and
    #: constants: so these are in the Run node's cache key, though nothing can be linked to the node.
    outputs: Mapping[str, Mapping[str, Any]]
    #: Members that belong to a region inside and are of output classes: their clones are held (classes.HELD).
    held: tuple[str, ...] = ()
    #: ClusterInfo nodes whose clones tell the rank.
    infos: tuple[str, ...] = ()
    #: Nodes outside that come with the region, as what they give cannot travel, or perhaps not (`*`).
    carried: tuple[str, ...] = ()
    #: Links from outside, as "source:slot" -> the Run node's input with the value.
    links: Mapping[str, str] = field(default_factory=dict)
    #: Nodes that only hand something on (links.passed_on), and the "source:slot" they stand for.
    aliases: Mapping[str, str] = field(default_factory=dict)
    #: Exactly one chunk for each rank: something in the region looks at ranks.
    ranked: bool = False
    chunks_per_worker: int = CHUNKS_PER_WORKER
    #: Executed whole, once for each share (sharing_out.py): nothing is divided.
    shares: bool = False
    #: Members that give each share its own: seeds and values.
    differing: tuple[str, ...] = ()
    #: Of shares: by one worker alone, on a collector's word; and the Run node's inputs that may say so too.
    balanced: bool = False
    balancing: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises UnreadableLayout."""
        try:
            data = json.loads(text)
            data["openers"] = {node_id: Opener(**opener) for node_id, opener in data["openers"].items()}
            for name in ("members", "held", "infos", "carried", "differing", "balancing"):
                data[name] = tuple(data.get(name, ()))
            return cls(**data)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise UnreadableLayout(
                "The layout of a region cannot be read. Nodes of this class are made by workers; remove this one."
            ) from None

    def renamed(self, relink: Callable[[Link], Link], recarry: Callable[[Link], Link]) -> Self:
        """The layout of a clone of the region: what each link became, and what those of carried nodes did."""

        def renamed(node_id: str) -> str:
            return str(relink([node_id, 0])[0])

        return replace(
            self,
            run=renamed(self.run),
            openers={renamed(node_id): opener for node_id, opener in self.openers.items()},
            closers={renamed(node_id): joining for node_id, joining in self.closers.items()},
            members=tuple(map(renamed, self.members)),
            outputs={renamed(node_id): node for node_id, node in self.outputs.items()},
            held=tuple(map(renamed, self.held)),
            infos=tuple(map(renamed, self.infos)),
            carried=tuple(dict.fromkeys(str(recarry([node_id, 0])[0]) for node_id in self.carried)),
            aliases={},
            links={key_of(relink(link_of(key))): name for key, name in self.links.items()},
        )
