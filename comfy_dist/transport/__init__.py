"""How jobs, events, facts, progress, commands and presence travel."""

from comfy_dist.transport.protocol import (
    Bookmark,
    Delivery,
    ReceivedCommand,
    Recorded,
    Rewind,
    Taker,
    Transport,
)

__all__ = ["Bookmark", "Delivery", "ReceivedCommand", "Recorded", "Rewind", "Taker", "Transport"]
