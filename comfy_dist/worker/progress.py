"""What a running attempt sends to its client."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

from pydantic_core import to_json

from comfy_dist.engine import EngineEvent, NodeText, Preview
from comfy_dist.messages import Call, CurrentJob, Job, Progress, Trailing, now_ms
from comfy_dist.transport import Transport
from comfy_dist.worker.node_spans import NodeSpans

#: These end a prompt: a frontend sends them when the event log has the end, so that none is ever lost.
TERMINAL = frozenset({"execution_success", "execution_error", "execution_interrupted"})
#: What ComfyUI sends to everyone where a prompt names no client.
FOR_EVERYONE = frozenset({"progress_state"})
#: Messages sent as one at most.
BATCH = 32
#: The first messages wait so many bursts: a cached prompt has ended by then, and they travel with its end.
FIRST_BURST = 6
#: Seconds that the progress of a call is collected for, by its worker and by its parent's: it is shown in a bar.
CALL_BURST = 0.1
#: Bytes that may travel with the end of a job.
TRAIL_BYTES = 4096
#: ComfyUI's binary event: a preview with metadata.
PREVIEW_WITH_METADATA = struct.pack(">I", 4)


class ProgressSender:
    """Numbers, encodes and sends the engine's events of one attempt, in order."""

    def __init__(self, transport: Transport, job: Job, attempt: int, device: str = "") -> None:
        self.current = CurrentJob(
            id=job.id, attempt=attempt, started_at=now_ms(), device=device, **_of_call(job.call)
        )
        #: Sequence number of the last message.
        self.last = 0
        #: When which node was executed.
        self.nodes = NodeSpans(job.prompt)
        #: Set when a node begins or progresses; whoever watches clears it.
        self.changed = asyncio.Event()
        self._transport = transport
        self._job = job
        self._executing: Progress | None = None
        self._outgoing: list[Progress] = []
        #: For how long what is emitted waits for more; a short job ends in that time and sends nothing.
        self._burst = transport.burst_seconds if job.call is None else CALL_BURST
        self._moment = transport.burst_seconds * FIRST_BURST if job.call is None else CALL_BURST
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._sending: asyncio.Task[None] | None = None
        self._sent_at = 0.0

    def emit(self, event: EngineEvent | Preview | NodeText, *, of_call: bool = False) -> None:
        """The engine's callback. `of_call`: it is told of a call, and can wait for more of the kind."""
        burst = CALL_BURST if of_call else 0.0
        if isinstance(event, Preview):
            self._send("preview", event.node, PREVIEW_WITH_METADATA + event.body, burst, binary=True)
            return
        if isinstance(event, NodeText):
            self._send("text", event.node, text_frame(event), burst, binary=True)
            return
        data = event.data
        # What a blocker's message is told by ends nothing: the rest is executed all the same.
        if event.event in TERMINAL and data.get("exception_type") != "ExecutionBlocked":
            return
        node = data.get("display_node") or data.get("node")
        body = to_json({"type": event.event, "data": data}, inf_nan_mode="null")
        call = data.get("call") if event.event == "distributed_progress" else None
        message = self._send(event.event, node, body, burst, call=call)
        if event.event == "executing":
            self._executing = message
            self.nodes.executing(node, now_ms())
            self._now(node=node, value=0, max=1)
        elif event.event == "progress":
            self._now(value=data.get("value", 0), max=data.get("max", 1))

    def _now(self, **changes: object) -> None:
        self.current = self.current.model_copy(update=changes)
        self.changed.set()

    def _send(
        self,
        event: str,
        node: object,
        body: bytes,
        burst: float,
        *,
        binary: bool = False,
        call: str | None = None,
    ) -> Progress | None:
        if self._job.client_id is None and event not in FOR_EVERYONE:
            return None
        self.last += 1
        message = Progress(
            job_id=self._job.id,
            client_id=self._job.client_id,
            user=self._job.user,
            sequence=self.last,
            attempt=self.current.attempt,
            event=event,
            node=None if node is None else str(node),
            call=call,
            binary=binary,
            body=body,
        )
        self._outgoing.append(message)
        self._send_soon(burst)
        return message

    def replay(self) -> None:
        """Send the current node again, for a client that has just come back."""
        if self._executing is not None:
            self._outgoing.append(self._executing)
            self._send_soon()

    def take_trail(self) -> tuple[Trailing, ...]:
        """The last messages, not sent and no longer to be sent, where they can travel with the end of the job.

        A short job thus costs no message of its own for them.
        """
        waiting = self._outgoing
        together = sum(len(each.body) for each in waiting) <= TRAIL_BYTES
        in_order = [each.sequence for each in waiting] == list(range(self.last - len(waiting) + 1, self.last + 1))
        if not (together and in_order) or any(each.binary for each in waiting):
            return ()
        self._outgoing = []
        return tuple(Trailing(event=each.event, node=each.node, body=each.body.decode()) for each in waiting)

    def _send_soon(self, burst: float = 0.0) -> None:
        """Once the moment is over and, if it can wait so long, the burst; and not before what was sent last is a
        burst's time ago."""
        if self._sending is not None and not self._sending.done():
            return
        loop = asyncio.get_running_loop()
        due = max(loop.time() + max(self._moment, burst), self._sent_at + self._burst)
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        # Not asked of the timer: uvloop's for a moment that has come cannot tell.
        self._due = due
        self._timer = loop.call_at(due, self._begin_sending)

    def _begin_sending(self) -> None:
        self._timer = None
        self._moment = 0.0
        self._sending = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        while self._outgoing:
            batch, self._outgoing = self._outgoing[:BATCH], self._outgoing[BATCH:]
            await self._transport.emit(batch)
        self._sent_at = asyncio.get_running_loop().time()

    def finish(self) -> None:
        """Nothing more comes: what waits is sent now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._outgoing and (self._sending is None or self._sending.done()):
            self._begin_sending()

    async def sent(self) -> None:
        """After finish(): wait until everything is sent."""
        if self._sending is not None:
            await self._sending


def _of_call(call: Call | None) -> dict[str, Any]:
    if call is None:
        return {}
    return {
        "parent": call.parent,
        "root": call.root,
        "region": call.region,
        "rank": call.rank,
        "world": call.world,
    }


def text_frame(text: NodeText) -> bytes:
    """ComfyUI's binary event 3: u32 3, u32 length, the node's id, text."""
    node = text.node.encode()
    return struct.pack(">II", 3, len(node)) + node + text.text.encode()
