"""The calls that the nodes of one attempt have sent, and what became of them."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from comfy_dist.calls.clones import chunk_prefix
from comfy_dist.engine import EngineEvent, NodeText, Preview
from comfy_dist.messages import Call, CallEnded, Job, Progress, Span, SpanKind, now_ms, spans_of
from comfy_dist.messages.trace import MOST_SPANS
from comfy_dist.worker.progress import PREVIEW_WITH_METADATA, ProgressSender
from comfy_dist.worker.shown_before import Entries

log = logging.getLogger(__name__)

#: Of a call's events, those that only its own client would understand.
_ITS_OWN = frozenset({"executing", "execution_success", "execution_error"})
#: Seconds after which what ranks are at is told, together with what follows it at once. What has changed when the
#: job ends is not told any more.
TELL_SECONDS = 0.1
#: Of the data of a rank's execution_error, what is told of the parent's.
_OF_A_RANK = ("node_id", "node_type", "traceback", "current_inputs")
#: Of a preview's metadata, what names its node.
_PREVIEWED = ("node_id", "display_node_id", "parent_node_id", "real_node_id")
_LENGTH = struct.Struct(">I")


@dataclass(slots=True)
class SentCall:
    """One call, as the worker of its parent knows it."""

    job: Job
    sent_at: int
    #: waiting, running, done, failed
    state: str = "waiting"
    #: Id of the worker that executes it, and its name.
    holder: str = ""
    worker: str = ""
    attempt: int = 0
    claimed_at: int = 0
    #: Whether it was not seen alive when it was last looked for.
    missed: bool = False
    #: Attempts up to this one are known to be gone.
    gone: int = 0
    #: By attempt: one that was taken for gone may end after all, before or after the next.
    ends: dict[int, CallEnded] = field(default_factory=dict)
    #: Of a region that saves: the attempt that counts, and which of its chunks do.
    counted: tuple[int, frozenset[int]] | None = None
    node: str | None = None
    value: float = 0
    max: float = 1
    #: Set by its first end.
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ended(self) -> CallEnded | None:
        """The end that counts, of several the latest attempt's."""
        return self.ends[max(self.ends)] if self.ends else None

    @property
    def shown(self) -> Entries:
        """What its output nodes showed, but for chunks that were done again by others."""
        if self.counted is None:
            return ({}, {}) if (ended := self.ended) is None else (ended.outputs, ended.meta)
        attempt, chunks = self.counted
        if (ended := self.ends.get(attempt)) is None:
            return {}, {}
        prefixes = tuple(chunk_prefix(_about(self).region, chunk) for chunk in chunks)
        outputs = {each: entry for each, entry in ended.outputs.items() if each.startswith(prefixes)}
        return outputs, {each: ended.meta[each] for each in outputs if each in ended.meta}


