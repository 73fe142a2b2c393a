"""How far a prompt is, folded from the messages of ComfyUI's websocket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class PromptProgress:
    """Understands both the older messages (executing, progress) and the newer (progress_state)."""

    prompt: Mapping[str, Any]
    #: Node being executed, by the id it has in the prompt.
    node: str | None = None
    #: Of that node.
    value: float = 0.0
    max: float = 1.0
    started: bool = False
    _done: set[str] = field(default_factory=set)

    def hear(self, event: str, data: Mapping[str, Any]) -> None:
        self.started = True
        match event:
            case "execution_cached":
                self._done.update(map(str, data.get("nodes") or ()))
            case "executing":
                self._move_to(data.get("display_node") or data.get("node"))
            case "progress":
                if data.get("node") == self.node:
                    self._at(data)
            case "executed" if node := data.get("display_node") or data.get("node"):
                self._done.add(str(node))
            case "progress_state":
                for node in (data.get("nodes") or {}).values():
                    self._hear_node(node)
            case "execution_start":
                # Also a further attempt, after the first one's worker died.
                self._done.clear()
                self.node = None

    @property
    def total(self) -> int:
        return max(1, len(self.prompt))

    @property
    def completed(self) -> float:
        """In nodes, of `total`."""
        part = self.value / self.max if self.node is not None and self.node not in self._done and self.max else 0.0
        return min(float(self.total), len(self._done & self.prompt.keys()) + min(1.0, part))

    def _move_to(self, node: Any) -> None:
        if node == self.node:
            return
        if self.node is not None:
            self._done.add(self.node)
        self.node = None if node is None else str(node)
        self.value, self.max = 0.0, 1.0

    def _hear_node(self, node: Mapping[str, Any]) -> None:
        id_ = str(node.get("display_node_id") or node.get("node_id"))
        if node.get("state") == "finished":
            # A node that expanded is done when the nodes it became are; `executing` tells.
            if id_ == str(node.get("node_id")):
                self._done.add(id_)
        elif node.get("state") == "running":
            self.node = id_
            self._at(node)

    def _at(self, data: Mapping[str, Any]) -> None:
        self.value, self.max = float(data.get("value") or 0), float(data.get("max") or 1)
