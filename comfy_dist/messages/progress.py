"""Transient progress: what a running prompt sends to its client's websocket."""

from __future__ import annotations

from comfy_dist.messages.base import Count, JobId, Message


class Progress(Message):
    """One websocket message, already encoded by the worker: a frontend only passes it on.

    `body` is the text frame's JSON ({"type", "data"}) or the binary frame (http-api: binary events).
    On the broker several travel as one message (transport/amqp/batches.py).
    """

    job_id: JobId
    #: Whose websocket; None: everyone's.
    client_id: str | None
    #: Whose job it is; nobody else's websocket is sent this, whatever its client id.
    user: str | None = None
    #: Counts from 1 within an attempt; order at the client.
    sequence: Count
    attempt: Count
    #: The event's name ("executing", "progress", ...; "preview" and "text" for binary ones).
    event: str
    #: Display id of the node it is about.
    node: str | None = None
    #: Of distributed_progress: the call that it is about.
    call: str | None = None
    binary: bool = False
    body: bytes
