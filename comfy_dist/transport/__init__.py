"""How jobs, events, facts, progress, commands and presence travel."""

from comfy_dist.transport.dead import DeadLetter, HeldLetter, HeldLetters
from comfy_dist.transport.protocol import (
    Bookmark,
    Delivery,
    ReceivedCommand,
    Recorded,
    Rewind,
    Subscription,
    Taker,
    Transport,
)

__all__ = [
    "Bookmark",
    "DeadLetter",
    "Delivery",
    "HeldLetter",
    "HeldLetters",
    "ReceivedCommand",
    "Recorded",
    "Rewind",
    "Subscription",
    "Taker",
    "Transport",
]
