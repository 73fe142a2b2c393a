"""What outputs are kept for prompts to come, as the settings say."""

from __future__ import annotations

from typing import Literal

from comfy_dist.messages import Message


class CacheMode(Message):
    """ComfyUI's default, or what its --cache-* flags choose."""

    #: classic: those of the last prompt; lru: of the last `limit` nodes; ram: while at least `limit` GB of main
    #: memory are available; none: nothing, and within a prompt only what is still needed.
    kind: Literal["classic", "lru", "ram", "none"] = "classic"
    limit: float | None = None
