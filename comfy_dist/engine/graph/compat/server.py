"""`server`: events to clients. Engine graph serves nothing by itself, so routes are collected and not served."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import web

from comfy_dist.engine.graph import running
from comfy_dist.engine.graph.compat import ask_in_vain

_log = logging.getLogger(__name__)


class BinaryEventTypes(enum.IntEnum):
    PREVIEW_IMAGE = 1
    UNENCODED_PREVIEW_IMAGE = 2
    TEXT = 3
    PREVIEW_IMAGE_WITH_METADATA = 4


class PromptServer:
    """What packs ask of ComfyUI's server, as far as there is one here."""

    instance: PromptServer

    def __init__(self) -> None:
        #: Packs add routes here; see `not_served`.
        self.routes = web.RouteTableDef()
        self.app = web.Application()
        self.supports = ["custom_nodes_from_web"]
        self.on_prompt_handlers: list[Callable[..., Any]] = []

    @property
    def client_id(self) -> str | None:
        """The client of the prompt that runs."""
        prompt = running.running_prompt()
        return None if prompt is None else prompt.extra_data.get("client_id")

    @property
    def last_prompt_id(self) -> str | None:
        prompt = running.running_prompt()
        return None if prompt is None else prompt.id

    @property
    def last_node_id(self) -> str | None:
        """The node that runs."""
        return running.latest_node()

    def send_sync(self, event: Any, data: Any, sid: str | None = None) -> None:
        """Send an event to the client of the prompt that runs; without one there is nobody to send to.

        Data of binary events, and what is no object, does not travel; previews are progress's.
        """
        prompt = running.running_prompt()
        if prompt is None or not isinstance(event, str) or not isinstance(data, dict):
            _log.debug("The event %s is not sent.", event)
            return
        prompt.send(event, data)

    def send_progress_text(self, text: str | bytes, node_id: str, sid: str | None = None) -> None:
        """Show a text below a node, to the client of the prompt that runs."""
        running.show_text(node_id, text.decode() if isinstance(text, bytes) else text)

    def add_on_prompt_handler(self, handler: Callable[..., Any]) -> None:
        """Collected, and not called: prompts are taken by frontends."""
        self.on_prompt_handlers.append(handler)

    def not_served(self) -> int:
        """How many routes and prompt handlers packs have added in vain."""
        return len(self.routes) + len(self.app.router.routes()) + len(self.on_prompt_handlers)

    def __getattr__(self, name: str) -> Any:
        return ask_in_vain(f"server.PromptServer.{name}")


PromptServer.instance = PromptServer()