class AttemptCalls:
    """Kept from the beginning of an attempt to its end."""

    def __init__(self, lane: int, job: Job, number: int, progress: ProgressSender) -> None:
        self.lane = lane
        self.job = job
        self.number = number
        self.calls: dict[str, SentCall] = {}
        #: Set when the attempt is over: what its nodes wait for comes no more.
        self.over = asyncio.Event()
        #: Where the job is a call itself: whether the worker that waits for it was not seen alive the last time.
        self.parent_missed = False
        self._progress = progress
        #: By region's node: how many items are done, of how many.
        self._counts: dict[str, tuple[int, int]] = {}
        #: Of which calls and regions there is something to be told soon. As an ordered set.
        self._news: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._spans: list[Any] = []

    def add(self, call: Job) -> None:
        self.calls[call.id] = SentCall(call, now_ms())
        self._tell_soon(call.id)

    def started(self, call_id: str, holder: str, worker: str, attempt: int) -> dict[str, Any] | None:
        """A worker executes it: what to tell its node; None: nothing new."""
        call = self.calls[call_id]
        if attempt <= call.attempt:
            return None
        call.holder, call.worker, call.attempt, call.missed = holder, worker, attempt, False
        call.claimed_at, call.state = now_ms(), "running"
        self._tell_soon(call_id)
        return _push(call, "started")

    def gone(self, call_id: str, attempt: int | None = None) -> dict[str, Any] | None:
        """Whoever executed it, as that attempt or the last, is gone; None: that is known, or another has it."""
        call = self.calls[call_id]
        if call.state != "running" or call.gone >= call.attempt or (attempt or call.attempt) < call.attempt:
            return None
        call.gone, call.state = call.attempt, "waiting"
        self._tell_soon(call_id)
        return _push(call, "gone")

    def end(self, ended: CallEnded) -> dict[str, Any] | None:
        """An attempt at a call has ended: what to tell its node; None: that is known."""
        call = self.calls[ended.call]
        if ended.attempt in call.ends:
            return None
        call.ends[ended.attempt] = ended
        call.settled.set()
        if ended.attempt >= call.attempt:
            call.attempt, call.worker = ended.attempt, ended.worker or call.worker
            call.state = "done" if ended.status == "finished" else "failed"
            for message in ended.trail:
                self._forward(call, message.event, message.body)
            self._tell_soon(ended.call)
        told = {"status": ended.status, "outputs": ended.outputs, "error": ended.error}
        about = {"attempt": ended.attempt, "worker": ended.worker or call.worker}
        return _push(call, "ended") | about | told

    async def waited_for(self, call_id: str) -> None:
        """Until nobody waits for that call any more: the attempt is over, or has given it up."""
        settled = self.calls[call_id].settled
        ways = [asyncio.create_task(event.wait()) for event in (self.over, settled)]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()

    def count(self, call_id: str, attempt: int, chunks: Iterable[int]) -> None:
        """Of what a call showed, that of these chunks counts."""
        self.calls[call_id].counted = attempt, frozenset(chunks)

    @property
    def shown(self) -> list[Entries]:
        """What calls showed, in the order of ranks."""
        return [call.shown for call in self._in_order() if call.ends]

    @property
    def ended(self) -> list[CallEnded]:
        """Those that ended, in the order of ranks."""
        return [call.ended for call in self._in_order() if call.ended is not None]

    def _in_order(self) -> list[SentCall]:
        return sorted(self.calls.values(), key=lambda call: _about(call).rank)

    def blamed(self, error: dict[str, Any]) -> dict[str, Any]:
        """The data of execution_error; where a rank's failure is told, at its node, with what it was doing."""
        if not str(error.get("exception_type", "")).endswith(".RankFailed"):
            return error
        for call in self.ended:
            why = str(call.error.get("exception_message", "")).strip()
            if call.status == "failed" and why in error["exception_message"]:
                return error | {key: call.error[key] for key in _OF_A_RANK if key in call.error}
        return error

    # What its client sees

    def on_progress(self, message: Progress) -> None:
        """Of a call, sent on under the prompt that its parent is. What makes no sense is passed over."""
        call = self.calls[message.job_id]
        if not message.binary:
            self._forward(call, message.event, message.body)
            return
        try:
            if message.event == "preview":
                node, body = self._named_anew(call, str(message.node), message.body)
                self._progress.emit(Preview(node, body), of_call=True)
            elif message.event == "text" and _about(call).region:
                (length,) = _LENGTH.unpack_from(message.body, _LENGTH.size)
                text = message.body[2 * _LENGTH.size + length :].decode("utf-8", "replace")
                self._progress.emit(NodeText(str(message.node), text), of_call=True)
        except (ValueError, TypeError, struct.error) as error:
            log.warning("Progress of the call %s is not understood: %s", call.job.id, error)

    def _forward(self, call: SentCall, event: str, body: bytes | str) -> None:
        try:
            frame = json.loads(body)
        except (ValueError, RecursionError) as error:
            log.warning("Progress of the call %s is not understood: %s", call.job.id, error)
            return
        data = frame.get("data") if isinstance(frame, dict) else None
        if not isinstance(data, dict):
            return
        data = {**data, "prompt_id": self.job.id}
        if event == "executing":
            call.node, call.value, call.max = data.get("display_node") or data.get("node"), 0, 1
            self._tell_soon(call.job.id)
        elif event == "progress":
            call.node = data.get("display_node") or data.get("node")
            call.value, call.max = data.get("value", 0), data.get("max", 1)
            self._tell_soon(call.job.id)
        if not _about(call).region:
            # Its nodes are of another workflow: what its client knows of that is the node that called it.
            if event == "progress":
                node = _about(call).node
                self._progress.emit(EngineEvent(event, {**data, "node": node, "display_node": node}), of_call=True)
            return
        if event not in _ITS_OWN:
            self._progress.emit(EngineEvent(event, data), of_call=True)

    def _named_anew(self, call: SentCall, node: str, body: bytes) -> tuple[str, bytes]:
        """The node that a preview is of, and the preview (u32 4, u32 length, JSON, picture) without its first
        number, both as of the parent's prompt."""
        start = len(PREVIEW_WITH_METADATA)
        (length,) = _LENGTH.unpack_from(body, start)
        picture = start + _LENGTH.size + length
        metadata = json.loads(body[start + _LENGTH.size : picture]) | {"prompt_id": self.job.id}
        if not _about(call).region:
            # Its nodes are of another workflow; the picture is of the node that called it.
            node = _about(call).node
            metadata |= {name: node for name in _PREVIEWED if name in metadata}
        head = json.dumps(metadata).encode()
        return node, _LENGTH.pack(len(head)) + head + body[picture:]

    def on_chunks(self, node: str, done: int, items: int) -> None:
        """So many items of a region's are done."""
        self._counts[node] = done, items
        if done == items:
            # What its ranks were at before that is no news any more.
            self._news = {
                each: None for each in self._news if each not in self.calls or not self._helps(each, node)
            }
            self._tell_count(node)
        else:
            self._tell_soon(node)

    def _helps(self, call_id: str, node: str) -> bool:
        return _about(self.calls[call_id]).node == node

    def close(self) -> None:
        """The attempt is over."""
        self.over.set()
        if self._timer is not None:
            self._timer.cancel()

    def _tell_soon(self, about: str) -> None:
        """`about`: a call, or the node of a region."""
        self._news[about] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        self._timer = None
        news, self._news = self._news, {}
        for about in news:
            if (call := self.calls.get(about)) is not None:
                self._tell_state(call)
            else:
                self._tell_count(about)

    def _tell_count(self, node: str) -> None:
        self._news.pop(node, None)
        done, items = self._counts[node]
        data = {"prompt_id": self.job.id, "region": node, "done": done, "items": items}
        self._progress.emit(EngineEvent("distributed_progress", data), of_call=True)

    def _tell_state(self, call: SentCall) -> None:
        about = _about(call)
        if not about.region:
            return
        data = {
            "prompt_id": self.job.id,
            "region": about.node,
            "rank": about.rank,
            "world": about.world,
            "call": call.job.id,
            "worker": call.worker,
            "state": call.state,
            "node": call.node,
            "value": call.value,
            "max": call.max,
        }
        self._progress.emit(EngineEvent("distributed_progress", data), of_call=True)

    # Its timeline

    def note(self, spans: Any) -> None:
        """What a node says of when it moved and executed what."""
        self._spans += spans_of(spans)
        if len(self._spans) > 2 * MOST_SPANS:
            self._spans = list(spans_of(self._spans))

    def spans(self) -> tuple[Span, ...]:
        spans = list(self._spans)
        for call in self.calls.values():
            about = _about(call)
            common: dict[str, Any] = {"worker": call.worker, "rank": about.rank, "node": about.node}
            ended = call.ended
            claimed = ended.started_at if ended is not None and ended.started_at else call.claimed_at
            if claimed:
                spans.append(
                    Span(kind=SpanKind.QUEUE, start=call.sent_at, stop=max(claimed, call.sent_at), **common)
                )
            if ended is not None:
                if about.session is None and claimed:
                    stop = max(ended.ended_at, claimed)
                    spans.append(Span(kind=SpanKind.EXECUTE, start=claimed, stop=stop, **common))
                told_by = {"rank": about.rank, "worker": call.worker}
                spans += [span.model_copy(update=told_by) for span in ended.spans]
        return spans_of(spans)


def _about(call: SentCall) -> Call:
    assert call.job.call is not None
    return call.job.call


def _push(call: SentCall, state: str) -> dict[str, Any]:
    return {
        "push": "call",
        "call": call.job.id,
        "state": state,
        "attempt": call.attempt,
        "worker": call.worker,
    }
