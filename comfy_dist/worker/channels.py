"""What the nodes of one job, and of all its calls, broadcast to each other."""

from __future__ import annotations

import asyncio
from typing import Any

from comfy_dist.calls.errors import LinkRefused
from comfy_dist.calls.published import published
from comfy_dist.messages import Job


class Channels:
    """Kept by the worker that executes the job, as long as it does. The last value of a channel stands."""

    def __init__(self, job: Job) -> None:
        #: Channel -> nodes of the job that everything is broadcast after.
        self._expected = published(job.prompt, job.outputs_to_execute)
        self._values: dict[str, Any] = {}
        self._listeners: dict[str, list[asyncio.Future[Any]]] = {}
        self._closed = False

    def expect(self, call: Job) -> None:
        """A call of the job's tree: what its nodes broadcast may be waited for."""
        self._expected |= dict.fromkeys(published(call.prompt, call.outputs_to_execute), frozenset())

    def publish(self, channel: str, value: Any) -> None:
        """`value`: as the tensor plane packs it."""
        self._values[channel] = value
        for listener in self._listeners.pop(channel, ()):
            if not listener.done():
                listener.set_result(value)

    async def listen(self, channel: str, within: str = "") -> Any:
        """The value, as soon as there is one. `within`: the node of the job that waits for who listens. Raises
        LinkRefused where none can come."""
        if channel in self._values:
            return self._values[channel]
        if within in self._expected.get(channel, ()):
            raise LinkRefused(
                f"What is broadcast on the channel {channel!r} is made of what node {within} gives, which waits "
                "for this workflow. Broadcast something that is there before."
            )
        if channel not in self._expected:
            known = ", ".join(sorted({*self._expected, *self._values})) or "none"
            raise LinkRefused(
                f"Nothing in this job broadcasts on the channel {channel!r} (its channels: {known}); add a "
                "Cluster Broadcast Tensor, or name its channel. One whose output no node takes is not executed."
            )
        if self._closed:
            raise LinkRefused("The job that this belongs to does not run any more.")
        listener: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._listeners.setdefault(channel, []).append(listener)
        return await listener

    def close(self) -> None:
        self._closed = True
        for listener in [listener for listeners in self._listeners.values() for listener in listeners]:
            if not listener.done():
                listener.set_exception(LinkRefused("The job was over before anything was broadcast."))
        self._listeners.clear()
