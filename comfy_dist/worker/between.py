"""What nodes of different workers say to each other through these: relayed questions, and what is broadcast."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from comfy_dist.calls.errors import LinkRefused
from comfy_dist.errors import ComfyDistError
from comfy_dist.messages import Command, Job
from comfy_dist.transport import Transport
from comfy_dist.worker.attempt_calls import AttemptCalls
from comfy_dist.worker.channels import Channels
from comfy_dist.worker.link import LinkServer

#: Seconds for a question that is passed on to another worker's engine.
RELAY_SECONDS = 20.0
#: Seconds that another worker is asked at a time for what is to be broadcast there.
LISTEN_SECONDS = 20.0


class Between:
    """One for all lanes of a worker."""

    def __init__(self, worker: str, transport: Transport, links: LinkServer) -> None:
        """`worker`: the id of this one."""
        self._worker = worker
        self._transport = transport
        self._links = links
        #: By the jobs of clients that this worker executes.
        self._channels: dict[str, Channels] = {}

    def begin(self, job: Job) -> None:
        """What is broadcast in a client's job and in all its calls meets where the job is executed."""
        if job.call is None:
            self._channels[job.id] = Channels(job)

    def expect(self, call: Job) -> None:
        """A call that is sent may broadcast."""
        if call.call is None or not call.call.plan:
            # Of a region: a part of what is expected already.
            return
        if (channels := self._channels.get(call.call.root)) is not None:
            channels.expect(call)

    def end(self, job: Job) -> None:
        if (channels := self._channels.pop(job.id, None)) is not None:
            channels.close()

    # What nodes of this worker ask

    async def relay(self, via: str, body: Any) -> Any:
        """What the process behind `via` (worker/lane) answers. Raises LinkRefused, LinkLost."""
        worker, _slash, lane = via.rpartition("/")
        if worker == self._worker:
            return await self._links.ask(int(lane), body, RELAY_SECONDS)
        command = Command(verb="plane", worker=worker, arguments={"lane": int(lane), "body": body})
        return _result(await self._transport.ask(command, RELAY_SECONDS), worker)

    async def publish(self, calls: AttemptCalls, arguments: dict[str, Any]) -> None:
        await self._at_home(calls, "publish", arguments)

    async def listen(self, calls: AttemptCalls, arguments: dict[str, Any]) -> dict[str, Any]:
        """{"value"}, as soon as it is broadcast. Raises LinkRefused."""
        call = calls.job.call
        within = call.node if call is not None and call.parent == call.root else ""
        while not calls.over.is_set():
            if answer := await self._at_home(calls, "listen", {**arguments, "within": within}):
                return dict(answer)
        raise LinkRefused("The job was over before anything was broadcast.")

    async def _at_home(self, calls: AttemptCalls, verb: Any, arguments: dict[str, Any]) -> Any:
        """Ask the worker that executes the client's job."""
        call = calls.job.call
        root, home = (call.root, call.home) if call is not None else (calls.job.id, self._worker)
        command = Command(verb=verb, worker=home, arguments={**arguments, "root": root})
        if home == self._worker:
            answer = await self.answer(command)
            if "refused" in answer:
                raise LinkRefused(answer["refused"])
            return answer.get("answer")
        return _result(await self._transport.ask(command, LISTEN_SECONDS + RELAY_SECONDS), home)

    # What others ask this worker

    async def answer(self, command: Command) -> dict[str, Any]:
        """{"answer"} or {"refused": sentence}."""
        arguments = command.arguments
        try:
            match command.verb:
                case "plane":
                    body = arguments["body"]
                    return {"answer": await self._links.ask(int(arguments["lane"]), body, RELAY_SECONDS)}
                case "publish":
                    self._channels_of(arguments["root"]).publish(str(arguments["channel"]), arguments["value"])
                    return {"answer": None}
                case _:
                    channels = self._channels_of(arguments["root"])
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LISTEN_SECONDS):
                            channel, within = str(arguments["channel"]), str(arguments.get("within", ""))
                            return {"answer": {"value": await channels.listen(channel, within)}}
                    return {"answer": {}}
        except ComfyDistError as error:
            return {"refused": str(error)}

    def _channels_of(self, root: str) -> Channels:
        if (channels := self._channels.get(root)) is None:
            raise LinkRefused("The job that this belongs to does not run any more.")
        return channels


def _result(reply: Any, worker: str) -> Any:
    """What another worker answered. Raises LinkRefused where it did not, or refused."""
    if reply is None:
        raise LinkRefused(f"Worker {worker} does not answer.")
    for key in ("refused", "error"):
        if key in reply.result:
            raise LinkRefused(str(reply.result[key]))
    return reply.result.get("answer")
