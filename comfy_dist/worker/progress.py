"""What a running attempt sends to its client."""

from __future__ import annotations

import asyncio
import struct

from pydantic_core import to_json

from comfy_dist.engine import EngineEvent, Preview
from comfy_dist.messages import CurrentJob, Job, Progress, now_ms
from comfy_dist.transport import Transport

#: These end a prompt: a frontend sends them when the event log has the end, so that none is ever lost.
TERMINAL = frozenset({"execution_success", "execution_error", "execution_interrupted"})
#: What ComfyUI sends to everyone where a prompt names no client.
FOR_EVERYONE = frozenset({"progress_state"})
#: Messages sent as one at most.
BATCH = 32
#: ComfyUI's binary event: a preview with metadata.
PREVIEW_WITH_METADATA = struct.pack(">I", 4)


class ProgressSender:
    """Numbers, encodes and sends the engine's events of one attempt, in order."""

    def __init__(self, transport: Transport, job: Job, attempt: int) -> None:
        self.current = CurrentJob(id=job.id, attempt=attempt, started_at=now_ms())
        #: Sequence number of the last message.
        self.last = 0
        #: Set when a node begins or progresses; whoever watches clears it.
        self.changed = asyncio.Event()
        self._transport = transport
        self._job = job
        self._executing: Progress | None = None
        self._outgoing: asyncio.Queue[Progress | None] = asyncio.Queue()

    def emit(self, event: EngineEvent | Preview) -> None:
        """The engine's callback."""
        if isinstance(event, Preview):
            self._send("preview", event.node, PREVIEW_WITH_METADATA + event.body, binary=True)
            return
        if event.event in TERMINAL:
            return
        data = event.data
        node = data.get("display_node") or data.get("node")
        message = self._send(event.event, node, to_json({"type": event.event, "data": data}, inf_nan_mode="null"))
        if event.event == "executing":
            self._executing = message
            self._now(node=node, value=0, max=1)
        elif event.event == "progress":
            self._now(value=data.get("value", 0), max=data.get("max", 1))

    def _now(self, **changes: object) -> None:
        self.current = self.current.model_copy(update=changes)
        self.changed.set()

    def _send(self, event: str, node: object, body: bytes, *, binary: bool = False) -> Progress | None:
        if self._job.client_id is None and event not in FOR_EVERYONE:
            return None
        self.last += 1
        message = Progress(
            job_id=self._job.id,
            client_id=self._job.client_id,
            sequence=self.last,
            attempt=self.current.attempt,
            event=event,
            node=None if node is None else str(node),
            binary=binary,
            body=body,
        )
        self._outgoing.put_nowait(message)
        return message

    def replay(self) -> None:
        """Send the current node again, for a client that has just come back."""
        if self._executing is not None:
            self._outgoing.put_nowait(self._executing)

    async def run(self) -> None:
        """Send until finish()."""
        finished = False
        while not finished:
            batch = [await self._outgoing.get()]
            try:
                async with asyncio.timeout(self._transport.burst_seconds):
                    while batch[-1] is not None and len(batch) < BATCH:
                        batch.append(await self._outgoing.get())
            except TimeoutError:
                pass
            finished = batch[-1] is None
            if messages := [message for message in batch if message is not None]:
                await self._transport.emit(messages)

    def finish(self) -> None:
        """Let run() end when everything is sent."""
        self._outgoing.put_nowait(None)
