"""Calls: jobs that a node of a running job sends to other workers."""

from __future__ import annotations

from typing import Any

from comfy_dist.messages.base import Count, JobId, Message, WorkerId


class Peer(Message):
    """Who answers questions inside an engine's process, and the right to ask it (tensors/plane.py)."""

    #: Of what answers there.
    id: str
    #: http://host:port; "" where none is served.
    address: str
    #: Worker id and lane, for the way through the broker.
    via: str
    token: str
    #: Seconds since the epoch.
    expires: float = 0


class Call(Message):
    """What makes a job a call: the job that waits for it, and what it is for."""

    #: The job whose node sent it, and the attempt of that job: another attempt sends calls of its own.
    parent: JobId
    attempt: Count
    #: The job of a client that it all belongs to; its attempt's worker keeps what is broadcast.
    root: JobId
    home: WorkerId
    #: Id of the worker that executes the parent: the end is told to it.
    worker: WorkerId
    #: Its number among the calls that were sent with it, and how many take part with the parent.
    rank: Count = 0
    world: Count = 1
    #: The node that sent it, as clients know it, and the region it helps with.
    node: str = ""
    region: str = ""
    #: Where it asks what to do; None: it executes its prompt as any job.
    session: Peer | None = None
    #: Whether nothing counts of it but what its session was given, which knows who executes it from whoever asks:
    #: it may begin before it is claimed.
    helper: bool = False
    #: What its session has for it to begin with (calls/asking.py HeadStart).
    head_start: dict[str, Any] | None = None
    #: Where its prompt has values from and hands others to (calls/handoff.py).
    handoff: Peer | None = None
    #: Whether the prompt may have regions of its own that are still to be found.
    plan: bool = False
