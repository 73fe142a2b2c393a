"""REMINFO: what queue nodes tell FetchRemotes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

#: The value of `outputs` that keeps the other output nodes.
ANY_OUTPUT = "any"


class RemoteInfo(TypedDict):
    """What a queue node asks for. That of a node that is not enabled is empty."""

    remote_url: str
    #: Id of the queue node.
    node: str
    #: What it gives on its remote.
    seed: int
    batch: int
    outputs: str
    #: What is sent; None: the prompt that it is in.
    workflow: Mapping[str, Any] | None
