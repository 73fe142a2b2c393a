"""Our node pack inside a stock ComfyUI: what workers need of it beyond its API.

It imports only what ComfyUI's own environment has. custom_nodes/comfy_dist_pack.py is what ComfyUI loads.
"""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)

NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}


def add_routes() -> None:
    """Serve the routes that ComfyUI lacks; what another ComfyUI has not costs a line of its log."""
    try:
        from comfy_dist.pack import routes

        routes.add()
    except Exception as error:  # noqa: BLE001 - never ComfyUI's start
        _log.warning("comfy_dist's routes are not served: %s: %s", type(error).__name__, error)
