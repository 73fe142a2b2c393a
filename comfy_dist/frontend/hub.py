"""Websocket clients of this frontend, and what they are sent."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import struct
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic_core import to_json

from comfy_dist.frontend.identity import Identity
from comfy_dist.frontend.together import together
from comfy_dist.ledger import JobRow
from comfy_dist.messages import Progress, now_ms
from comfy_dist.transport import Transport

log = logging.getLogger(__name__)

#: Of these a slow client is given only the newest; everything else it always gets.
REPLACEABLE = frozenset({"status", "progress", "progress_state", "preview", "distributed_progress"})
#: Messages that must wait before replaceable ones replace each other.
BACKLOG = 32
#: A client that lets this many messages wait is cut off; it reconnects and asks again.
MAX_BACKLOG = 20_000
#: Seconds the end of a prompt waits for progress that is still on its way.
LAST_PROGRESS_SECONDS = 1.0
#: Ended prompts whose late messages are recognised.
REMEMBERED = 1000
#: Prompts whose messages are followed.
MOST_PROMPTS = 20_000

_serial = itertools.count()


class Mailbox:
    """What waits to be sent to one socket, in order; bounded for a client that reads slowly or never."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[object, str | bytes] = OrderedDict()
        self._arrived = asyncio.Event()
        #: Set when too much waits; from then on nothing is added.
        self.overflowed = asyncio.Event()

    def put(self, body: str | bytes, replaces: object = None) -> None:
        """Append; under a backlog, in place of what waits under the same key."""
        if self.overflowed.is_set():
            return
        key: object = next(_serial)
        if replaces is not None:
            if len(self._waiting) >= BACKLOG:
                self._waiting.pop(replaces, None)
                key = replaces
        elif len(self._waiting) >= MAX_BACKLOG:
            self.overflowed.set()
            return
        self._waiting[key] = body
        self._arrived.set()

    def __len__(self) -> int:
        return len(self._waiting)

    async def filled(self) -> None:
        """Wait until something waits."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()

    def take(self) -> str | bytes:
        """What waits longest."""
        return self._waiting.popitem(last=False)[1]


@dataclass(eq=False, slots=True)
class Client:
    """One websocket."""

    id: str
    socket: web.WebSocketResponse
    #: Who connected. A client id is no secret: messages go to those alone who may see them.
    identity: Identity
    mailbox: Mailbox = field(default_factory=Mailbox)
    #: Milliseconds since the epoch.
    joined_at: int = field(default_factory=now_ms)
    #: Feature flags it declared in its first message.
    flags: dict[str, Any] = field(default_factory=dict)

    def send(self, event: str, data: Any, replaces: object = None) -> None:
        self.mailbox.put(encode(event, data), replaces)

    async def write(self) -> None:
        """Send what comes into the mailbox until the socket closes."""
        while not self.socket.closed:
            await self.mailbox.filled()
            try:
                with together(self.socket) if len(self.mailbox) > 1 else contextlib.nullcontext():
                    await self._empty()
            except (ConnectionError, RuntimeError):
                return

    async def _empty(self) -> None:
        while self.mailbox:
            body = self.mailbox.take()
            if isinstance(body, bytes):
                await self.socket.send_bytes(body)
            else:
                await self.socket.send_str(body)


def encode(event: str, data: Any) -> str:
    return to_json({"type": event, "data": data}, inf_nan_mode="null").decode()


def preview_for(client: Client, body: bytes) -> bytes:
    """The preview as the client understands it: ComfyUI's binary event 4, or 1 without metadata."""
    if client.flags.get("supports_preview_metadata"):
        return body
    (length,) = struct.unpack_from(">I", body, 4)
    metadata, image = body[8 : 8 + length], body[8 + length :]
    return struct.pack(">II", 1, 2 if b"image/png" in metadata else 1) + image


@dataclass(slots=True)
class _Running:
    """What this frontend has passed on of a prompt."""

    attempt: int = 0
    sequence: int = 0
    #: The last `executing` message's body.
    executing: str | None = None
    #: Nodes whose `executed` was passed on.
    executed: set[str] = field(default_factory=set)
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    #: Whether a worker has it in hand, as far as progress tells.
    begun: bool = False
    ended: bool = False


