"""Our node pack inside a stock ComfyUI: the distributed nodes, and what workers need of it beyond its API.

It imports only what ComfyUI's own environment has. custom_nodes/comfy_dist_pack.py is what ComfyUI loads. What
another ComfyUI has not costs a line of its log, never its start.
"""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)

NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}


def add_nodes() -> None:
    """Fill the mappings, which ComfyUI reads when the pack is loaded."""
    try:
        from comfy_dist.nodes import families
        from comfy_dist.pack import places, precedence

        places.use_its_own()
        precedence.keep(families.NODE_CLASS_MAPPINGS, families.NODE_DISPLAY_NAME_MAPPINGS)
    except Exception as error:  # noqa: BLE001 - never ComfyUI's start
        _log.warning("comfy_dist's nodes are not there: %s: %s", type(error).__name__, error)
        return
    NODE_CLASS_MAPPINGS.update(families.NODE_CLASS_MAPPINGS)
    NODE_DISPLAY_NAME_MAPPINGS.update(families.NODE_DISPLAY_NAME_MAPPINGS)


def add_routes() -> None:
    """Serve the routes that ComfyUI lacks."""
    try:
        from comfy_dist.pack import routes

        routes.add()
    except Exception as error:  # noqa: BLE001 - never ComfyUI's start
        _log.warning("comfy_dist's routes are not served: %s: %s", type(error).__name__, error)
