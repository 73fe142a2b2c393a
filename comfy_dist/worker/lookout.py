"""Whether those are still there who execute calls of this worker's jobs, or wait for calls that it executes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from comfy_dist.errors import BrokerUnavailable
from comfy_dist.messages import CallEnded, CancelledFact, now_ms
from comfy_dist.transport import Transport
from comfy_dist.worker.arbiter import Arbiter
from comfy_dist.worker.attempt_calls import AttemptCalls, SentCall

log = logging.getLogger(__name__)

#: Seconds between two looks at whoever executes a call, or waits for one; missed twice, it is gone.
LOOK_SECONDS = 2.5


class Lookout:
    """One for all lanes of a worker."""

    def __init__(
        self,
        worker: str,
        transport: Transport,
        arbiter: Arbiter,
        running: Mapping[int, AttemptCalls],
        push: Callable[[AttemptCalls, dict[str, Any] | None], None],
        call_timeout: float | None,
    ) -> None:
        """`worker`: the id of this one. `running`: what its lanes execute. `push` tells an attempt's nodes what
        has become of a call."""
        self._worker = worker
        self._transport = transport
        self._arbiter = arbiter
        self._running = running
        self._push = push
        self._call_timeout = call_timeout

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for calls in list(self._running.values()):
                try:
                    await self._holders(calls)
                    await self._parent(calls)
                except BrokerUnavailable as error:
                    log.debug("Nobody can be looked for: %s", error)

    async def _holders(self, calls: AttemptCalls) -> None:
        for call_id, call in list(calls.calls.items()):
            if call.state == "running" and self._is_overdue(call):
                await self._give_up(calls, call)
            if call.state != "running" or call.holder == self._worker:
                continue
            attempt = call.attempt
            if await self._transport.is_alive(call.holder) or call.attempt != attempt:
                call.missed = False
            elif not call.missed:
                call.missed = True
            else:
                self._push(calls, calls.gone(call_id))

    async def _parent(self, calls: AttemptCalls) -> None:
        """A call nobody waits for any more keeps a worker that is to do the parent's job again."""
        about = calls.job.call
        if about is None or about.worker == self._worker:
            return
        if await self._transport.is_alive(about.worker):
            calls.parent_missed = False
        elif not calls.parent_missed:
            calls.parent_missed = True
        else:
            self._arbiter.call_off(calls.job.id, "the end of the worker that waited for it")

    def _is_overdue(self, call: SentCall) -> bool:
        limit = self._call_timeout
        return limit is not None and now_ms() - call.claimed_at > limit * 1000

    async def _give_up(self, calls: AttemptCalls, call: SentCall) -> None:
        """Wait for it no longer, and stop whoever executes it."""
        error = {
            "node_id": call.node,
            "exception_message": f"It took longer than {self._call_timeout:g} s (--call-timeout).",
            "exception_type": "CallTimeout",
        }
        ended = CallEnded(
            call=call.job.id,
            parent=calls.job.id,
            parent_attempt=calls.number,
            status="failed",
            worker=call.worker,
            attempt=call.attempt,
            error=error,
        )
        self._push(calls, calls.end(ended))
        # Where this is not possible now, the end of the job that waits for it stops it.
        await self._transport.append_fact(CancelledFact(job=call.job.id, by="--call-timeout"))