class Hub:
    """Brings messages to sockets: by client id, or to all."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._clients: defaultdict[str, set[Client]] = defaultdict(set)
        self._prompts: dict[str, _Running] = {}

    def __len__(self) -> int:
        return sum(len(clients) for clients in self._clients.values())

    def has(self, client_id: str | None) -> bool:
        return client_id is not None and client_id in self._clients

    async def join(self, socket: web.WebSocketResponse, client_id: str | None, identity: Identity) -> Client:
        """A new socket; several may bear one id (ComfyUI forgets the newer when the older closes)."""
        client = Client(client_id or uuid.uuid4().hex, socket, identity)
        self._clients[client.id].add(client)
        await self._transport.follow(client.id)
        return client

    async def leave(self, client: Client) -> None:
        clients = self._clients[client.id]
        clients.discard(client)
        if not clients:
            del self._clients[client.id]
            await self._transport.unfollow(client.id)

    def _of(self, client_id: str | None, owner: str | None) -> Iterable[Client]:
        """The sockets of that client id, or all, whose users may see what is the owner's."""
        ids = self._clients if client_id is None else (client_id,)
        clients = (client for id_ in ids for client in self._clients.get(id_, ()))
        return [client for client in clients if client.identity.sees(owner)]

    def broadcast(self, event: str, data: Any) -> None:
        """To every client; the newest of its kind is enough for a slow one."""
        body = encode(event, data)
        for clients in self._clients.values():
            for client in clients:
                client.mailbox.put(body, event if event in REPLACEABLE else None)

    def send(self, client_id: str | None, owner: str | None, event: str, data: Any) -> None:
        """To that client, or all; `owner` is whose job it is about."""
        body = encode(event, data)
        for client in self._of(client_id, owner):
            client.mailbox.put(body)

    def pass_on(self, progress: Progress) -> None:
        """Send a worker's message to its client, once and in order."""
        if progress.job_id not in self._prompts and len(self._prompts) >= MOST_PROMPTS:
            # Of prompts whose end never came here; a stranger may name as many as they like.
            del self._prompts[next(iter(self._prompts))]
        prompt = self._prompts.setdefault(progress.job_id, _Running())
        is_new = (progress.attempt, progress.sequence) > (prompt.attempt, prompt.sequence)
        # The node that is told again to who comes late may be overtaken by the node's progress.
        is_missing = (
            progress.event == "executing" and prompt.executing is None and progress.attempt == prompt.attempt
        )
        if prompt.ended or not (is_new or is_missing):
            return
        if is_new:
            prompt.attempt, prompt.sequence = progress.attempt, progress.sequence
        prompt.begun = True
        replaces = (progress.event, progress.job_id, progress.call) if progress.event in REPLACEABLE else None
        clients = self._of(progress.client_id, progress.user)
        if progress.binary:
            for client in clients:
                preview = progress.event == "preview"
                client.mailbox.put(preview_for(client, progress.body) if preview else progress.body, replaces)
        else:
            text = progress.body.decode()
            for client in clients:
                client.mailbox.put(text, replaces)
            if progress.event == "executing":
                prompt.executing = text
            elif progress.event == "executed" and progress.node is not None:
                prompt.executed.add(progress.node)
        prompt.moved.set()

    def current(self, job_id: str) -> str | None:
        """The last `executing` message of a running prompt, where this frontend has seen it."""
        prompt = self._prompts.get(job_id)
        return prompt.executing if prompt else None

    def has_begun(self, job_id: str) -> bool:
        """Whether its progress has come, perhaps before the news of its start."""
        prompt = self._prompts.get(job_id)
        return prompt is not None and prompt.begun

    def waits_again(self, job_id: str) -> None:
        """The attempt whose progress came is over, the prompt is not."""
        if (prompt := self._prompts.get(job_id)) is not None:
            prompt.begun = False

    def missed_the_start(self, row: JobRow) -> bool:
        """Whether the prompt's client came here after it was begun, perhaps before the news of that did."""
        return self.current(row.id) is None and any(
            client.joined_at >= row.created_at and client.identity.sees(row.user)
            for client in self._clients.get(row.client_id or "", ())
        )

    def has_passed_on(self, job_id: str, sequence: int) -> bool:
        """Whether the message with that number, and so those before it, have come."""
        prompt = self._prompts.get(job_id)
        return sequence <= (prompt.sequence if prompt else 0)

    async def last_progress(self, job_id: str, sequence: int) -> None:
        """Wait a moment for the message with that number: progress and end come by different ways."""
        prompt = self._prompts.setdefault(job_id, _Running())
        try:
            async with asyncio.timeout(LAST_PROGRESS_SECONDS):
                while prompt.sequence < sequence:
                    prompt.moved.clear()
                    await prompt.moved.wait()
        except TimeoutError:
            log.debug("Progress of prompt %s was lost before its end.", job_id)

    def executed(self, job_id: str) -> set[str]:
        """Display ids of the nodes whose `executed` was passed on."""
        prompt = self._prompts.get(job_id)
        return prompt.executed if prompt else set()

    def has_ended(self, job_id: str) -> bool:
        """Whether its end was passed on not long ago."""
        prompt = self._prompts.get(job_id)
        return prompt is not None and prompt.ended

    def end(self, job_id: str) -> None:
        """Nothing of this prompt is passed on any more; the newest ends are remembered for what comes late."""
        self._prompts[job_id] = _Running(ended=True)
        if len(self._prompts) > REMEMBERED:
            ended = [id_ for id_, prompt in self._prompts.items() if prompt.ended]
            for id_ in ended[: REMEMBERED // 2]:
                del self._prompts[id_]
