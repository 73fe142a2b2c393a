"""Commands to workers: transient, expiring, answered."""

from __future__ import annotations

import uuid
from typing import Any, Literal, TypeAlias

from pydantic import Field

from comfy_dist.messages.base import Message

Verb: TypeAlias = Literal[
    "announce",
    "catalogue",
    "validate",
    "free",
    "replay",
    "interrupt",
    "restart_engine",
    "drain",
    "log",
    "grant",
    "read",
    "apart",
    "collected",
    "plane",
    "publish",
    "listen",
]


class Command(Message):
    """`verb` to one worker, or to all of them.

    announce: show yourself now · catalogue: answer with the Catalogue · validate {prompt, targets} and a job's
    {files, folders}: answer with the Validation · free {unload_models, free_memory}: at the next idle moment ·
    replay {job}: send the current node of that job to its client again · interrupt {by}: cancel what runs,
    answer with {jobs} · restart_engine: what runs waits again, answer with {jobs} · drain: finish, then leave ·
    log {lines}: answer with the last {lines} of the log.

    Of files, to whoever has them, frontends too: grant {type, name, folder}: answer with a Grant, or not at all ·
    read {token, offset}: answer with a Piece · apart: to a worker, a frontend does not share its folders ·
    collected {files: [[type, name], …]}: a frontend has these outputs now.

    For nodes, to the one worker that is meant: plane {lane, body}: ask the engine of that lane, answer with
    {answer} or {refused} · publish {root, channel, value}, listen {root, channel}: of what the nodes of a job
    broadcast, which is kept by the worker that executes it; listen waits for 20 s and answers with {} where
    nothing came.
    """

    id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    verb: Verb
    #: Worker id; None: every worker.
    worker: str | None = None
    arguments: dict[str, Any] = {}


class Reply(Message):
    """A worker's answer to a command."""

    command: str
    worker: str
    result: dict[str, Any] = {}
