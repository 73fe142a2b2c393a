"""io's extensions: how a pack of the newer schema hands in its nodes."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Callable
from typing import Any

from comfy_dist.engine.graph.schema.definition import SchemaError
from comfy_dist.engine.graph.schema.node import ComfyNode


class ComfyExtension(abc.ABC):
    """What a pack's `comfy_entrypoint` returns."""

    async def on_load(self) -> None:
        """Prepare what all nodes of the extension share."""
        return

    @abc.abstractmethod
    async def get_node_list(self) -> list[type[ComfyNode]]:
        """The pack's nodes."""


async def extension_nodes(entrypoint: Callable[[], Any]) -> list[type[ComfyNode]]:
    """The nodes behind a `comfy_entrypoint`, sync or async. Raises SchemaError, and whatever the pack raises."""
    extension = entrypoint()
    if inspect.isawaitable(extension):
        extension = await extension
    if not isinstance(extension, ComfyExtension):
        raise SchemaError(f"Its comfy_entrypoint returned {extension!r}; it must return a ComfyExtension.")
    await extension.on_load()
    nodes = await extension.get_node_list()
    if not isinstance(nodes, list):
        raise SchemaError(f"Its get_node_list returned {nodes!r}; it must return a list of node classes.")
    for node in nodes:
        if not isinstance(node, type) or not issubclass(node, ComfyNode):
            raise SchemaError(f"Its get_node_list lists {node!r}; its nodes must derive from io.ComfyNode.")
    return nodes
