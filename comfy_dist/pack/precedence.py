"""Our nodes keep their names, whatever packs a ComfyUI loads: of two that name a class it takes the later."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from typing import Any

_log = logging.getLogger(__name__)


def keep(classes: Mapping[str, type], display_names: Mapping[str, str]) -> None:
    """Look when the server starts: all packs are loaded then. Raises where this ComfyUI has not what it takes."""
    nodes, server = (importlib.import_module(name) for name in ("nodes", "server"))
    # Those that were loaded before ours.
    replaced = others(classes, nodes.NODE_CLASS_MAPPINGS)

    async def at_start(_: Any) -> None:
        replaced.update(others(classes, nodes.NODE_CLASS_MAPPINGS))
        nodes.NODE_CLASS_MAPPINGS.update(classes)
        nodes.NODE_DISPLAY_NAME_MAPPINGS.update(display_names)
        if replaced:
            _log.warning(
                "comfy_dist's nodes take the place of %s from %s.",
                ", ".join(sorted(replaced)),
                ", ".join(sorted(set(replaced.values()))),
            )

    server.PromptServer.instance.app.on_startup.append(at_start)


def others(ours: Mapping[str, type], loaded: Mapping[str, Any]) -> dict[str, str]:
    """Nodes of our names that are not ours: the packs they are from."""
    return {
        name: str(getattr(loaded[name], "RELATIVE_PYTHON_MODULE", "another pack"))
        for name, cls in ours.items()
        if loaded.get(name, cls) is not cls
    }
