"""What executes a prompt. The worker knows only this protocol."""

from comfy_dist.engine.protocol import (
    NOT_OF_CALLS,
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
    "NOT_OF_CALLS",
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
