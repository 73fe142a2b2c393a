"""The progress of a prompt's nodes, and the events that tell of it."""

from __future__ import annotations

import io
import itertools
import json
import logging
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from comfy_dist.engine.graph.dynamic_prompt import DynamicPrompt

if TYPE_CHECKING:
    from PIL.Image import Image

    #: What a sampler hands to its progress bar: format, picture, longest side.
    Preview: TypeAlias = tuple[str, Image, int | None]

_log = logging.getLogger(__name__)

# ComfyUI's progress_state tells of all nodes so far, so its size grows with the graph, and a prompt's events with
# the square of that. Ours tells of these many at most.
#: Finished nodes, the latest, and the characters of their ids: those of nested expansions grow with each level.
FINISHED_SHOWN = 16
FINISHED_CHARACTERS = 4096
#: Running nodes beside the one that an event is about, those begun first: the nodes of the page are among them.
RUNNING_SHOWN = 64

SendEvent: TypeAlias = Callable[[str, dict[str, Any]], None]
SendPreview: TypeAlias = Callable[[str, bytes], None]
State: TypeAlias = dict[str, Any]


class NodeProgress:
    """Which nodes run and how far they are."""

    def __init__(
        self, prompt_id: str, prompt: DynamicPrompt, send_event: SendEvent, send_preview: SendPreview
    ) -> None:
        self._prompt_id = prompt_id
        self._prompt = prompt
        self._send_event = send_event
        self._send_preview = send_preview
        #: Both in the order they came to be so.
        self._running: dict[str, State] = {}
        self._finished: dict[str, State] = {}
        self._finished_characters = 0
        #: Hidden nodes that run and are not known to, in order.
        self._untold: dict[str, bool] = {}

    def start(self, node_id: str, *, hidden: bool = False) -> None:
        """Sends progress_state; of a `hidden` node it tells if it still runs when more is sent, or at `tell`."""
        state = self._run(node_id, 0.0, 1.0)
        if hidden:
            self._untold[node_id] = True
        else:
            self._send(node_id, state)

    def tell(self) -> None:
        """What has been held back."""
        # A node's own threads may report meanwhile.
        node_id = next(reversed(tuple(self._untold)), None)
        if node_id is not None and (state := self._running.get(node_id)) is not None:
            self._send(node_id, state)

    def update(self, node_id: str, value: float, maximum: float, preview: Preview | None = None) -> None:
        """A node is at `value` of `maximum`. Sends progress_state, the preview, and progress."""
        state = self._run(node_id, value, maximum)
        self._send(node_id, state)
        if preview is not None:
            try:
                encoded = encode_preview(preview, state)
            except Exception as error:  # noqa: BLE001 - a custom node's picture may be anything
                # Who looks on loses a picture; the node's work does not depend on it.
                _log.warning("The preview of node %s is left out, as it is no picture: %s", node_id, error)
            else:
                self._send_preview(state["display_node_id"], encoded)
        event = {"value": value, "max": maximum, "prompt_id": self._prompt_id, "node": node_id}
        self._send_event("progress", event)

    def finish(self, node_id: str) -> None:
        state = self._running.pop(node_id, None) or self._state(node_id, 1, 1)
        state["value"], state["state"] = state["max"], "finished"
        self._finished[node_id] = state
        self._finished_characters += len(node_id)
        while len(self._finished) > FINISHED_SHOWN or (
            len(self._finished) > 1 and self._finished_characters > FINISHED_CHARACTERS
        ):
            oldest = next(iter(self._finished))
            del self._finished[oldest]
            self._finished_characters -= len(oldest)
        if not self._untold.pop(node_id, False):
            self._send(node_id, state)

    def _run(self, node_id: str, value: float, maximum: float) -> State:
        state = self._running.get(node_id)
        if state is None:
            if self._finished.pop(node_id, None) is not None:
                self._finished_characters -= len(node_id)
            state = self._running[node_id] = self._state(node_id, value, maximum)
        else:
            state["value"], state["max"] = value, maximum
        return state

    def _state(self, node_id: str, value: float, maximum: float) -> State:
        return {
            "value": value,
            "max": maximum,
            "state": "running",
            "node_id": node_id,
            "prompt_id": self._prompt_id,
            "display_node_id": self._prompt.get_display_node_id(node_id),
            "parent_node_id": self._prompt.get_parent_node_id(node_id),
            "real_node_id": self._prompt.get_real_node_id(node_id),
        }

    def _send(self, node_id: str, state: State) -> None:
        self._untold.clear()
        running: Mapping[str, State] = self._running
        if len(running) > RUNNING_SHOWN:
            running = dict(itertools.islice(running.items(), RUNNING_SHOWN))
        nodes = {**self._finished, **running, node_id: state}
        self._send_event("progress_state", {"prompt_id": self._prompt_id, "nodes": nodes})


def encode_preview(preview: Preview, state: State) -> bytes:
    """ComfyUI's binary event 4 without its type: u32 length, JSON metadata, JPEG or PNG."""
    from PIL import Image, ImageOps

    kind, picture, longest = preview
    if longest is not None:
        picture = ImageOps.contain(picture, (longest, longest), Image.Resampling.BILINEAR)
    encoded = io.BytesIO()
    if kind == "JPEG" and picture.mode not in ("RGB", "L"):
        picture = picture.convert("RGB")
    picture.save(encoded, format=kind, quality=95, compress_level=1)
    metadata = {
        "node_id": state["node_id"],
        "prompt_id": state["prompt_id"],
        "display_node_id": state["display_node_id"],
        "parent_node_id": state["parent_node_id"],
        "real_node_id": state["real_node_id"],
        "image_type": "image/png" if kind == "PNG" else "image/jpeg",
    }
    head = json.dumps(metadata).encode()
    return struct.pack(">I", len(head)) + head + encoded.getvalue()
