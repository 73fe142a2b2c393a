"""Prompt validation as a pure function of the prompt and the node definitions."""

from __future__ import annotations

from typing import Any

from comfy_dist.messages import Message


class Validation(Message):
    """The verdict on a prompt, in ComfyUI's shapes."""

    #: Whether at least one output node can be executed.
    valid: bool
    #: {type, message, details, extra_info} where it is not.
    error: dict[str, Any] | None = None
    #: The output nodes that can be executed.
    outputs: tuple[str, ...] = ()
    #: {node_id: {errors: [...], dependent_outputs: [...], class_type}}; may be non-empty where valid.
    node_errors: dict[str, Any] = {}
