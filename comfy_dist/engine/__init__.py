"""What executes a prompt. The worker knows only this protocol."""

from comfy_dist.engine.protocol import (
    Emit,
    Engine,
    EngineDied,
    EngineEvent,
    Errored,
    Executed,
    Interrupted,
    NodeText,
    Outcome,
    Preview,
)

__all__ = [
    "Emit",
    "Engine",
    "EngineDied",
    "EngineEvent",
    "Errored",
    "Executed",
    "Interrupted",
    "NodeText",
    "Outcome",
    "Preview",
]
